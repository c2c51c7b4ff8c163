"""Scores over whole clefts: how many are true, predicted and matched, by size and by the score that ranks them.

Neuroscientists count synapses, not voxels. `Instances` are the clefts of one volume, `metrics.matching` decides which predicted
cleft is which true one, and the classes below hold the counts that follow.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.volumes import Array, is_cleft

CONNECTIVITY: Final = 26  # voxels that touch at a corner belong to one cleft
SIZE_EDGES_NM3 = (1e6, 3e6, 1e7)  # a cleft of 400 × 300 × 30 nm has 3.6·10⁶


def components(mask: Mask) -> tuple[npt.NDArray[np.integer], int]:
    """Return the 26-connected components of a mask, numbered from 1, and how many there are."""
    # as uint8: cc3d 4.1.1 fails on bool masks that are one voxel wide along two axes; no slower on clefts
    labels, number = cc3d.connected_components(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=CONNECTIVITY, return_N=True
    )
    return labels, int(number)


class CleftMeasures(NamedTuple):
    """Measures of the clefts of one side, a row each.

    Attributes:
        sizes: Voxels of each cleft.
        centers: Mean position of its voxels, z y x in voxels.
        means: Mean of the values that rank it; None where nothing ranks.
    """

    sizes: Floats
    centers: Floats
    means: Floats | None = None


@dataclass(frozen=True)
class Instances:
    """The voxels of all clefts of a volume, each with the id of its cleft; background takes no memory.

    Clefts are numbered by ascending id, from 0; `rows`, `sizes`, `means` and `centers` follow that order.

    Args:
        index: Flat indices of the voxels, ascending.
        ids: The id of each voxel's cleft.

    Example:
        >>> clefts = Instances.of_labels(np.array([[[7, 7, 0, 5]]]))
        >>> clefts.index.tolist(), clefts.rows.tolist(), clefts.sizes.tolist()
        ([0, 1, 3], [1, 1, 0], [1, 2])
    """

    index: Integers
    ids: npt.NDArray[np.integer]

    @classmethod
    def of_labels(cls, labels: Array, valid: Mask | None = None) -> Instances:
        """Take clefts from ids (background 0) without invalid voxels; see `or_components` for a single id."""
        if labels.dtype == np.bool_:
            return cls.of_mask(labels, valid)
        cleft = is_cleft(labels)
        index = np.flatnonzero(cleft if valid is None else cleft & valid)
        return cls(index, labels.ravel()[index]).or_components(cleft, valid)

    @classmethod
    def of_mask(cls, mask: Mask, valid: Mask | None = None) -> Instances:
        """Take the 26-connected components of a mask as clefts.

        Components are labeled first and cut to the valid voxels afterwards, so that an unlabeled hole does not split one.
        """
        labels, _ = components(mask)
        index = np.flatnonzero(mask if valid is None else mask & valid)
        return cls(index, labels.ravel()[index])

    def or_components(self, mask: Mask, valid: Mask | None = None) -> Instances:
        """Return these clefts, or the components of the mask where all voxels share one id, which only says cleft or not."""
        return Instances.of_mask(mask, valid) if np.all(self.ids == self.ids[:1]) else self

    def __len__(self) -> int:
        return self._numbered[0]

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """The number of each voxel's cleft."""
        return self._numbered[1]

    @property
    def sizes(self) -> Integers:
        """Voxels of each cleft."""
        return np.bincount(self.rows, minlength=len(self))

    def means(self, values: Array) -> Floats:
        """Return the mean over each cleft of values given for each voxel of `index`."""
        return np.bincount(self.rows, values, len(self)) / self.sizes

    def centers(self, shape: Sequence[int]) -> Floats:
        """Return the mean position of each cleft's voxels, a row z y x in voxels.

        Args:
            shape: Sides of the volume that `index` counts in.
        """
        return np.stack([self.means(axis) for axis in np.unravel_index(self.index, shape)], axis=1)

    @functools.cached_property
    def _numbered(self) -> tuple[int, npt.NDArray[np.intp]]:
        ids, rows = np.unique(self.ids, return_inverse=True)
        return ids.size, rows


