"""Found clefts broken down: by their size, and by the score that ranks them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cleftnet.metrics.voxels import Mask

Floats = npt.NDArray[np.float64]

SIZE_EDGES_NM3 = (1e6, 3e6, 1e7)  # a cleft of 400 × 300 × 30 nm has 3.6·10⁶


@dataclass(frozen=True)
class SizeClass:
    """Clefts of one class of sizes: recall over the true ones in it, precision over the predicted ones in it.

    Attributes:
        low: Smallest size of the class.
        high: The sizes end below this.
        true: True clefts in it.
        found: Those that are matched, whatever the size of their partner.
        predicted: Predicted clefts in it.
        right: Those that are matched.
    """

    low: float
    high: float
    true: int
    found: int
    predicted: int
    right: int

    @classmethod
    def total(cls, parts: Sequence[SizeClass]) -> SizeClass:
        """Count the clefts of one class in several volumes together."""
        counts = (sum(getattr(part, name) for part in parts) for name in ("true", "found", "predicted", "right"))
        return cls(parts[0].low, parts[0].high, *counts)

    @property
    def recall(self) -> float | None:
        """Matched share of the true clefts; None where there is none."""
        return self.found / self.true if self.true else None

    @property
    def precision(self) -> float | None:
        """Matched share of the predicted clefts; None where there is none."""
        return self.right / self.predicted if self.predicted else None


@dataclass(frozen=True)
class Sized:
    """The clefts of one side, predicted or true.

    Attributes:
        sizes: Of each, such as its volume in nm³.
        matched: Whether it has a partner.
    """

    sizes: Floats
    matched: Mask


def by_size(predicted: Sized, true: Sized, edges: Sequence[float] = SIZE_EDGES_NM3) -> tuple[SizeClass, ...]:
    """Count matches by classes of sizes.

    Args:
        predicted: The predicted clefts.
        true: The true ones, their sizes in the same unit.
        edges: Where one class ends and the next begins, ascending; the first class begins at 0, the last has no end.

    Example:
        >>> predicted = Sized(np.array([5.0, 9.0]), np.array([True, False]))
        >>> true = Sized(np.array([4.0, 20.0]), np.array([True, False]))
        >>> [(c.low, c.recall, c.precision) for c in by_size(predicted, true, (6,))]
        [(0.0, 1.0, 1.0), (6, 0.0, 0.0)]
    """
    classes = []
    for low, high in itertools.pairwise([0.0, *edges, float("inf")]):
        counts: list[int] = []
        for side in (true, predicted):
            inside = (side.sizes >= low) & (side.sizes < high)
            counts += [int(np.count_nonzero(inside)), int(np.count_nonzero(inside & side.matched))]
        classes.append(SizeClass(low, high, *counts))
    return tuple(classes)


@dataclass(frozen=True)
class ScoreCurve:
    """Precision and recall of the clefts of at least each score, from the highest score down.

    Attributes:
        scores: Every score that occurs, descending.
        precision: Of the clefts of at least that score.
        recall: The same.
    """

    scores: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, scores: Floats, matched: Mask, true: int) -> ScoreCurve:
        """Rank the predicted clefts by their scores; clefts of one score enter together.

        Every cleft keeps the partner that it has when all are taken.

        Args:
            scores: Of each predicted cleft.
            matched: Whether each has a partner.
            true: How many true clefts there are.

        Example:
            >>> curve = ScoreCurve.of(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
            >>> curve.precision.round(2).tolist(), curve.recall.tolist(), round(curve.average_precision, 3)
            ([1.0, 0.5, 0.67], [0.5, 0.5, 1.0], 0.833)
        """
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, np.int64)
        right = np.cumsum(matched[order])[last]
        return cls(ranked[last], right / (last + 1), right / max(1, true))

    @property
    def average_precision(self) -> float:
        """The mean of precision over recall, each step's precision at its end; 0 where nothing is found."""
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())
