"""Found clefts by size and by score, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cleftnet.metrics.breakdown import ScoreCurve, Sized, by_size


def test_size_classes_count_each_side_by_its_own_sizes():
    """A true cleft of 100 is found by a prediction of 5; another prediction of 5 is wrong."""
    found = by_size(
        Sized(np.array([5.0, 5.0]), np.array([True, False])), Sized(np.array([100.0]), np.array([True])), (10,)
    )
    assert [(c.true, c.found, c.predicted, c.right) for c in found] == [(0, 0, 2, 1), (1, 1, 0, 0)]
    assert [(c.recall, c.precision) for c in found] == [(None, 0.5), (1.0, None)]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_average_precision_is_scikit_learns_where_every_true_cleft_is_found(ranked):
    scores, right = np.array([s for s, _ in ranked]) / 5, np.array([r for _, r in ranked])
    if not right.any():
        return
    assert ScoreCurve.of(scores, right, right.sum()).average_precision == pytest.approx(
        average_precision_score(right, scores)
    )


def test_true_clefts_that_nothing_finds_bound_the_recall():
    curve = ScoreCurve.of(np.array([0.5]), np.array([True]), 4)
    assert (curve.recall.tolist(), curve.average_precision) == ([0.25], 0.25)


def test_without_predictions_the_curve_is_empty():
    curve = ScoreCurve.of(np.zeros(0), np.zeros(0, bool), 3)
    assert (len(curve.scores), curve.average_precision) == (0, 0.0)
