"""Every score of an entry over all scenes at once, and at every threshold, by the metrics of the house.

Voxels are counted together over the scenes; the CREMI score is the mean over them, as in training and in the challenge.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.evaluation import evaluate
from cleftnet.metrics.pooling import mean_defined
from cleftnet.metrics.scores import Evaluation, MeanEvaluation, mean_evaluation
from cleftnet.metrics.voxels import ScoreHistogram, VoxelCounts
from cleftnet.report.contents import Entry, Scene


@dataclass(frozen=True)
class EntryScores:
    """The scores of one entry.

    Attributes:
        counts: Of all scenes together, at the entry's threshold.
        histogram: Voxels of all scenes by probability.
        objects: Whole clefts of all scenes; None where they were not matched.
        scenes: The scores of each scene by itself.
        mean: Their mean.
        cremi_at: CREMI score in nm at each threshold of a grid; None where undefined.
    """

    counts: VoxelCounts
    histogram: ScoreHistogram
    objects: ObjectScores | None
    scenes: tuple[Evaluation, ...]
    mean: MeanEvaluation
    cremi_at: dict[float, float | None]


def score_entry(entry: Entry, scenes: Sequence[Scene]) -> EntryScores:
    """Score an entry.

    Args:
        entry: What it predicted.
        scenes: Their truth.

    Raises:
        InputError: when a prediction does not fit its scene.
    """
    found = [
        evaluate(prediction.probability, scene.truth, threshold=entry.threshold, sweep=True)
        for prediction, scene in zip(entry.predictions, scenes, strict=True)
    ]
    return EntryScores(
        counts=functools.reduce(operator.add, (e.scores.counts for e in found)),
        histogram=functools.reduce(operator.add, (e.histogram for e in found if e.histogram is not None)),
        objects=_together([e.objects for e in found]),
        scenes=tuple(found),
        mean=mean_evaluation(found),
        cremi_at=_swept(found),
    )


def _together(parts: Sequence[ObjectScores | None]) -> ObjectScores | None:
    known = [part for part in parts if part is not None]
    return ObjectScores.total(known) if len(known) == len(parts) else None


def _swept(found: Sequence[Evaluation]) -> dict[float, float | None]:
    sweeps = [e.sweep.at for e in found if e.sweep is not None]
    return {threshold: mean_defined([at[threshold].distances.score for at in sweeps]) for threshold in sweeps[0]}
