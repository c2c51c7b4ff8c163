"""Differences of rows from sums over synapses, and what is called noise."""

from dataclasses import replace

import numpy as np
import pytest

from cleftnet.comparison.cells import Cell, Effort, SynapseScores, VoxelScores
from cleftnet.comparison.differences import differences, scores
from cleftnet.errors import InputError
from cleftnet.metrics.intervals import Territory


def territory(cleft, hits, misses=0, alarms=0, matched=True):
    """A cleft of which some voxels are found, each false positive 10 nm away, each false negative 20."""
    return Territory(
        cleft=cleft,
        true_positives=hits,
        false_positives=alarms,
        false_negatives=misses,
        adgt_sum=10.0 * alarms,
        adf_sum=20.0 * misses,
        rank_sum=0.9 * (hits + misses),
        predicted=1,
        matched=matched,
    )


def cell(row, *regions, seed=0):
    nothing = dict.fromkeys(VoxelScores.model_fields)
    objects = dict.fromkeys(SynapseScores.model_fields, 0)
    return Cell(
        row=row,
        label=row,
        seed=seed,
        threshold=0.5,
        scores=VoxelScores(**nothing),
        objects=SynapseScores(**objects),
        territories=tuple(map(tuple, regions)),
        effort=Effort(parameters=1, steps=1, minutes=1, seconds_per_step=1),
        recipe={},
        synapse_grid={},
        provenance={},
    )


def by_score(found):
    return {difference.score: difference for difference in found}


HARD = [territory(n, hits=n, misses=10 - n, alarms=n % 3, matched=n > 3) for n in range(1, 9)]
EASY = [territory(n, hits=10, misses=0, alarms=n % 3) for n in range(1, 9)]


def test_with_every_synapse_once_the_scores_are_those_of_the_sums():
    found = scores(cell("a", [territory(1, hits=6, misses=4, alarms=2), territory(2, 10)]), np.ones((1, 2), np.int64))
    assert found["f1"][0] == pytest.approx(2 * 16 / (2 * 16 + 2 + 4))
    assert found["cremi_score"][0] == pytest.approx((20 / 18 + 80 / 20) / 2)
    assert found["auc"][0] == pytest.approx(0.9)
    assert found["object_f1"][0] == 1


def test_over_two_regions_voxels_are_counted_together_and_distances_averaged():
    found = scores(cell("a", [territory(1, 5, 5)], [territory(1, 90, 10)]), np.ones((1, 2), np.int64))
    assert found["f1"][0] == pytest.approx(2 * 95 / (2 * 95 + 15))
    assert found["cremi_score"][0] == pytest.approx(((10 + 2) / 2) / 2)


def test_a_synapse_taken_twice_counts_twice_and_one_left_out_not_at_all():
    one = cell("a", [territory(1, 5, 5), territory(2, 10)])
    found = scores(one, np.array([[2, 0], [0, 2]]))
    assert found["f1"].tolist() == pytest.approx([2 * 10 / 30, 1])


def runs(row, *regions, number=3):
    return [cell(row, *regions, seed=seed) for seed in range(number)]


def test_two_rows_that_are_the_same_differ_by_exactly_nothing():
    for found in differences(runs("a", HARD), runs("b", HARD)):
        assert (found.value, found.low, found.high, found.verdict) == (0, 0, 0, "noise")


def test_a_row_that_is_better_around_every_synapse_is_told_apart_whichever_way_is_up():
    found = by_score(differences(runs("easy", EASY), runs("hard", HARD)))
    assert found["f1"].low > 0
    assert found["cremi_score"].high < 0
    assert found["f1"].verdict == found["cremi_score"].verdict == "reference"
    assert by_score(differences(runs("hard", HARD), runs("easy", EASY)))["cremi_score"].verdict == "row"


def test_a_difference_that_hangs_on_one_synapse_is_noise():
    other = [territory(1, hits=0, misses=10, alarms=1), *EASY[1:]]
    found = by_score(differences(runs("a", EASY), runs("b", other)))["f1"]
    assert found.value > 0
    assert found.verdict == "noise"  # a third of the draws leave that one out


@pytest.mark.parametrize(("mine", "theirs", "called"), [(3, 3, "reference"), (2, 3, None), (3, 1, None)])
def test_with_fewer_than_three_trainings_of_a_row_none_is_called_better(mine, theirs, called):
    found = by_score(differences(runs("easy", EASY, number=mine), runs("hard", HARD, number=theirs)))["f1"]
    assert (found.verdict, found.runs) == (called, (mine, theirs))
    assert found.low > 0


def test_the_interval_covers_the_luck_of_the_trainings():
    """Two rows of three trainings that are as often good as bad: synapses alone would call one of them better."""
    lucky = [cell("a", EASY, seed=0), cell("a", EASY, seed=1), cell("a", HARD, seed=2)]
    unlucky = [cell("b", EASY, seed=0), cell("b", HARD, seed=1), cell("b", HARD, seed=2)]
    found = by_score(differences(lucky, unlucky))["f1"]
    assert found.value > 0
    assert found.verdict == "noise"


def in_folds(clefts):
    return [replace(one, fold=one.cleft % 4) for one in clefts]


def test_folds_are_drawn_apart_so_that_bad_luck_in_one_is_averaged_with_good_luck_in_the_others():
    """One bad training of everything moves the mean more than the same bad results spread over trainings of four folds."""
    easy, hard = in_folds(EASY), in_folds(HARD)
    one_bad = [cell("a", hard if seed == 0 else easy, seed=seed) for seed in range(3)]
    as_whole = [cell("b", [replace(t, fold=0) for t in (HARD if seed == 0 else EASY)], seed=seed) for seed in range(3)]
    folds, whole = (
        by_score(differences(runs("c", reference), row))["f1"] for reference, row in ((easy, one_bad), (EASY, as_whole))
    )
    assert folds.value == pytest.approx(whole.value)
    assert folds.high - folds.low < whole.high - whole.low


def test_the_mean_is_over_all_trainings_of_each_row():
    mine = [cell("a", EASY, seed=0), cell("a", HARD, seed=1)]
    found = by_score(differences(mine, [cell("b", HARD, seed=1)]))
    both, hard = by_score(differences(mine, mine)), by_score(differences([cell("a", EASY)], [cell("b", HARD)]))
    assert both["f1"].value == 0
    assert found["f1"].value == pytest.approx(hard["f1"].value / 2)
    assert differences(mine, []) == []


def test_without_a_prediction_the_distances_do_not_compare_and_the_rest_does():
    empty = [Territory(n, 0, 0, 10, 0.0, None, 5.0, 0, False) for n in range(1, 9)]
    found = by_score(differences(runs("a", EASY), runs("b", empty)))
    assert (found["cremi_score"].value, found["cremi_score"].verdict) == (None, None)
    assert found["f1"].verdict == "reference"


def test_cells_of_other_synapses_do_not_compare():
    with pytest.raises(InputError, match="different synapses"):
        differences([cell("a", EASY)], [cell("b", EASY[1:])])
