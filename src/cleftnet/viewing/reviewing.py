"""A review in the viewer: its layers, its candidates as rows of the side list, and decisions by keys."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleftnet.geometry import Box
from cleftnet.review import ReviewSet
from cleftnet.viewing.cleft_errors import SparseLabels
from cleftnet.viewing.layers import LayerKind, ShownLayer
from cleftnet.viewing.scene import ListedCleft
from cleftnet.volumes import Volume

CANDIDATES = "candidates"  # name of the layer of what is decided about


@dataclass(frozen=True)
class ReviewPanel:
    """What the page shows of a review.

    Args:
        review: The review.
    """

    review: ReviewSet

    def layers(self) -> list[ShownLayer]:
        """Return the prediction, the labels, and the candidates, each with its id in the table."""
        return [
            ShownLayer("probability", LayerKind.PROBABILITY, self.review.prediction),
            ShownLayer("labels", LayerKind.LABELS, self.review.labels),
            ShownLayer(CANDIDATES, LayerKind.LABELS, candidate_labels(self.review)),
        ]

    def rows(self) -> list[ListedCleft]:
        """Return the candidates in the order of the table, with the verdict of each that has one."""
        verdicts = self.verdicts()
        return [
            ListedCleft(
                int(row["id"]),
                (float(row["z_nm"]), float(row["y_nm"]), float(row["x_nm"])),
                float(row["volume_nm3"]),
                float(row["score"]),
                verdicts.get(int(row["id"]), ""),
                str(row["kind"]),
            )
            for row in self.review.candidates.to_dict("records")
        ]

    def verdicts(self) -> Mapping[int, str]:
        """Return the verdicts that count, by candidate."""
        return {candidate: str(decision.verdict) for candidate, decision in self.review.decisions().items()}

    def decide(self, candidate: int, verdict: str, by: str) -> dict[str, Any]:
        """Write down a decision, and return how far the review is.

        Raises:
            InputError: when the decision is refused.
        """
        self.review.decide(candidate, verdict, by=by)
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return how far the review is, and the name that decisions get unless the page sends another."""
        progress = self.review.progress
        return {
            "done": progress.done,
            "total": progress.total,
            "seconds_left": progress.seconds_left,
            "verdicts": {str(candidate): verdict for candidate, verdict in self.verdicts().items()},
            "by": _user(),
        }


def candidate_labels(review: ReviewSet) -> Volume:
    """Return the voxels of all candidates of a review, each with its id; where two share voxels, the later one has them."""
    shape = review.inputs.shape
    index, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for candidate in review.candidates["id"].tolist():
        start = review.box(candidate).start
        voxels = np.nonzero(review.mask(candidate))
        places = [axis + first for axis, first in zip(voxels, start, strict=True)]
        index.append(np.ravel_multi_index(places, Box.of(shape).shape).astype(np.int64))
        ids.append(np.full(index[-1].size, candidate, np.uint64))
    every, own = np.concatenate(index)[::-1], np.concatenate(ids)[::-1]
    unique, first = np.unique(every, return_index=True)
    return Volume(SparseLabels(unique, own[first], shape), review.inputs.voxel_size_nm, review.inputs.offset_nm)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for the user
        return ""
