"""Scores of out-of-fold predictions on a hand-made volume with three folds along y."""

import numpy as np
import pytest

from cleftnet.comparison.folds import FoldSettings, cut
from cleftnet.comparison.out_of_fold import FoldLogits, score_out_of_fold
from cleftnet.comparison.recipe import TuningSettings
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume

SHAPE, VOXEL_SIZE = (4, 90, 40), (50.0, 5.0, 5.0)
BOXES = [fold.scored for fold in cut(Box.of(SHAPE), FoldSettings(borders_vox=(30, 60)), (2, 8, 8))]
TUNING = TuningSettings(thresholds=(0.2, 0.5), sizes_nm3=(0.0, 2e4))


def labels():
    """Four clefts of 2x6x6 voxels; the second one lies across the first border, mostly in the second fold."""
    ids = np.zeros(SHAPE, np.uint64)
    for number, y in enumerate((10, 28, 45, 75), start=1):
        ids[1:3, y : y + 6, 10:16] = number
    return ids


def region(ids):
    return Region(Volume(np.zeros(SHAPE, np.uint8), VOXEL_SIZE), Volume(ids, VOXEL_SIZE))


def folds(logits):
    return [FoldLogits(box, logits[box.slices]) for box in BOXES]


def perfect(ids, *, offset=0.0):
    noise = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    return (np.where(ids > 0, 4.0, -4.0) + offset + noise).astype(np.float32)


def test_a_perfect_prediction_scores_perfectly_and_every_cleft_is_whole():
    found, *_ = score_out_of_fold(folds(perfect(labels())), region(labels()), TUNING)
    assert found.scores.f1 == 1
    assert found.scores.cremi_score == 0
    assert (found.objects.true, found.objects.matched, found.objects.splits) == (4, 4, 0)
    assert [cleft.fold for cleft in found.territories[0]] == [0, 1, 1, 2]


def test_what_a_fold_is_scored_with_does_not_depend_on_its_own_labels():
    """Moving the clefts of one fold changes the choices of the others, never its own."""
    moved = labels()
    moved[:, 60:] = 0
    moved[1:3, 65:71, 20:26] = 4
    before = score_out_of_fold(folds(perfect(labels())), region(labels()), TUNING)[1]
    after = score_out_of_fold(folds(perfect(labels())), region(moved), TUNING)[1]
    assert after[2] == before[2]
    assert after[0] != before[0]


def test_a_fold_whose_logits_are_shifted_pays_for_it():
    """Its own labels would have undone the shift; the other folds cannot know of it."""
    logits = perfect(labels())
    logits[BOXES[2].slices] += 9
    found, *_ = score_out_of_fold(folds(logits), region(labels()), TUNING)
    assert found.scores.precision < 0.1
    assert found.territories[0][3].false_negatives == 0


def test_ranks_belong_to_the_cleft_whose_voxels_have_them():
    """Background has a logit of about -4; the first cleft has the same, the others 4."""
    logits = perfect(labels())
    logits[labels() == 1] -= 8
    found, *_ = score_out_of_fold(folds(logits), region(labels()), TUNING)
    first, *others = (cleft.rank_sum for cleft in found.territories[0])
    assert first < 0.7 * 72
    assert others == pytest.approx([72] * 3, abs=0.5)


def test_small_synapses_are_left_out_by_the_size_that_the_other_folds_choose():
    """Specks of one voxel in every fold make the larger size the better choice."""
    logits = perfect(labels())
    logits[0, 5::10, 30] = 4.0
    found, choices, _ = score_out_of_fold(folds(logits), region(labels()), TUNING)
    assert [choice.min_size_nm3 for choice in choices] == [2e4] * 3
    assert found.objects.predicted == 4


def test_folds_without_clefts_to_choose_on_are_refused():
    ids = labels()
    ids[:, :60] = 0
    with pytest.raises(InputError, match="hold no cleft"):
        score_out_of_fold(folds(perfect(ids)), region(ids), TUNING)


def test_one_fold_is_no_cross_validation():
    with pytest.raises(InputError, match="at least two"):
        score_out_of_fold(folds(perfect(labels()))[:1], region(labels()), TUNING)
