"""Scores of several volumes or regions: means over them, as in the CREMI challenge, and pooled scores.

A *mean* score is the plain mean of each volume's, whatever its size. A *pooled* score counts the voxels of all volumes
together. The two differ where volumes differ in size or in difficulty.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from cleftnet.errors import InputError
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.distances import CremiScore
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD
from cleftnet.metrics.scores import OBJECT_SCORES, SCORES, Evaluation, objects_json, score_rows
from cleftnet.metrics.voxels import ScoreHistogram, VoxelCounts


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Return the mean of all values; None where one of them is undefined, or without values.

    Example:
        >>> mean_defined([1.0, 2.0]), mean_defined([1.0, None])
        (1.5, None)
    """
    known = [value for value in values if value is not None]
    return float(sum(known) / len(known)) if known and len(known) == len(values) else None


class PooledScores(BaseModel):
    """Scores of several regions at one threshold; None where undefined, lengths in nm.

    Attributes:
        f1: Pooled voxel F1 (Eq. 11): all voxels counted together.
        precision: Pooled share of the predicted voxels that are cleft.
        recall: Pooled share of the cleft voxels that are predicted.
        auc: Pooled area under the ROC curve.
        cremi_score: Mean CREMI score of the regions; lower is better.
        adgt: Mean over the regions of the distance from predicted voxels to the truth.
        adf: Mean over the regions of the distance from true voxels to the prediction.
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
    """Return the scores of several regions together.

    Args:
        counts: Voxels of all regions, at the threshold.
        histogram: Voxels of all regions, by probability.
        distances: Distances of each region, at the threshold.
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


def pool_at_best_f1(
    histogram: ScoreHistogram, distances_at: Callable[[float], Sequence[CremiScore]], background_weight: float = 1.0
) -> tuple[float, PooledScores]:
    """Return the threshold with the best voxel F1 over several regions (0.5 without cleft voxels), and the scores there.

    Args:
        histogram: Voxels of all regions, by probability.
        distances_at: Function from a threshold to the distances of each region.
        background_weight: How often a background voxel counts when the threshold is chosen; the scores count it once.
    """
    best = histogram.with_background(background_weight).best_f1()
    threshold = best[0] if best else DEFAULT_THRESHOLD
    return threshold, pool(histogram.counts(threshold), histogram, distances_at(threshold))


