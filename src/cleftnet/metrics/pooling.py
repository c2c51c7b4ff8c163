"""Scores of several regions as one: voxels counted together, distances averaged over regions, as the challenge does."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from cleftnet.metrics.distances import CremiScore
from cleftnet.metrics.voxels import ScoreHistogram, VoxelCounts


class PooledScores(BaseModel):
    """Scores over all regions at one threshold, None where undefined, lengths in nm.

    Attributes:
        f1: Of Eq. 11, all voxels together.
        precision: The same.
        recall: The same.
        auc: At all thresholds.
        cremi_score: Mean over the regions; lower is better.
        adgt: Its half from the prediction to the truth.
        adf: Its half from the truth to the prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    f1: float | None
    precision: float | None
    recall: float | None
    auc: float | None
    cremi_score: float | None
    adgt: float | None
    adf: float | None


def pool(counts: VoxelCounts, histogram: ScoreHistogram, distances: Sequence[CremiScore]) -> PooledScores:
    """Put the scores of regions together.

    Args:
        counts: Of all regions, at the threshold.
        histogram: Of all regions.
        distances: Of each region, at the threshold.
    """
    return PooledScores(
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        auc=histogram.auc,
        cremi_score=mean_defined([d.score for d in distances]),
        adgt=mean_defined([d.adgt for d in distances]),
        adf=mean_defined([d.adf for d in distances]),
    )


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Return the mean of all values; None where one of them is undefined, or there is none.

    Example:
        >>> mean_defined([1.0, 2.0]), mean_defined([1.0, None])
        (1.5, None)
    """
    known = [value for value in values if value is not None]
    return float(sum(known) / len(known)) if known and len(known) == len(values) else None
