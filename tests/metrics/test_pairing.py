"""Pairs of clefts: against every assignment there is, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from sklearn.metrics import average_precision_score

from cleftnet.errors import InputError
from cleftnet.metrics.objects import Instances, match
from cleftnet.metrics.pairing import Pairing, ScoreCurve, by_size, pair_by_distance, pair_by_overlap


def drawn(row):
    return Instances.of_labels(np.array([[[int(c) for c in row]]]))


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_no_assignment_is_worth_more(worth):
    worth = np.array(worth)
    rows = range(len(worth))
    every = itertools.permutations([*range(3), *[None] * len(worth)], len(worth))
    best = max(sum(worth[r, c] for r, c in zip(rows, columns, strict=True) if c is not None) for columns in every)
    found = Pairing.of(coo_array(worth))
    assert sum(worth[r, c] for r, c in found.pairs) == best
    assert found.predicted.sum() == found.true.sum() == len(found.pairs)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_by_distance_no_assignment_has_more_pairs_or_as_many_that_are_shorter(seed, predicted, true):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.integers(0, 9, (predicted, 3)) * 10.0, rng.integers(0, 9, (true, 3)) * 10.0
    apart = np.linalg.norm(ours[:, None] - theirs, axis=2)
    best = (0, 0.0)
    for columns in itertools.permutations([*range(true), *[None] * predicted], predicted):
        used = [apart[r, c] for r, c in enumerate(columns) if c is not None and apart[r, c] <= 40]
        best = min(best, (-len(used), sum(used)))
    found = pair_by_distance(ours, theirs, 40)
    assert (-len(found.pairs), sum(apart[r, c] for r, c in found.pairs)) == pytest.approx(best)


def test_a_cleft_in_three_pieces_is_two_splits():
    found = pair_by_overlap(drawn("10220330"), drawn("11111110"))
    assert (found.splits, found.merges, found.pairs.tolist()) == (2, 0, [[1, 0]])


def test_a_cleft_over_three_true_ones_is_two_merges():
    found = pair_by_overlap(drawn("11111110"), drawn("10220300"))
    assert (found.splits, found.merges, found.pairs.tolist()) == (0, 2, [[0, 1]])


def test_the_scores_are_those_of_match():
    predicted, true = drawn("1102203300440"), drawn("1111005500667")
    assert pair_by_overlap(predicted, true).scores == match(predicted, true)


def test_points_at_the_distance_match_and_beyond_it_do_not():
    assert len(pair_by_distance(np.array([[0.0, 0, 0]]), np.array([[0.0, 30, 40]]), 50).pairs) == 1
    assert len(pair_by_distance(np.array([[0.0, 0, 0]]), np.array([[0.0, 30, 40]]), 49.9).pairs) == 0


def test_points_at_one_place_match():
    assert len(pair_by_distance(np.array([[5.0, 6, 7]]), np.array([[5.0, 6, 7]]), 0).pairs) == 1


def test_a_negative_distance_is_refused():
    with pytest.raises(InputError, match="-1 nm"):
        pair_by_distance(np.zeros((1, 3)), np.zeros((1, 3)), -1)


def test_size_classes_count_each_side_by_its_own_sizes():
    """A true cleft of 100 is found by a prediction of 5; another prediction of 5 is wrong."""
    found = by_size(Pairing.of(coo_array(np.array([[1], [0]]))), np.array([5, 5]), np.array([100]), (10,))
    assert [(c.true, c.found, c.predicted, c.right) for c in found] == [(0, 0, 2, 1), (1, 1, 0, 0)]
    assert [(c.recall, c.precision) for c in found] == [(None, 0.5), (1.0, None)]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_average_precision_is_scikit_learns_where_every_true_cleft_is_found(ranked):
    scores, right = np.array([s for s, _ in ranked]) / 5, np.array([r for _, r in ranked])
    if not right.any():
        return
    pairing = Pairing(right, np.ones(right.sum(), bool), np.zeros((right.sum(), 2), int), 0, 0)
    assert ScoreCurve.of(scores, pairing).average_precision == pytest.approx(average_precision_score(right, scores))


def test_true_clefts_that_nothing_finds_bound_the_recall():
    curve = ScoreCurve.of(np.array([0.5]), Pairing.of(coo_array(np.array([[1, 0, 0, 0]]))))
    assert (curve.recall.tolist(), curve.average_precision) == ([0.25], 0.25)


def test_without_predictions_the_curve_is_empty():
    curve = ScoreCurve.of(np.zeros(0), Pairing.of(coo_array((0, 3))))
    assert (len(curve.scores), curve.average_precision) == (0, 0.0)