@dataclass(frozen=True)
class MeanEvaluation:
    """Scores of several volumes: the plain mean of each score, as in the CREMI challenge, and sums over all volumes.

    Attributes:
        volumes: The evaluation of each volume.
        scores: Mean of each score; None where it is undefined in one of the volumes.
        objects: Mean of each of `OBJECT_SCORES`, and the clefts of all volumes counted together; None where they were not
            matched in one of the volumes.
        undefined: For each mean that is None, the first volume without the score, and why.
    """

    volumes: tuple[Evaluation, ...]
    scores: dict[str, float | None]
    objects: dict[str, Any] | None
    undefined: dict[str, str]

    @property
    def counts(self) -> VoxelCounts:
        """Voxels of all volumes, at their thresholds."""
        return sum((evaluation.scores.counts for evaluation in self.volumes), start=VoxelCounts())

    @property
    def pooled(self) -> dict[str, float | None]:
        """Precision, recall, F1 and AUC with the voxels of all volumes counted together, as `compare` has them."""
        counts, histogram = self.counts, self.histogram
        auc = None if histogram is None else histogram.auc
        return {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall, "auc": auc}

    @property
    def histogram(self) -> ScoreHistogram | None:
        """Voxels of all volumes by probability; None where one of them is a mask or labels."""
        known = [evaluation.histogram for evaluation in self.volumes if evaluation.histogram is not None]
        return functools.reduce(operator.add, known) if len(known) == len(self.volumes) else None

    @property
    def clefts(self) -> ObjectScores | None:
        """Whole clefts of all volumes; None where they were not matched in one of the volumes."""
        known = [evaluation.objects for evaluation in self.volumes if evaluation.objects is not None]
        return ObjectScores.total(known) if len(known) == len(self.volumes) else None

    @property
    def cremi_at(self) -> dict[float, float | None]:
        """Mean CREMI score in nm at each threshold of the sweep, None where undefined; empty without a sweep."""
        sweeps = [evaluation.sweep.at for evaluation in self.volumes if evaluation.sweep is not None]
        if len(sweeps) < len(self.volumes):
            return {}
        return {threshold: mean_defined([at[threshold].distances.score for at in sweeps]) for threshold in sweeps[0]}

    def to_json(self) -> dict[str, Any]:
        """Return all means as plain values for JSON, `pooled` scores, and the scores of each volume under `volumes`."""
        thresholds = {evaluation.threshold for evaluation in self.volumes}
        return {
            **self.scores,
            "pooled": self.pooled,
            "threshold": thresholds.pop() if len(thresholds) == 1 else None,
            "voxels_scored": self.counts.voxels,
            "objects": self.objects,
            "undefined": self.undefined,
            "volumes": [evaluation.to_json() for evaluation in self.volumes],
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Return rows of a table: means, then pooled scores, each with its unit or why there is none."""
        means = score_rows(self.scores, SCORES, self.undefined)
        if self.objects is None:
            means.append(("objects", "-", self.undefined["objects"]))
        else:
            values = {f"objects {name}": self.objects[name] for name in OBJECT_SCORES}
            why = {name.replace(".", " "): reason for name, reason in self.undefined.items()}
            means += score_rows(values, list(values), why)
        pooled = score_rows(self.pooled, list(self.pooled), {})
        return [
            (f"{kind} {name}", value, unit)
            for kind, rows in (("mean", means), ("pooled", pooled))
            for name, value, unit in rows
        ]


def mean_evaluation(evaluations: Sequence[Evaluation]) -> MeanEvaluation:
    """Average scores over volumes; a score that is undefined in one of them has no mean, and the reason is kept.

    Args:
        evaluations: One evaluation for each volume.

    Raises:
        InputError: when there is no evaluation.

    Example:
        >>> from cleftnet.metrics.scores import MaskScores
        >>> perfect = MaskScores(VoxelCounts(1, 0, 0, 1), CremiScore.total([]))
        >>> half = MaskScores(VoxelCounts(1, 1, 1, 1), CremiScore.total([]))
        >>> mean = mean_evaluation([Evaluation(s, 0.5, None, None, {}, "0:1,0:1,0:4", (40, 4, 4)) for s in (perfect, half)])
        >>> mean.scores["f1"], mean.scores["auc"], mean.undefined["auc"]
        (0.75, None, 'volume 1 of 2: undefined')
    """
    if not evaluations:
        raise InputError("no evaluation to average; expected at least one")
    every = [evaluation.to_json() for evaluation in evaluations]
    undefined: dict[str, str] = {}

    def mean(name: str, values: list[float | None]) -> float | None:
        found = mean_defined(values)
        if found is None:
            undefined[name] = _first_gap(name, values, evaluations)
        return found

    scores = {name: mean(name, [values[name] for values in every]) for name in SCORES}
    objects: dict[str, Any] | None = None
    matched = [evaluation.objects for evaluation in evaluations if evaluation.objects is not None]
    if len(matched) < len(evaluations):
        undefined["objects"] = _first_gap("objects", [evaluation.objects for evaluation in evaluations], evaluations)
    else:
        objects = objects_json(ObjectScores.total(matched))
        objects |= {name: mean(f"objects.{name}", [getattr(one, name) for one in matched]) for name in OBJECT_SCORES}
    return MeanEvaluation(tuple(evaluations), scores, objects, undefined)


def _first_gap(name: str, values: Sequence[Any], evaluations: Sequence[Evaluation]) -> str:
    first = values.index(None)
    return f"volume {first + 1} of {len(values)}: {evaluations[first].undefined.get(name, 'undefined')}"
