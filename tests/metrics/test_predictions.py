import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.metrics.predictions import PredictionKind, choose_threshold, kind_of, predicted_mask
from cleftnet.volumes import INVALID, Volume


def volume(dtype, threshold=None):
    return Volume(np.zeros((1, 1, 1), dtype), threshold=threshold)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        *((dtype, "probability") for dtype in ("uint8", "float16", "float32", "float64")),
        ("bool", "mask"),
        *((dtype, "labels") for dtype in ("uint16", "int32", "uint64")),
    ],
)
def test_the_type_tells_what_a_prediction_holds(dtype, kind):
    assert kind_of(volume(dtype)) == kind


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint8", "mask"), ("uint8", "labels"), ("uint16", "mask"), ("bool", "mask")]
)
def test_what_the_user_says_goes_first(dtype, kind):
    assert kind_of(volume(dtype), kind) == kind


@pytest.mark.parametrize(
    ("dtype", "kind", "message"),
    [
        ("uint16", "probability", "uint16; a probability is uint8"),
        ("float32", "labels", "float32; cleft ids are integers"),
        ("uint8", "masks", "did you mean 'mask'"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(dtype, kind, message):
    with pytest.raises(InputError, match=message):
        kind_of(volume(dtype), kind)


@pytest.mark.parametrize(
    ("stored", "given", "chosen"),
    [(None, None, 0.5), (0.7, None, 0.7), (0.7, 0.2, 0.2), (0.7, 0.0, 0.0), (0.0, None, 0.0)],
)
def test_the_threshold_is_the_given_one_else_the_stored_one_else_one_half(stored, given, chosen):
    assert choose_threshold(volume("uint8", stored), PredictionKind.PROBABILITY, given) == chosen


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 128.0, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(InputError, match="expected 0 to 1"):
        choose_threshold(volume("uint8"), PredictionKind.PROBABILITY, threshold)


def test_masks_and_labels_take_no_threshold():
    assert choose_threshold(volume("bool", 0.7), PredictionKind.MASK) is None
    with pytest.raises(InputError, match="takes no threshold"):
        choose_threshold(volume("uint64"), PredictionKind.LABELS, 0.5)


@pytest.mark.parametrize(
    ("threshold", "first"),
    [(0.0, 0), (1e-9, 1), (0.2, 51), (0.5, 128), (0.6, 153), (0.8, 204), (1.0, 255)],
)
def test_a_uint8_voxel_is_predicted_from_the_first_value_whose_255th_reaches_the_threshold(threshold, first):
    """51/255 = 0.2, 153/255 = 0.6, 204/255 = 0.8 exactly, so these values count; 127/255 = 0.498 is below 0.5, 128/255 not."""
    assert np.flatnonzero(predicted_mask(np.arange(256, dtype=np.uint8), threshold))[0] == first


def test_every_uint8_value_reaches_the_threshold_that_it_means():
    values = np.arange(256, dtype=np.uint8)
    assert [int(np.flatnonzero(predicted_mask(values, value / 255))[0]) for value in range(256)] == list(range(256))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_float_voxel_is_predicted_when_it_holds_the_threshold_itself(dtype):
    """0.7 in float32 is 0.69999999, yet a stored 0.7 means 0.7."""
    assert predicted_mask(np.array([0.69, 0.7, 0.71], dtype), 0.7).tolist() == [False, True, True]


def test_ids_and_masks_are_predicted_where_they_are_not_background():
    assert predicted_mask(np.array([0, 1, 2**40], np.uint64)).tolist() == [False, True, True]
    assert predicted_mask(np.array([0, INVALID], np.uint64)).tolist() == [False, False]
    assert predicted_mask(np.array([True, False])).tolist() == [True, False]
