"""Whole clefts: hand-drawn matches, every assignment, size classes, and scikit-learn's average precision."""

import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cleftnet.metrics.clefts import Instances, MatchedSizes, ObjectScores, ScoreCurve, SizeClass, by_size
from cleftnet.metrics.matching import pair_by_overlap
from cleftnet.volumes import INVALID, OUTSIDE, is_labelled


def row(*ids):
    return np.array([[ids]], np.uint64)


def match_clefts(predicted, true):
    valid = None if true.dtype == np.bool_ else is_labelled(true)
    return pair_by_overlap(Instances.of_labels(predicted, valid), Instances.of_labels(true)).scores


def scores(true, predicted, matched, splits=0, merges=0):
    return ObjectScores(true, predicted, matched, splits, merges)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        pytest.param(row(5, 5, 0, 6), row(1, 1, 0, 2), scores(2, 2, 2), id="the same clefts under other ids"),
        pytest.param(
            row(5, 5, 5, 6), row(1, 0, 2, 0), scores(2, 2, 1, merges=1), id="a merge matches once, a false cleft never"
        ),
        pytest.param(
            row(5, 0, 6, 0), row(1, 1, 1, 2), scores(2, 2, 1, splits=1), id="a split matches once, a missed cleft never"
        ),
        pytest.param(
            row(5, 6, 5, 5),
            row(1, 1, 2, 2),
            scores(2, 2, 2, 1, 1),
            id="each cleft takes the partner that is best for all",
        ),
        pytest.param(row(5, 6, 0, 0), row(0, 0, 1, 2), scores(2, 2, 0), id="neighbors that share no voxel"),
        pytest.param(row(0, 0, 0, 0), row(1, 0, 2, 2), scores(2, 0, 0), id="nothing predicted"),
        pytest.param(row(5, 6, 0, 0), row(0, 0, 0, 0), scores(0, 2, 0), id="nothing true"),
        pytest.param(row(0, 0), row(0, 0), scores(0, 0, 0), id="neither"),
    ],
)
def test_hand_drawn_matches(predicted, true, expected):
    assert match_clefts(predicted, true) == expected


def test_the_assignment_maximises_shared_voxels_not_matches():
    """5 shares 3 voxels with 1 and one with 2; 6 shares one with 1. 5-1 keeps 3 voxels; 5-2 and 6-1 would keep only 2."""
    assert match_clefts(row(5, 5, 5, 5, 6), row(1, 1, 1, 2, 1)).matched == 1


def test_precision_recall_and_f1_of_clefts():
    result = scores(true=4, predicted=3, matched=2)
    assert (result.precision, result.recall, result.f1) == (2 / 3, 2 / 4, 4 / 7)


@pytest.mark.parametrize(
    ("result", "expected"),
    [(scores(0, 2, 0), (0.0, None, 0.0)), (scores(2, 0, 0), (None, 0.0, 0.0)), (scores(0, 0, 0), (None, None, None))],
)
def test_cleft_scores_that_would_divide_by_zero_are_none(result, expected):
    assert (result.precision, result.recall, result.f1) == expected


def test_voxels_that_touch_at_a_corner_are_one_cleft():
    touching = np.zeros((2, 2, 2), bool)
    touching[0, 0, 0] = touching[1, 1, 1] = True
    assert match_clefts(touching, touching) == scores(1, 1, 1)


def test_labels_with_a_single_id_are_a_mask_of_several_clefts():
    assert match_clefts(row(255, 0, 255).astype(np.uint8), row(1, 0, 2)) == scores(2, 2, 2)


def test_pieces_that_share_an_id_are_one_cleft():
    """Annotators skip sections: cleft 1 is in two pieces and counts once."""
    assert match_clefts(row(1, 0, 1, 2), row(1, 0, 1, 2)) == scores(2, 2, 2)


@pytest.mark.parametrize("unlabeled", [INVALID, OUTSIDE])
def test_unlabeled_voxels_count_on_neither_side(unlabeled):
    """5 shares only unlabeled voxels with the truth, and has a voxel left; 6 lies in them wholly and is no cleft at all."""
    true = row(1, 0, unlabeled, unlabeled, 2)
    assert match_clefts(row(0, 5, 5, 6, 0), true) == scores(2, 1, 0)


def test_an_unlabeled_gap_does_not_split_a_predicted_cleft():
    predicted = np.array([[[True, True, True]]])
    assert match_clefts(predicted, row(1, INVALID, 2)) == scores(2, 1, 1, merges=1)


IDS = hnp.arrays(np.uint8, (1, 3, 6), elements=st.integers(0, 4))


@settings(max_examples=80, deadline=None)
@given(IDS, IDS)
def test_matches_equal_those_of_trying_every_assignment(predicted, true):
    mine, theirs = np.unique(predicted[predicted > 0]), np.unique(true[true > 0])
    assume(mine.size != 1 and theirs.size != 1)  # that would be a mask, whose components are the clefts
    shared = np.array([[np.sum((predicted == p) & (true == t)) for t in theirs] for p in mine]).reshape(
        mine.size, theirs.size
    )
    if mine.size > theirs.size:
        shared = shared.T
    choices = list(itertools.permutations(range(shared.shape[1]), shared.shape[0])) if shared.size else [()]
    best = max(sum(shared[i, j] for i, j in enumerate(choice)) for choice in choices)
    optimal = {
        sum(bool(shared[i, j]) for i, j in enumerate(choice))
        for choice in choices
        if sum(shared[i, j] for i, j in enumerate(choice)) == best
    }
    result = match_clefts(predicted, true)
    assert (result.true, result.predicted) == (theirs.size, mine.size)
    assert result.matched in optimal


def test_instances_hold_cleft_voxels_only():
    found = Instances.of_labels(row(0, 9, 0, 8))
    assert (found.index.tolist(), found.ids.tolist()) == ([1, 3], [9, 8])


def test_sizes_means_and_centers_come_by_ascending_id():
    found = Instances.of_labels(np.array([[[9, 9, 0, 5]], [[0, 0, 9, 5]]]))
    assert (len(found), found.sizes.tolist()) == (2, [2, 3])
    assert found.means(np.array([1.0, 2, 10, 6, 20])).tolist() == [15, 3]
    np.testing.assert_allclose(found.centers((2, 1, 4)), [[0.5, 0, 3], [1 / 3, 0, 1]])


def test_clefts_of_several_volumes_are_counted_together():
    one, two = (SizeClass(0, 5, *counts) for counts in ((1, 1, 2, 1), (3, 2, 2, 2)))
    total = ObjectScores.total([ObjectScores(1, 2, 1, 0, 1, (one,)), ObjectScores(3, 2, 2, 1, 0, (two,))])
    assert total == ObjectScores(4, 4, 3, 1, 1, (SizeClass(0, 5, 4, 3, 4, 3),))


def test_size_classes_count_each_side_by_its_own_sizes():
    """A true cleft of 100 is found by a prediction of 5; another prediction of 5 is wrong."""
    found = by_size(
        MatchedSizes(np.array([5.0, 5.0]), np.array([True, False])),
        MatchedSizes(np.array([100.0]), np.array([True])),
        (10,),
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
