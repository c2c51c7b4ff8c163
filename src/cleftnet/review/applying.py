"""Applies the decisions of a review: corrected labels to train on, precision and recall of the synapses, and a summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, JsonValue

from cleftnet.errors import InputError
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import Box
from cleftnet.metrics.predictions import PredictionKind
from cleftnet.metrics.voxels import Mask
from cleftnet.review.decisions import ReviewDecision, describe_conflicts
from cleftnet.review.estimates import (
    LEVEL,
    DecidedCounts,
    Estimate,
    count_by_kind,
    estimate_precision,
    estimate_recall,
)
from cleftnet.review.review_set import ReviewSet, open_review
from cleftnet.review.selection import KINDS, MISSED, RANDOM, UNCERTAIN
from cleftnet.synapses.segmentation import Segmenter
from cleftnet.volumes import INVALID, Array, Volume, is_cleft, write_cremi

log = logging.getLogger(__name__)

CORRECTED, SUMMARY, TRAINING = "corrected.hdf", "summary.json", "training.yaml"  # in the folder of an applied review
WHOLE_VOX = 2**28  # labels of a larger volume are cut to the part that was reviewed

Ids = npt.NDArray[np.uint64]


class ReviewSummary(BaseModel):
    """What the decisions of a review say about the synapses.

    Attributes:
        synapses: Number of synapses that were under review, candidates or not.
        counts: Candidates and verdicts of each kind.
        precision: Share of the synapses that are right.
        recall: Share of the synapses in the tissue that were found, under the assumption below.
        recall_assumes: What the estimate of recall assumes.
        level: Confidence level of the intervals.
        people: Decisions that count, by person.
        corrected: Synapses in the corrected labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    synapses: int
    counts: Mapping[str, Mapping[str, int]]
    precision: Estimate
    recall: Estimate
    recall_assumes: str
    level: float
    people: Mapping[str, int]
    corrected: int

    def rows(self) -> list[tuple[str, Any]]:
        """Return names and values for a table."""
        decided = [
            (kind, ", ".join(f"{number} {name}" for name, number in own.items())) for kind, own in self.counts.items()
        ]
        ends = {name: getattr(self, name) for name in ("precision", "recall")}
        shares = [(f"{name}{end}", getattr(one, key)) for name, one in ends.items() for key, end in _ENDS]
        return [("synapses", self.synapses), *decided, *shares, ("synapses in the corrected labels", self.corrected)]


_ENDS = (("value", ""), ("low", ", lower end"), ("high", ", upper end"))


def apply_review(folder: str | Path, out: str | Path, *, overwrite: bool = False) -> ReviewSummary:
    """Write corrected labels and a summary of the decisions of a review.

    `out` gets `corrected.hdf` (a CREMI file of labels), `summary.json` and `training.yaml`, an entry of `data.train` for a
    recipe. In the labels a reviewed candidate is a synapse with the id of the candidate, or background if it was rejected; a
    redrawn one is as it was drawn. Around it, in its window, what is neither a synapse under review nor predicted as cleft is
    background. Everything that nobody decided about is invalid, and no training learns from it.

    Args:
        folder: The folder of the review.
        out: Folder to make.
        overwrite: Whether an existing folder is replaced.

    Raises:
        InputError: when people disagree, nothing is decided, an input has changed, or `out` exists.
    """
    refuse_existing(Path(out), overwrite)
    review = open_review(folder)
    if conflicts := review.conflicts():
        raise InputError(f"people disagree on {describe_conflicts(conflicts)}; agree, and decide again")
    decided = {n: one for n, one in review.decisions().items() if one.verdict != "skip"}
    if not decided:
        raise InputError(f"nothing is decided in {review.folder}; decide about candidates first")
    review.check_inputs()
    labels = CorrectedLabels.of(review, decided)
    summary = _summary(review, decided, labels.synapses)
    with replacing(Path(out), overwrite) as made:
        made.mkdir()
        volume = labels.volume()
        write_cremi(made / CORRECTED, clefts=volume)
        (made / SUMMARY).write_text(summary.model_dump_json(indent=1) + "\n")
        (made / TRAINING).write_text(yaml.safe_dump(_entry(review, Path(out), volume), sort_keys=False))
    log.info(f"recall assumes that {summary.recall_assumes}")
    return summary


def _entry(review: ReviewSet, out: Path, labels: Volume) -> dict[str, JsonValue]:
    """Return an entry of `data.train` for a recipe."""
    return {"raw": review.inputs.raw, "labels": str((out / CORRECTED).absolute()), "roi": str(labels.box)}


