"""What an evaluation found, for people and for machines: every number, and a reason wherever there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.distances import CremiScore
from cleftnet.metrics.pooling import mean_defined
from cleftnet.metrics.voxels import ScoreHistogram, VoxelCounts

SCORES = (
    "cremi_score",
    "adgt",
    "adf",
    "f1",
    "precision",
    "recall",
    "auc",
    "fp_far",
    "fn_far",
)  # in the order people read them
OBJECT_SCORES = ("precision", "recall", "f1", "average_precision")  # over whole clefts
OBJECT_COUNTS = ("true", "predicted", "matched", "splits", "merges")
_UNITS = {
    "cremi_score": "nm",
    "adgt": "nm",
    "adf": "nm",
    "fp_far": "voxels",
    "fn_far": "voxels",
    "voxels_scored": "voxels",
}


@dataclass(frozen=True)
class MaskScores:
    """Scores of one predicted mask: of a volume, of one section, or at one threshold."""

    counts: VoxelCounts
    distances: CremiScore

    def to_json(self) -> dict[str, float | int | None]:
        """Return the scores under the names of `evaluate --json`, those that are not defined as None."""
        return {
            "cremi_score": self.distances.score,
            "adgt": self.distances.adgt,
            "adf": self.distances.adf,
            "f1": self.counts.f1,
            "precision": self.counts.precision,
            "recall": self.counts.recall,
            "fp_far": self.distances.fp_far,
            "fn_far": self.distances.fn_far,
        }


@dataclass(frozen=True)
class Sweep:
    """Scores over a grid of thresholds, with the best by F1 and by CREMI score.

    Args:
        at: The scores at each threshold of the grid, ascending.
        best_f1: Threshold and F1 of the best of all thresholds, not only the grid's; None where there is no cleft.
    """

    at: dict[float, MaskScores]
    best_f1: tuple[float, float] | None

    @property
    def best_cremi_score(self) -> tuple[float, float] | None:
        """Threshold and lowest CREMI score on the grid (the lowest threshold of equals); None where it is nowhere defined."""
        defined = [(m.distances.score, threshold) for threshold, m in self.at.items() if m.distances.score is not None]
        score, threshold = min(defined, default=(None, None))
        return None if score is None or threshold is None else (threshold, score)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as rows, and both best points."""
        return {
            "rows": [{"threshold": threshold, **scores.to_json()} for threshold, scores in self.at.items()],
            "best_f1": self.best_f1 and dict(zip(("threshold", "f1"), self.best_f1, strict=True)),
            "best_cremi_score": self.best_cremi_score
            and dict(zip(("threshold", "cremi_score"), self.best_cremi_score, strict=True)),
        }


@dataclass(frozen=True)
class Evaluation:
    """All scores of one prediction against its truth.

    Args:
        scores: Over all scored voxels, at the threshold.
        threshold: Voxels of at least this probability are predicted; None for a mask or labels.
        auc: Area under the ROC curve; None where undefined.
        objects: Whole clefts, matched one to one; None where it was not computed.
        sections: The same scores for each section, by its z in the truth; distances still reach through the whole volume.
        scored_box: The region scored, in voxels of the truth, as text `z0:z1,y0:y1,x0:x1`.
        voxel_size_nm: z y x.
        undefined: For each score that is None, why.
        warnings: What a reader should know before trusting the numbers.
        sweep: Scores over a grid of thresholds, where asked for.
        histogram: Voxels by probability: F1 at any threshold and the precision-recall curve without reading again; not in the
            JSON. None for a mask or labels.
    """

    scores: MaskScores
    threshold: float | None
    auc: float | None
    objects: ObjectScores | None
    sections: dict[int, MaskScores]
    scored_box: str
    voxel_size_nm: FloatZYX
    undefined: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sweep: Sweep | None = None
    histogram: ScoreHistogram | None = field(default=None, repr=False)

    @property
    def cremi_score(self) -> float | None:
        """(ADGT + ADF) / 2 in nm, lower is better."""
        return self.scores.distances.score

    @property
    def f1(self) -> float | None:
        """Voxel F1, 0 to 1."""
        return self.scores.counts.f1

    @property
    def exact(self) -> bool:
        """False when a block-wise evaluation met distances beyond its halo, so that the CREMI score is a lower bound."""
        return not (self.scores.distances.of_predicted.lower_bounds or self.scores.distances.of_true.lower_bounds)

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of `cleftnet evaluate --json`."""
        counts, distances = self.scores.counts, self.scores.distances
        return {
            **self.scores.to_json(),
            "auc": self.auc,
            "threshold": self.threshold,
            "voxels_scored": counts.voxels,
            "objects": None if self.objects is None else _objects_json(self.objects),
            "voxels_true": counts.true,
            "voxels_predicted": counts.predicted,
            **{
                f"{name}_{statistic}": getattr(part, statistic)
                for name, part in (("adgt", distances.of_predicted), ("adf", distances.of_true))
                for statistic in ("std", "max", "median")
            },
            "exact": self.exact,
            "scored_box": self.scored_box,
            "voxel_size_nm": list(self.voxel_size_nm),
            "undefined": self.undefined,
            "warnings": list(self.warnings),
            "sections": [{"z": z, **scores.to_json()} for z, scores in self.sections.items()],
            "sweep": self.sweep and self.sweep.to_json(),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a table for people: name, value, and its unit or why there is no value."""
        rows = _rows(self.to_json(), [*SCORES, "threshold", "voxels_scored"], self.undefined)
        if self.objects is None:
            return [*rows, ("objects", "-", self.undefined.get("objects", ""))]
        return [
            *rows,
            *_object_rows(self.objects, {name: self.undefined.get(f"objects.{name}") for name in OBJECT_SCORES}),
        ]


