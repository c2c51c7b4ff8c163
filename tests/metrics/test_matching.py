"""Pairs of clefts: against every assignment there is, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array

from cleftnet.errors import InputError
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.matching import MatchedPairs, pair_by_distance, pair_by_overlap


def drawn(row):
    return Instances.of_labels(np.array([[[int(c) for c in row]]]))


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_no_assignment_is_worth_more(worth):
    worth = np.array(worth)
    rows = range(len(worth))
    every = itertools.permutations([*range(3), *[None] * len(worth)], len(worth))
    best = max(sum(worth[r, c] for r, c in zip(rows, columns, strict=True) if c is not None) for columns in every)
    found = MatchedPairs.of(coo_array(worth))
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


def test_points_at_the_distance_match_and_beyond_it_do_not():
    assert len(pair_by_distance(np.array([[0.0, 0, 0]]), np.array([[0.0, 30, 40]]), 50).pairs) == 1
    assert len(pair_by_distance(np.array([[0.0, 0, 0]]), np.array([[0.0, 30, 40]]), 49.9).pairs) == 0


def test_points_at_one_place_match():
    assert len(pair_by_distance(np.array([[5.0, 6, 7]]), np.array([[5.0, 6, 7]]), 0).pairs) == 1


def test_a_negative_distance_is_refused():
    with pytest.raises(InputError, match="max_nm=-1 must be 0"):
        pair_by_distance(np.zeros((1, 3)), np.zeros((1, 3)), -1)