def _summary(review: ReviewSet, decided: Mapping[int, ReviewDecision], corrected: int) -> ReviewSummary:
    kinds = dict(zip(review.candidates["id"].tolist(), review.candidates["kind"].tolist(), strict=True))
    every = {n: one.verdict for n, one in review.decisions().items()}
    counts = {kind: {"candidates": 0} for kind in KINDS} | count_by_kind(every, kinds)
    of = {
        kind: DecidedCounts(
            counts[kind]["candidates"],
            sum(kinds[n] == kind for n in decided),
            sum(kinds[n] == kind and one.verdict != "reject" for n, one in decided.items()),
        )
        for kind in KINDS
    }
    synapses = review.inputs.synapses
    precision = estimate_precision(of[UNCERTAIN], of[RANDOM], synapses)
    by = [one.by for one in decided.values()]
    return ReviewSummary(
        synapses=synapses,
        counts=counts,
        precision=precision,
        recall=estimate_recall(precision, of[MISSED], synapses),
        recall_assumes=(
            f"every missed synapse is one of the {of[MISSED].candidates} candidates '{MISSED}'; others among the "
            f"{review.inputs.left_out} components that were left out, and those that the prediction does not show, lower it"
        ),
        level=LEVEL,
        people={name: by.count(name) for name in sorted(set(by))},
        corrected=corrected,
    )


@dataclass(frozen=True)
class _Decided:
    """A decided candidate: its window, its own voxels, and the synapses that are drawn there.

    Attributes:
        window: Bounding box with surroundings, voxels of the labels.
        box: Bounding box of the candidate as it was found.
        mask: Its voxels in that box.
        drawn: Box and ids, background 0, of the synapses that are there now; None where there are none.
    """

    window: Box
    box: Box
    mask: Mask
    drawn: tuple[Box, Ids] | None


@dataclass(frozen=True)
class CorrectedLabels:
    """Labels that hold what was decided and are `INVALID` elsewhere; a store that computes the boxes that are read.

    Attributes:
        review: The review.
        decided: The decided candidates.
        labels: The synapses under review.
        prediction: The prediction, of the same shape.
        synapses: Number of synapses in the corrected labels.
    """

    review: ReviewSet
    decided: Sequence[_Decided]
    labels: Volume
    prediction: Volume
    synapses: int

    @classmethod
    def of(cls, review: ReviewSet, decisions: Mapping[int, ReviewDecision]) -> CorrectedLabels:
        """Take the voxels of decided candidates; further synapses in a redrawn window get ids after the last candidate's."""
        following, found, synapses = len(review.candidates) + 1, [], 0
        for number, decision in sorted(decisions.items()):
            box, mask = review.box(number), review.mask(number)
            drawn: tuple[Box, Ids] | None = None
            if decision.verdict == "accept":
                drawn = (box, mask * np.uint64(number))
                synapses += 1
            elif decision.verdict == "redraw":
                ids = review.redrawn(number)
                assert ids is not None, "a redrawn candidate has labels"
                own = np.unique(ids[ids > 0])
                new = [number, *range(following, following + len(own) - 1)]
                following += len(own) - 1
                synapses += len(own)
                renumbered = np.zeros(ids.shape, np.uint64)
                for before, after in zip(own, new, strict=True):
                    renumbered[ids == before] = after
                drawn = (review.window(number), renumbered)
            found.append(_Decided(review.window(number), box, mask, drawn))
        return cls(review, found, review.labels, review.prediction, synapses)

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""
        return self.labels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint64."""
        return np.dtype(np.uint64)

    def volume(self) -> Volume:
        """Return the labels as a volume; those of a large one are cut to what was reviewed."""
        whole = Volume(self, self.labels.voxel_size, self.labels.offset_nm, "corrected labels")
        if whole.size <= WHOLE_VOX:
            return whole
        starts, stops = zip(*((one.window.start, one.window.stop) for one in self.decided), strict=True)
        z0, y0, x0 = (min(side) for side in zip(*starts, strict=True))
        z1, y1, x1 = (max(side) for side in zip(*stops, strict=True))
        return whole.crop(Box((z0, y0, x0), (z1, y1, x1)))

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Return the labels of a box."""
        ranges = [s.indices(n) for s, n in zip(index, self.shape, strict=True)]
        (z0, z1, _), (y0, y1, _), (x0, x1, _) = ranges
        box = Box((z0, y0, x0), (z1, y1, x1))
        ids = np.full(box.shape, INVALID, np.uint64)
        for part in (shared for one in self.decided if not (shared := one.window.intersect(box)).empty):
            ids[part.relative_to(box.start).slices] = np.where(self._open(part), np.uint64(INVALID), np.uint64(0))
        for one in self.decided:  # what was decided wins over the window of a neighbor
            self._fill(ids, box, one.box, np.zeros(one.mask.shape, np.uint64), one.mask)
        for one in self.decided:
            if one.drawn is not None:
                self._fill(ids, box, one.drawn[0], one.drawn[1], one.drawn[1] > 0)
        return ids

    def _open(self, box: Box) -> Mask:
        """Return which voxels of a box are called cleft, by the prediction or as a synapse."""
        kind = PredictionKind(self.review.inputs.kind)
        threshold = self.review.inputs.point.threshold if kind is PredictionKind.PROBABILITY else None
        called = Segmenter(kind, threshold, gap=0, hole_vox=(0, 0)).mask(self.prediction[box])
        return np.asarray(called | is_cleft(self.labels[box]))

    @staticmethod
    def _fill(ids: Ids, box: Box, place: Box, values: Ids, where: Mask) -> None:
        """Write the values of some voxels of a place into the ids of a box."""
        part = place.intersect(box)
        if not part.empty:
            target, source = part.relative_to(box.start).slices, part.relative_to(place.start).slices
            ids[target] = np.where(where[source], values[source], ids[target])
