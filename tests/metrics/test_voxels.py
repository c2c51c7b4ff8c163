import functools
import operator

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score, roc_auc_score

from cleftnet.errors import InputError
from cleftnet.metrics.voxels import ScoreHistogram, VoxelCounts

FLOATS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0]) | st.floats(0, 1, width=32)


def drawn(dtype, elements):
    """A prediction, its truth and a validity mask, small and with many ties."""
    return st.integers(2, 60).flatmap(
        lambda n: st.tuples(
            hnp.arrays(dtype, n, elements=elements),
            hnp.arrays(np.bool_, n),
            hnp.arrays(np.bool_, n, elements=st.booleans()),
        )
    )


PREDICTIONS = drawn(np.uint8, st.integers(0, 255) | st.sampled_from([0, 128, 255])) | drawn(np.float32, FLOATS)


def test_precision_recall_and_f1_of_a_drawn_row():
    """Predicted 1 1 1 0 0, true 1 0 1 1 0: two hits, one false alarm, one miss, so 2/3 each, and one true negative."""
    counts = VoxelCounts.of(np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool))
    assert counts == VoxelCounts(2, 1, 1, 1)
    assert (counts.precision, counts.recall, counts.f1) == (2 / 3, 2 / 3, 2 / 3)


def test_voxels_that_are_not_valid_are_not_counted():
    counts = VoxelCounts.of(np.array([1, 1, 0], bool), np.array([1, 0, 1], bool), valid=np.array([1, 0, 0], bool))
    assert counts == VoxelCounts(1, 0, 0, 0)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        pytest.param(VoxelCounts(0, 0, 3, 5), None, 0.0, 0.0, id="nothing predicted"),
        pytest.param(VoxelCounts(0, 3, 0, 5), 0.0, None, 0.0, id="nothing true"),
        pytest.param(VoxelCounts(0, 0, 0, 5), None, None, None, id="neither"),
        pytest.param(VoxelCounts(), None, None, None, id="no voxel at all"),
    ],
)
def test_scores_that_would_divide_by_zero_are_none(counts, precision, recall, f1):
    assert (counts.precision, counts.recall, counts.f1) == (precision, recall, f1)


def test_auc_of_a_drawn_row_counts_ties_half():
    """Cleft voxels score 100 and 255, background 0 and 100. Of the four pairs three are won and one is tied: 3.5 / 4."""
    histogram = ScoreHistogram.of(np.array([0, 100, 100, 255], np.uint8), np.array([0, 0, 1, 1], bool))
    assert histogram.auc == 0.875


@pytest.mark.parametrize("true", [[True, True], [False, False]])
def test_auc_needs_cleft_and_background(true):
    assert ScoreHistogram.of(np.array([3, 200], np.uint8), np.array(true)).auc is None


@settings(max_examples=80, deadline=None)
@given(PREDICTIONS)
def test_auc_equals_scikit_learn(drawn):
    probability, true, valid = drawn
    assume(true[valid].any() and not true[valid].all())
    auc = ScoreHistogram.of(probability, true, valid).auc
    assert auc == pytest.approx(roc_auc_score(true[valid], probability[valid]), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(PREDICTIONS, st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 1.0]))
def test_scores_at_a_threshold_equal_scikit_learn(drawn, threshold):
    probability, true, valid = drawn
    assume(valid.any())
    counts = ScoreHistogram.of(probability, true, valid).counts(threshold)
    scale = 255 if probability.dtype == np.uint8 else 1
    predicted = (
        probability.astype(np.float64) / scale >= float(probability.dtype.type(threshold) if scale == 1 else threshold)
    )[valid]
    for ours, theirs in [(counts.precision, precision_score), (counts.recall, recall_score), (counts.f1, f1_score)]:
        expected = theirs(true[valid], predicted, zero_division=np.nan)
        assert ours == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-12))


@settings(max_examples=50, deadline=None)
@given(PREDICTIONS)
def test_precision_recall_curve_equals_scikit_learn(drawn):
    probability, true, valid = drawn
    assume(true[valid].any())
    curve = ScoreHistogram.of(probability, true, valid).curve()
    precision, recall, thresholds = precision_recall_curve(true[valid], probability[valid])
    scale = 255 if probability.dtype == np.uint8 else 1
    np.testing.assert_allclose(curve.threshold, thresholds / scale, rtol=1e-12)
    np.testing.assert_allclose(curve.precision, precision[:-1])
    np.testing.assert_allclose(curve.recall, recall[:-1])


@settings(max_examples=50, deadline=None)
@given(PREDICTIONS)
def test_no_threshold_beats_the_best_f1_and_the_best_attains_it(drawn):
    probability, true, valid = drawn
    assume(true[valid].any())
    histogram = ScoreHistogram.of(probability, true, valid)
    threshold, f1 = histogram.best_f1()
    assert histogram.counts(threshold).f1 == pytest.approx(f1)
    assert all(histogram.counts(float(t)).f1 <= f1 + 1e-12 for t in histogram.values)


@settings(max_examples=50, deadline=None)
@given(PREDICTIONS, st.integers(0, 60))
def test_histograms_of_two_parts_add_up_to_that_of_the_whole(drawn, cut):
    probability, true, valid = drawn
    whole = ScoreHistogram.of(probability, true, valid)
    parts = functools.reduce(
        operator.add,
        [ScoreHistogram.of(probability[s], true[s], valid[s]) for s in (slice(None, cut), slice(cut, None))],
    )
    np.testing.assert_array_equal(parts.values, whole.values)
    np.testing.assert_array_equal(parts.positives, whole.positives)
    np.testing.assert_array_equal(parts.negatives, whole.negatives)


def test_a_volume_of_many_slabs_is_counted_like_a_small_one(monkeypatch):
    monkeypatch.setattr("cleftnet.metrics.voxels.SLAB_VOX", 50)
    rng = np.random.default_rng(0)
    probability, true = rng.integers(0, 256, (7, 5, 6), np.uint8), rng.random((7, 5, 6)) < 0.3
    histogram = ScoreHistogram.of(probability, true)
    np.testing.assert_array_equal(histogram.positives, np.bincount(probability[true], minlength=256))
    assert histogram.positive + histogram.negative == probability.size


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_floats_outside_0_to_1_are_refused(value):
    with pytest.raises(InputError, match="expected 0 to 1"):
        ScoreHistogram.of(np.array([0.5, value], np.float32), np.array([True, False]))


def test_floats_outside_0_to_1_do_not_matter_where_the_truth_is_invalid():
    histogram = ScoreHistogram.of(np.array([0.5, np.nan], np.float32), np.array([True, False]), np.array([True, False]))
    assert (histogram.positive, histogram.negative) == (1, 0)


def test_integers_other_than_uint8_are_no_probability():
    with pytest.raises(InputError, match="uint16"):
        ScoreHistogram.of(np.array([5], np.uint16), np.array([True]))
