"""Differences between the scores of two rows, with 95 % confidence intervals over synapses (paired bootstrap).

Synapses are resampled, the same ones for both rows, and every score follows from the sums over their territories
(`metrics.intervals`); seeds are averaged. If the interval contains 0, these synapses cannot tell the two rows apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np

from cleftnet.comparison.cells import Cell, ResultRecord
from cleftnet.errors import InputError
from cleftnet.metrics.intervals import Interval, Territory, draw, interval
from cleftnet.metrics.voxels import Floats, Integers

Score = Literal["cremi_score", "auc", "f1", "object_f1"]
Outcome = Literal["reference", "row", "noise"]
LOWER_IS_BETTER = frozenset({"cremi_score"})


class Difference(ResultRecord):
    """A score of the reference minus that of a row, averaged over the seeds that both have.

    Attributes:
        row: Row whose score is subtracted.
        reference: Row from whose score it is subtracted.
        score: Name of the score.
        value: The difference; None where one of the scores is undefined.
        low: Lower end of the 95 % interval over synapses.
        high: Upper end of the 95 % interval.
        verdict: The better one of the two where the interval does not contain 0, else `noise`; None without an interval.
        seeds: Seeds that were averaged.
        synapses: Number of synapses that were resampled.
    """

    row: str
    reference: str
    score: Score
    value: float | None
    low: float | None
    high: float | None
    verdict: Outcome | None
    seeds: tuple[int, ...]
    synapses: int


def differences(reference: Sequence[Cell], row: Sequence[Cell]) -> list[Difference]:
    """Subtract the scores of a row from those of the reference, averaged over their common seeds; empty without any.

    Raises:
        InputError: when the two were scored on different synapses.
    """
    mine, theirs = ({cell.seed: cell for cell in cells} for cells in (reference, row))
    seeds = tuple(sorted(mine.keys() & theirs.keys()))
    if not seeds:
        return []
    for one, other in ((mine[seed], theirs[seed]) for seed in seeds):
        if _synapses(one) != _synapses(other):
            raise InputError(
                f"cells {one.row} and {other.row} of seed {one.seed} were scored on different synapses; remove both and run "
                f"the comparison again"
            )
    sizes = [len(region) for region in mine[seeds[0]].territories]
    everything, drawn = np.ones((1, sum(sizes)), np.int64), draw(sizes)

    def difference(taken: Integers) -> dict[Score, Floats]:
        pairs = [(scores(mine[seed], taken), scores(theirs[seed], taken)) for seed in seeds]
        return {name: np.mean([one[name] - other[name] for one, other in pairs], axis=0) for name in pairs[0][0]}

    found, moved = difference(everything), difference(drawn)
    result = []
    for name, (value,) in found.items():
        ends = interval(moved[name]) if np.isfinite(value) else None
        result.append(
            Difference(
                row=theirs[seeds[0]].row,
                reference=mine[seeds[0]].row,
                score=name,
                value=float(value) if np.isfinite(value) else None,
                low=None if ends is None else ends.low,
                high=None if ends is None else ends.high,
                verdict=None if ends is None else _verdict(name, ends),
                seeds=seeds,
                synapses=sum(sizes),
            )
        )
    return result


def scores(cell: Cell, taken: Integers) -> dict[Score, Floats]:
    """Return the scores of a cell for resampled synapses; NaN where undefined.

    Args:
        cell: A cell with its territories.
        taken: How often each synapse is taken, `draws synapses`, regions one after the other; all 1 give the cell's scores.
    """
    regions, start = [], 0
    for region in cell.territories:
        regions.append(_sums(region, taken[:, start : start + len(region)]))
        start += len(region)
    every = {name: np.sum([sums[name] for sums in regions], axis=0) for name in regions[0]}
    true, found = (every["true_positives"] + every[name] for name in ("false_negatives", "false_positives"))
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is predicted around the resampled synapses
        adgt = [sums["adgt_sum"] / (sums["true_positives"] + sums["false_positives"]) for sums in regions]
        adf = [sums["adf_sum"] / (sums["true_positives"] + sums["false_negatives"]) for sums in regions]
        return {
            "cremi_score": (np.mean(adgt, axis=0) + np.mean(adf, axis=0)) / 2,
            "auc": every["rank_sum"] / true,
            "f1": 2 * every["true_positives"] / (true + found),
            "object_f1": 2 * every["matched"] / (every["predicted"] + every["synapses"]),
        }


def _sums(region: Sequence[Territory], taken: Integers) -> dict[str, Floats]:
    """Return the sums over the territories of a region, each taken so many times; NaN where nothing is predicted."""
    names = [field.name for field in fields(Territory) if field.name != "cleft"]
    sums = {name: taken @ np.array([getattr(t, name) for t in region], np.float64) for name in names}
    return {**sums, "synapses": taken.sum(axis=1).astype(np.float64)}


def _synapses(cell: Cell) -> list[list[tuple[int, int]]]:
    """Return the synapses of each region with their numbers of voxels, which two compared cells must have in common."""
    return [[(t.cleft, t.true_positives + t.false_negatives) for t in region] for region in cell.territories]


def _verdict(score: Score, ends: Interval) -> Outcome:
    if ends.holds(0):
        return "noise"
    return "reference" if (ends.low > 0) != (score in LOWER_IS_BETTER) else "row"
