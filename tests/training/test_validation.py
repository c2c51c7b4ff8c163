import numpy as np
import pytest

from cleftnet.training.validation import Region, Scores, assess, validate
from cleftnet.volumes import INVALID, Volume


def all_equal(value):
    calibrated = {"threshold": 0.5, "calibration_error": 0, "uncalibrated_error": 0}
    return Scores(**{**dict.fromkeys(Scores.model_fields, value), **calibrated})


UNDEFINED = all_equal(None)


@pytest.mark.parametrize(("score", "better"), [("f1", True), ("auc", True), ("cremi_score", False)])
def test_a_higher_f1_and_a_lower_cremi_score_are_better(score, better):
    high, low = (all_equal(v) for v in (0.9, 0.1))
    assert high.better_than(low, score) is better
    assert low.better_than(high, score) is not better


def test_an_undefined_score_is_never_better_than_a_defined_one_and_later_ones_count_among_undefined():
    defined = all_equal(0.1)
    assert not UNDEFINED.better_than(defined, "cremi_score")
    assert UNDEFINED.better_than(UNDEFINED, "f1")  # without data to validate on, the last checkpoint is the best
    assert defined.better_than(UNDEFINED, "cremi_score")


def test_the_picture_shows_raw_truth_and_probability_of_the_section_with_most_cleft(model):
    """Section 5 of 8 holds the cleft; raw there is its number."""
    raw = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None], (8, 32, 32)).copy()
    labels = np.zeros((8, 32, 32), np.uint64)
    labels[5, 3, 4] = 1
    picture = validate(model.net, [Region(Volume(raw, (40, 4, 4)), Volume(labels, (40, 4, 4)))]).picture
    assert picture.shape == (32, 96)
    assert (picture[:, :32] == 5).all()
    assert np.argwhere(picture[:, 32:64]).tolist() == [[3, 4]]


def test_a_prediction_on_unlabeled_voxels_costs_nothing_in_any_score():
    """The cleft is predicted exactly, and so is a box that nobody labeled."""
    labels, logits = np.zeros((6, 32, 32), np.uint64), np.full((6, 32, 32), -5, np.float32)
    labels[2:4, 4:8, 4:8], labels[:, 20:, 20:] = 1, INVALID
    logits[labels > 0] = 5
    scores = assess(
        [logits], [Region(Volume(np.zeros(labels.shape, np.uint8), (40, 4, 4)), Volume(labels, (40, 4, 4)))]
    ).scores
    assert (scores.cremi_score, scores.f1, scores.auc) == (0, 1, 1)


def test_calibration_and_threshold_are_those_for_a_volume_with_more_background_than_the_labels():
    """One voxel in ten of the labels is cleft, one in a hundred of the volume; both have the same voxels of each class."""
    rng = np.random.default_rng(0)

    def region(positives, negatives):
        true = np.repeat([True, False], [positives, negatives])
        logits = rng.normal(np.where(true, 2.0, -2.0), 2.0).astype(np.float32)
        shape = (10, 100, -1)
        raw = Volume(np.zeros(true.size, np.uint8).reshape(shape), (40, 4, 4))
        return logits.reshape(shape), Region(raw, Volume(true.astype(np.uint64).reshape(shape), (40, 4, 4)))

    labels, volume = region(10_000, 90_000), region(10_000, 990_000)
    alone, weighted, whole = (
        assess([logits], [part], weight) for (logits, part), weight in ((labels, 1), (labels, 11), (volume, 1))
    )
    assert weighted.calibration.scale == pytest.approx(whole.calibration.scale, rel=0.03)
    assert weighted.calibration.shift == pytest.approx(whole.calibration.shift, rel=0.03)
    assert weighted.scores.threshold == pytest.approx(whole.scores.threshold, abs=0.05)
    assert weighted.scores.auc == pytest.approx(alone.scores.auc, abs=0.02)  # of uint8
    assert alone.calibration.shift < whole.calibration.shift - 2
