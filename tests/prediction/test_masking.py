import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.prediction.masking import PredictionMask
from cleftnet.volumes import Volume

RAW = Volume(np.zeros((4, 8, 8), np.uint8), (40, 4, 4), (400.0, 40.0, 80.0))


def test_a_mask_of_larger_voxels_is_looked_up_at_the_centers_of_raw_voxels():
    """Mask voxels of 80×16×16 nm from 400, 48, 80: its first row begins two raw voxels further in y than raw."""
    mask = PredictionMask(Volume(np.array([[[0, 1]], [[1, 0]]], np.uint8), (80, 16, 16), (400.0, 48.0, 80.0)), RAW)
    found = mask[RAW.box]
    expected = np.zeros((4, 8, 8), bool)
    expected[0:2, 2:6, 4:8] = True
    expected[2:4, 2:6, 0:4] = True
    assert (found == expected).all()
    part = Box((1, 1, 3), (3, 5, 8))
    assert (mask[part] == expected[part.slices]).all()


def test_outside_the_mask_no_prediction_is_wanted():
    far = Volume(np.ones((1, 1, 1), np.uint8), (40, 4, 4), (4000.0, 0.0, 0.0))
    assert not PredictionMask(far, RAW)[RAW.box].any()


def test_a_mask_without_voxel_size_must_have_the_shape_of_raw():
    voxels = np.random.default_rng(0).integers(0, 2, RAW.shape, np.uint8)
    assert (PredictionMask(Volume(voxels), RAW)[RAW.box] == (voxels == 1)).all()
    with pytest.raises(InputError, match="no voxel size, and shape"):
        PredictionMask(Volume(voxels[:2]), RAW)
