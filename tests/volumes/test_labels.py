"""Label statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import INVALID, LABELS, OUTSIDE, Volume, label_statistics, open_volume


def test_clefts_are_counted_and_measured():
    """Ids 5 (1 voxel), 6 (2 voxels) and 9 (5 voxels) of 40×4×4 = 640 nm³ each, 2 of background, 2 unlabelled."""
    ids = np.array([[[5, 6, 6, 9, 9, 0], [9, 9, 9, INVALID, OUTSIDE, 0]]], np.uint64)
    found = label_statistics(Volume(ids, (40, 4, 4)))
    assert dict(found.sizes_vox) == {5: 1, 6: 2, 9: 5}
    assert (found.clefts, found.cleft_voxels, found.background_voxels, found.unlabelled_voxels) == (3, 8, 2, 2)
    assert found.cleft_share == 8 / 10
    assert found.size_vox == (1, 2, 5)
    assert found.size_nm3 == (640, 1280, 3200)


def test_without_clefts_there_is_no_size_and_without_labels_no_share():
    empty = label_statistics(Volume(np.zeros((1, 2, 3), np.uint64), (40, 4, 4)))
    assert (empty.clefts, empty.cleft_share, empty.size_vox, empty.size_nm3) == (0, 0, None, None)
    assert label_statistics(Volume(np.full((1, 2, 3), INVALID, np.uint64))).cleft_share == 0


def test_without_voxel_size_there_are_no_nm3():
    assert label_statistics(Volume(np.ones((1, 2, 3), bool))).size_nm3 is None


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 20), st.integers(1, 10), st.integers(1, 10)), seed=st.integers(0, 99))
def test_counts_are_those_of_numpy(shape, seed):
    ids = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint64)
    values, counts = np.unique(ids[ids > 0], return_counts=True)
    assert label_statistics(Volume(ids)).sizes_vox == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_a_cleft_across_slabs_is_counted_once():
    """8×1024×1024 voxels fill one slab: a cleft on slices 6-9 lies in two."""
    ids = np.zeros((10, 1024, 1024), np.uint8)
    ids[6:10, 0, 0] = 3
    assert label_statistics(Volume(ids)).sizes_vox == {3: 4}


def test_probabilities_are_no_labels():
    with pytest.raises(InputError, match="expected label ids"):
        label_statistics(Volume(np.zeros((1, 2, 3), np.float32)))


def test_the_real_volume_holds_37_ids_on_0_59_percent_of_its_voxels(real_data):
    """36 synapses and one crumb of 12 voxels at the border (id 5); counted with numpy on the file itself."""
    labels = open_volume(real_data / "vnc-l3/vnc-l3.hdf", default=LABELS)
    found = label_statistics(labels.crop(Box((0, 0, 0), (20, 1024, 768))))
    assert (found.clefts, found.cleft_voxels, found.unlabelled_voxels) == (37, 92815, 0)
    assert (found.sizes_vox[5], found.sizes_vox[43]) == (12, 6593)
