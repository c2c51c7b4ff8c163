import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import Volume, place

SIZE_NM = (40.0, 4.0, 4.0)


def volume(shape, offset_nm=(0.0, 0.0, 0.0), voxel_size=SIZE_NM, address="array"):
    return Volume(np.zeros(shape, np.uint8), voxel_size, offset_nm, address)


def test_volumes_of_one_shape_and_offset_meet_everywhere():
    met = place(volume((4, 5, 6)), volume((4, 5, 6)))
    assert (str(met.truth_box), str(met.prediction_box), met.notes) == ("0:4,0:5,0:6", "0:4,0:5,0:6", ())


def test_labels_smaller_than_raw_are_placed_by_their_offset_as_in_padded_cremi_files():
    """Raw of 200×3072×3072 begins at 0; labels begin 37 sections and 911 pixels later: 37·40 = 1480 nm, 911·4 = 3644 nm."""
    raw = Volume(np.broadcast_to(np.uint8(0), (200, 3072, 3072)), SIZE_NM)
    labels = Volume(np.broadcast_to(np.uint64(0), (125, 1250, 1250)), SIZE_NM, (1480, 3644, 3644))
    met = place(raw, labels)
    assert str(met.prediction_box) == "37:162,911:2161,911:2161"
    assert (met.truth_box, met.notes) == (labels.box, ())


def test_a_prediction_of_a_part_is_placed_by_its_offset_and_noted():
    met = place(volume((4, 2, 6), offset_nm=(0, 12, 0)), volume((4, 5, 6)))
    assert (str(met.truth_box), str(met.prediction_box)) == ("0:4,3:5,0:6", "0:4,0:2,0:6")
    assert met.notes == ("the prediction covers only 0:4,3:5,0:6 of the truth's 0:4,0:5,0:6",)


def test_a_region_is_in_voxels_of_the_truth_whatever_part_the_prediction_covers():
    truth, roi = volume((4, 5, 6)), Box.parse("1:3,3:5,0:6")
    assert str(place(volume((4, 5, 6)), truth, roi).prediction_box) == "1:3,3:5,0:6"
    assert str(place(volume((4, 2, 6), offset_nm=(0, 12, 0)), truth, roi).prediction_box) == "1:3,0:2,0:6"


def test_offsets_need_not_be_zero_as_long_as_they_are_equal():
    met = place(volume((4, 5, 6), (80, 8, 8)), volume((4, 5, 6), (80, 8, 8)))
    assert met.truth_box == met.prediction_box == Box.of((4, 5, 6))


def test_different_shapes_without_an_offset_are_refused():
    with pytest.raises(InputError, match=r"p\.hdf is 4×5×6 .* t\.hdf 4×5×7 .*offset.*roi="):
        place(volume((4, 5, 6), address="p.hdf"), volume((4, 5, 7), address="t.hdf"))


def test_shapes_may_differ_where_a_region_is_given():
    assert str(place(volume((4, 5, 6)), volume((4, 5, 7)), Box.of((4, 5, 6))).truth_box) == "0:4,0:5,0:6"


@pytest.mark.parametrize(
    ("prediction", "truth", "roi", "message"),
    [
        pytest.param(
            volume((4, 5, 6), voxel_size=(50, 4.6, 4.6)), volume((4, 5, 6)), None, "voxel sizes differ", id="size"
        ),
        pytest.param(
            volume((4, 5, 6), (0, 1, 0)), volume((4, 5, 6)), None, "not a whole number of voxels", id="half voxel"
        ),
        pytest.param(volume((4, 5, 6), (160, 0, 0)), volume((4, 5, 6)), None, "do not overlap", id="apart"),
        pytest.param(volume((4, 5, 6)), volume((4, 5, 6)), Box.of((4, 5, 7)), "0:4,0:5,0:7 is not inside", id="region"),
        pytest.param(
            volume((4, 5, 6), voxel_size=None), volume((4, 5, 6), voxel_size=None), None, "voxel_size_nm=", id="no size"
        ),
    ],
)
def test_geometry_that_does_not_fit_is_an_error(prediction, truth, roi, message):
    with pytest.raises(InputError, match=message):
        place(prediction, truth, roi)


def test_voxel_sizes_may_differ_by_rounding_to_float32():
    assert place(
        volume((1, 1, 1), voxel_size=(50, float(np.float32(4.6)), 4.6)), volume((1, 1, 1), voxel_size=(50, 4.6, 4.6))
    )


@pytest.mark.parametrize("unknown", ["prediction", "truth"])
def test_a_volume_without_voxel_size_takes_that_of_the_other_and_it_is_noted(unknown):
    volumes = {
        name: volume((2, 2, 2), address=name, voxel_size=None if name == unknown else SIZE_NM)
        for name in ("prediction", "truth")
    }
    met = place(**volumes)
    assert met.voxel_size_nm == SIZE_NM
    assert met.notes[0].startswith(f"{unknown} carries no voxel size; taken to be 40×4×4 nm")