@dataclass(frozen=True)
class MeanEvaluation:
    """Scores averaged over volumes as the CREMI challenge does: the plain mean of each volume's score, large or small.

    Args:
        volumes: What was averaged.
        scores: The mean of each score, None where one of the volumes has none.
        objects: Means of `OBJECT_SCORES` over whole clefts, and the clefts of all volumes counted together; None where they
            were not matched in one of the volumes.
        undefined: For each mean that is None, which volume lacks the score, and why.
    """

    volumes: tuple[Evaluation, ...]
    scores: dict[str, float | None]
    objects: dict[str, Any] | None
    undefined: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of `cleftnet evaluate --json`, and each volume's own under `volumes`."""
        thresholds = {evaluation.threshold for evaluation in self.volumes}
        return {
            **self.scores,
            "threshold": thresholds.pop() if len(thresholds) == 1 else None,
            "voxels_scored": sum(evaluation.scores.counts.voxels for evaluation in self.volumes),
            "objects": self.objects,
            "undefined": self.undefined,
            "volumes": [evaluation.to_json() for evaluation in self.volumes],
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a table for people: name, mean, and its unit or why there is no mean."""
        rows = _rows(self.scores, SCORES, self.undefined)
        if self.objects is None:
            return [*rows, ("objects", "-", self.undefined["objects"])]
        values = {f"objects {name}": self.objects[name] for name in OBJECT_SCORES}
        return [
            *rows,
            *_rows(values, list(values), {name.replace(".", " "): why for name, why in self.undefined.items()}),
        ]


def mean_evaluation(evaluations: Sequence[Evaluation]) -> MeanEvaluation:
    """Average scores over volumes; a score that one of them lacks has no mean, and the reason is kept.

    Args:
        evaluations: One for each volume.

    Raises:
        InputError: when there is nothing to average.

    Example:
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
    found = [evaluation.objects for evaluation in evaluations]
    matched = [clefts for clefts in found if clefts is not None]
    if len(matched) < len(found):
        undefined["objects"] = _first_gap("objects", found, evaluations)
    else:
        objects = _objects_json(ObjectScores.total(matched))
        objects |= {name: mean(f"objects.{name}", [getattr(one, name) for one in matched]) for name in OBJECT_SCORES}
    return MeanEvaluation(tuple(evaluations), scores, objects, undefined)


def _first_gap(name: str, values: Sequence[Any], evaluations: Sequence[Evaluation]) -> str:
    first = values.index(None)
    return f"volume {first + 1} of {len(values)}: {evaluations[first].undefined.get(name, 'undefined')}"


def _rows(values: Mapping[str, Any], names: Sequence[str], undefined: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(name, _text(values[name], name), undefined.get(name, _UNITS.get(name, ""))) for name in names]


def _objects_json(objects: ObjectScores) -> dict[str, Any]:
    return {
        **{name: getattr(objects, name) for name in (*OBJECT_SCORES, *OBJECT_COUNTS)},
        "by_size": [
            {
                "low_nm3": size.low,
                "high_nm3": size.high if math.isfinite(size.high) else None,
                "true": size.true,
                "found": size.found,
                "predicted": size.predicted,
                "right": size.right,
            }
            for size in objects.by_size
        ],
    }


def _object_rows(objects: ObjectScores, why: Mapping[str, str | None]) -> list[tuple[str, str, str]]:
    """Return whole clefts for people; scores that are not defined stand alone, with the reason."""
    found = f"{objects.matched} matched of {objects.true} true, {objects.predicted} predicted"
    apart = f"{objects.splits} splits, {objects.merges} merges"
    rows = [("objects f1", _text(objects.f1, "f1"), f"{found}: {why['f1']}" if why["f1"] else f"{found}, {apart}")]
    rows += [(f"objects {name}", "-", why[name] or "") for name in ("precision", "recall") if why[name]]
    if objects.average_precision is not None:
        rows.append(("objects average_precision", _text(objects.average_precision, "f1"), "by mean probability"))
    return rows


def _text(value: float | int | None, name: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if _UNITS.get(name) == "voxels":  # a mean
        return f"{value:,.1f}"
    return f"{value:.2f}" if _UNITS.get(name) == "nm" else f"{value:.4f}"
