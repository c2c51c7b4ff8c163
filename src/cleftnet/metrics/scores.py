"""The scores of an evaluation, as JSON and as a table: every number, or the reason why it is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.distances import CremiScore
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
)  # in the order that tables show them
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
        """Return the scores under their names in JSON; undefined scores are None."""
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
        """Threshold with the lowest CREMI score on the grid, and that score; None where the score is undefined everywhere."""
        defined = [(m.distances.score, threshold) for threshold, m in self.at.items() if m.distances.score is not None]
        score, threshold = min(defined, default=(None, None))
        return None if score is None or threshold is None else (threshold, score)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as rows, and the best points by F1 and by CREMI score."""
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
        objects: Whole clefts, matched one to one; None where they were not matched.
        sections: The scores of each section, by its z in the truth; their distances reach through the whole volume.
        scored_box: The region scored, in voxels of the truth, as text `z0:z1,y0:y1,x0:x1`.
        voxel_size_nm: z y x.
        undefined: The reason for each score that is None.
        warnings: What a reader should know before trusting the numbers.
        sweep: Scores over a grid of thresholds; None where they were not swept.
        histogram: Voxels by probability, which give F1 at any threshold and the precision-recall curve; not in the JSON. None
            for a mask or labels.
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
        """Return all scores as plain values for JSON."""
        counts, distances = self.scores.counts, self.scores.distances
        return {
            **self.scores.to_json(),
            "auc": self.auc,
            "threshold": self.threshold,
            "voxels_scored": counts.voxels,
            "objects": None if self.objects is None else objects_json(self.objects),
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
        """Return rows of a table: name, value, and its unit or why there is no value."""
        rows = score_rows(self.to_json(), [*SCORES, "threshold", "voxels_scored"], self.undefined)
        if self.objects is None:
            return [*rows, ("objects", "-", self.undefined.get("objects", ""))]
        return [
            *rows,
            *_object_rows(self.objects, {name: self.undefined.get(f"objects.{name}") for name in OBJECT_SCORES}),
        ]


def score_rows(
    values: Mapping[str, Any], names: Sequence[str], undefined: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """Return rows of a table: name, value, and its unit or why there is no value."""
    return [(name, _text(values[name], name), undefined.get(name, _UNITS.get(name, ""))) for name in names]


def objects_json(objects: ObjectScores) -> dict[str, Any]:
    """Return the scores of whole clefts as plain values for JSON."""
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
    """Return rows for whole clefts; undefined scores have rows of their own, with the reason."""
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
