"""Differences between the scores of two rows, with 95 % confidence intervals over synapses and trainings.

Every score follows from sums over the territories of synapses (`metrics.intervals`). The bootstrap resamples synapses, the
same ones for both rows, and within them the trainings of each row: for each fold, which seed's training stands for it. The
interval so covers which synapses were labelled and which random numbers the trainings met, but not another animal. If it
contains 0, these synapses and trainings cannot tell the two rows apart. One training of a row shows no spread and two
hardly show it, so with fewer than three no row is called better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np

from cleftnet.comparison.cells import Cell, ResultRecord
from cleftnet.errors import InputError
from cleftnet.metrics.intervals import Interval, Territory, draw, draw_runs, interval, nested_sums
from cleftnet.metrics.voxels import Floats, Integers

Score = Literal["cremi_score", "auc", "f1", "object_f1"]
Outcome = Literal["reference", "row", "noise"]
LOWER_IS_BETTER = frozenset({"cremi_score"})
ENOUGH_RUNS = 3  # trainings of a row from which their spread can be told


class Difference(ResultRecord):
    """The mean score of the reference minus that of a row.

    Attributes:
        row: Row whose score is subtracted.
        reference: Row from whose score it is subtracted.
        score: Name of the score.
        value: The difference; None where one of the scores is undefined.
        low: Lower end of the 95 % interval over synapses and trainings.
        high: Upper end of the 95 % interval.
        verdict: The better one of the two where the interval does not contain 0, else `noise`; None without an interval, or
            with fewer than three trainings of one of them.
        runs: Number of trainings (of every fold) of the reference and of the row.
        synapses: Number of synapses that were resampled.
    """

    row: str
    reference: str
    score: Score
    value: float | None
    low: float | None
    high: float | None
    verdict: Outcome | None
    runs: tuple[int, int]
    synapses: int


def differences(reference: Sequence[Cell], row: Sequence[Cell]) -> list[Difference]:
    """Subtract the mean scores of a row from those of the reference; empty where one of them has no finished cell.

    Args:
        reference: Cells of the reference, one for each seed.
        row: Cells of the row.

    Raises:
        InputError: when two cells were scored on different synapses.
    """
    if not reference or not row:
        return []
    for cell in (*reference, *row):
        if _synapses(cell) != _synapses(reference[0]):
            raise InputError(
                f"cells {reference[0].row}, seed {reference[0].seed}, and {cell.row}, seed {cell.seed}, were scored on "
                f"different synapses; remove both and run the comparison again"
            )
    taken = draw([len(region) for region in reference[0].territories])
    means = [
        (_mean_scores(cells), _resampled_scores(cells, taken, side)) for side, cells in enumerate((reference, row))
    ]
    (mine, mine_drawn), (theirs, theirs_drawn) = means
    result = []
    for name in mine:
        value = mine[name] - theirs[name]
        ends = interval(mine_drawn[name] - theirs_drawn[name]) if np.isfinite(value) else None
        enough = min(len(reference), len(row)) >= ENOUGH_RUNS
        result.append(
            Difference(
                row=row[0].row,
                reference=reference[0].row,
                score=name,
                value=value if np.isfinite(value) else None,
                low=None if ends is None else ends.low,
                high=None if ends is None else ends.high,
                verdict=_verdict(name, ends) if ends is not None and enough else None,
                runs=(len(reference), len(row)),
                synapses=taken.shape[1],
            )
        )
    return result


def _mean_scores(cells: Sequence[Cell]) -> dict[Score, float]:
    """Return the mean of each score over the cells; NaN where one is undefined."""
    ones = np.ones((1, sum(map(len, cells[0].territories))), np.int64)
    found = [scores(cell, ones) for cell in cells]
    return {name: float(np.mean([one[name][0] for one in found])) for name in found[0]}


def _resampled_scores(cells: Sequence[Cell], taken: Integers, seed: int) -> dict[Score, Floats]:
    """Return the mean scores of resampled synapses and trainings, one value for each draw.

    Args:
        cells: Cells of one row.
        taken: How often each synapse is taken, `draws synapses`.
        seed: Other trainings are drawn for another seed.
    """
    folds = 1 + max(t.fold for region in cells[0].territories for t in region)
    picked = draw_runs(len(cells), folds, len(taken), seed)
    regions, start = [], 0
    for number, region in enumerate(cells[0].territories):
        fold = np.array([territory.fold for territory in region])
        sums = np.array([[_terms(territory) for territory in cell.territories[number]] for cell in cells])
        regions.append(nested_sums(sums, fold, taken[:, start : start + len(region)], picked))
        start += len(region)
    return {name: values.mean(axis=1) for name, values in _scores(regions).items()}


def scores(cell: Cell, taken: Integers) -> dict[Score, Floats]:
    """Return the scores of a cell for resampled synapses; NaN where undefined.

    Args:
        cell: A cell with its territories.
        taken: How often each synapse is taken, `draws synapses`, regions one after the other; all 1 give the cell's scores.
    """
    regions, start = [], 0
    for region in cell.territories:
        regions.append(taken[:, start : start + len(region)] @ np.array([_terms(territory) for territory in region]))
        start += len(region)
    return _scores(regions)


_TERMS = (*(field.name for field in fields(Territory) if field.name not in {"cleft", "fold"}), "synapses")


def _terms(territory: Territory) -> list[float]:
    """Return what a synapse adds to the sums of its region, in the order of `_TERMS`; NaN where undefined."""
    return [1.0 if name == "synapses" else np.float64(getattr(territory, name)) for name in _TERMS]


def _scores(regions: Sequence[Floats]) -> dict[Score, Floats]:
    """Return the scores that follow from the sums of each region, whose last axis is `_TERMS`; NaN where undefined."""
    each = [{name: sums[..., place] for place, name in enumerate(_TERMS)} for sums in regions]
    every = {name: np.sum([sums[name] for sums in each], axis=0) for name in _TERMS}
    true, found = (every["true_positives"] + every[name] for name in ("false_negatives", "false_positives"))
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is predicted around the resampled synapses
        adgt = [sums["adgt_sum"] / (sums["true_positives"] + sums["false_positives"]) for sums in each]
        adf = [sums["adf_sum"] / (sums["true_positives"] + sums["false_negatives"]) for sums in each]
        return {
            "cremi_score": (np.mean(adgt, axis=0) + np.mean(adf, axis=0)) / 2,
            "auc": every["rank_sum"] / true,
            "f1": 2 * every["true_positives"] / (true + found),
            "object_f1": 2 * every["matched"] / (every["predicted"] + every["synapses"]),
        }


def _synapses(cell: Cell) -> list[list[tuple[int, int]]]:
    """Return the synapses of each region with their numbers of voxels, which two compared cells must have in common."""
    return [[(t.cleft, t.true_positives + t.false_negatives) for t in region] for region in cell.territories]


def _verdict(score: Score, ends: Interval) -> Outcome:
    if ends.holds(0):
        return "noise"
    return "reference" if (ends.low > 0) != (score in LOWER_IS_BETTER) else "row"