class MatchedSizes(NamedTuple):
    """The clefts of one side, predicted or true.

    Attributes:
        sizes: Size of each cleft, such as its volume in nm³.
        matched: Whether each cleft is matched with one of the other side.
    """

    sizes: Floats
    matched: Mask


@dataclass(frozen=True)
class SizeClass:
    """Clefts of one class of sizes: recall over the true clefts in it, precision over the predicted clefts in it.

    Attributes:
        low: Smallest size of the class.
        high: Upper end of the class, not included.
        true: True clefts of such a size.
        found: True clefts of such a size that are matched, whatever the size of their partner.
        predicted: Predicted clefts of such a size.
        right: Predicted clefts of such a size that are matched.
    """

    low: float
    high: float
    true: int
    found: int
    predicted: int
    right: int

    @classmethod
    def total(cls, parts: Sequence[SizeClass]) -> SizeClass:
        """Add up the counts that several volumes have for one class."""
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


def by_size(
    predicted: MatchedSizes, true: MatchedSizes, edges: Sequence[float] = SIZE_EDGES_NM3
) -> tuple[SizeClass, ...]:
    """Count matches by classes of sizes.

    Args:
        predicted: The predicted clefts.
        true: The true clefts, with sizes in the same unit.
        edges: Sizes at which one class ends and the next begins, ascending. The first class begins at 0, the last has no end.

    Example:
        >>> predicted = MatchedSizes(np.array([5.0, 9.0]), np.array([True, False]))
        >>> true = MatchedSizes(np.array([4.0, 20.0]), np.array([True, False]))
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
    """Precision and recall over the predicted clefts of at least each score, from the highest score down.

    Attributes:
        scores: Every score that occurs, descending.
        precision: Matched share of the predicted clefts of at least that score.
        recall: True clefts matched by predicted clefts of at least that score, as a share of all true clefts.
    """

    scores: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, scores: Floats, matched: Mask, true: int) -> ScoreCurve:
        """Rank predicted clefts by their scores; clefts of equal score enter together.

        Every cleft keeps the partner that it has when all clefts are taken.

        Args:
            scores: Score of each predicted cleft.
            matched: Whether each predicted cleft is matched.
            true: Number of true clefts.

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
        """Mean of precision over recall, with each step's precision taken at its end; 0 where nothing is matched."""
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())


@dataclass(frozen=True)
class ObjectScores:
    """Counts of true, predicted and matched clefts, and the scores that follow from them.

    Attributes:
        true: True clefts.
        predicted: Predicted clefts.
        matched: Pairs of a predicted and a true cleft, one to one.
        splits: Predicted clefts beyond the first that share voxels with a true cleft, summed over true clefts.
        merges: True clefts beyond the first that share voxels with a predicted cleft, summed over predicted clefts.
        by_size: The counts by volume in nm³; empty where they were not counted.
        curve: Precision and recall over the mean probability of the predicted clefts; None for a mask or labels.
    """

    true: int
    predicted: int
    matched: int
    splits: int = 0
    merges: int = 0
    by_size: tuple[SizeClass, ...] = field(default=(), repr=False)
    curve: ScoreCurve | None = field(default=None, repr=False, compare=False)

    @classmethod
    def total(cls, parts: Sequence[ObjectScores]) -> ObjectScores:
        """Add up the counts of several volumes that have the same classes of sizes; curves are not joined."""
        names = ("true", "predicted", "matched", "splits", "merges")
        counts = (sum(getattr(one, name) for one in parts) for name in names)
        classes = zip(*(one.by_size for one in parts), strict=True)
        return replace(cls(*counts), by_size=tuple(SizeClass.total(same) for same in classes))

    @property
    def precision(self) -> float | None:
        """Matched share of the predicted clefts; None where none is predicted."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Matched share of the true clefts; None where there is none."""
        return self.matched / self.true if self.true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0 where nothing matches; None where neither side has a cleft."""
        return 2 * self.matched / (self.predicted + self.true) if self.predicted + self.true else None

    @property
    def average_precision(self) -> float | None:
        """Area under the curve of precision over recall; None where there is no curve or no true cleft."""
        return self.curve.average_precision if self.curve is not None and self.true else None
