"""Every score of an entry over all scenes at once, and at every threshold, by the metrics of the house.

Voxels are counted together over the scenes; the CREMI score is the mean over them, as in training and in the challenge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.pooling import MeanEvaluation, mean_evaluation
from cleftnet.metrics.scores import Evaluation
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
    mean = mean_evaluation(
        [
            evaluate(
                prediction.probability, scene.truth, threshold=entry.threshold, settings=ScoringSettings(sweep=True)
            )
            for prediction, scene in zip(entry.predictions, scenes, strict=True)
        ]
    )
    assert mean.histogram is not None  # only probabilities can be swept
    return EntryScores(
        counts=mean.counts,
        histogram=mean.histogram,
        objects=mean.clefts,
        scenes=mean.volumes,
        mean=mean,
        cremi_at=mean.cremi_at,
    )
