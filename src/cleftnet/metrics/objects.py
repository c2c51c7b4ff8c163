"""Scores over whole clefts: how many there are, were predicted, and are matched one to one.

A neuroscientist counts synapses, not voxels. `Instances` are the clefts of one side, `metrics.pairing` says which predicted one
is which true one, and `ObjectScores` what follows from that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.metrics.breakdown import ScoreCurve, SizeClass
from cleftnet.metrics.voxels import Mask
from cleftnet.volumes.volume import Array, is_cleft

CONNECTIVITY: Final = 26  # voxels that touch at a corner belong to one cleft

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Instances:
    """The voxels of all clefts of a volume, each with the id of its cleft; no room is spent on the background.

    Args:
        index: Flat indices of the voxels, ascending.
        ids: The cleft each belongs to.

    Example:
        >>> found = Instances.of_labels(np.array([[[7, 7, 0, 5]]]))
        >>> found.index.tolist(), found.rows.tolist(), found.sizes.tolist()
        ([0, 1, 3], [1, 1, 0], [1, 2])
    """

    index: npt.NDArray[np.int64]
    ids: npt.NDArray[np.integer]

    @classmethod
    def of_labels(cls, labels: Array, valid: Mask | None = None) -> Instances:
        """Take clefts from their ids, background 0, invalid voxels left out; see `or_components`."""
        if labels.dtype == np.bool_:
            return cls.of_mask(labels, valid)
        cleft = is_cleft(labels)
        index = np.flatnonzero(cleft if valid is None else cleft & valid)
        return cls(index, labels.ravel()[index]).or_components(cleft, valid)

    @classmethod
    def of_mask(cls, mask: Mask, valid: Mask | None = None) -> Instances:
        """Take the 26-connected components of a mask as clefts.

        Components are found first and cut to the valid voxels after, so that an unlabelled hole does not split one.
        """
        # as uint8: cc3d 4.1.1 fails on bool masks that are one voxel wide along two axes; no slower on clefts
        labels = cc3d.connected_components(mask.view(np.uint8), connectivity=CONNECTIVITY)
        index = np.flatnonzero(mask if valid is None else mask & valid)
        return cls(index, labels.ravel()[index])

    def or_components(self, mask: Mask, valid: Mask | None = None) -> Instances:
        """Return these clefts, or, where all share one id, the components of the mask: such ids only say cleft or not."""
        return Instances.of_mask(mask, valid) if np.all(self.ids == self.ids[:1]) else self

    def __len__(self) -> int:
        return self._numbered[0]

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """The place of each voxel's cleft among all clefts, which come by ascending id here and in what follows."""
        return self._numbered[1]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many voxels each cleft has."""
        return np.bincount(self.rows, minlength=len(self))

    def means(self, values: Array) -> Floats:
        """Return the mean of some values over each cleft.

        Args:
            values: One for each voxel of `index`.
        """
        return np.bincount(self.rows, values, len(self)) / self.sizes

    def centres(self, shape: Sequence[int]) -> Floats:
        """Return the mean place of each cleft's voxels, z y x in voxels; a row each.

        Args:
            shape: Of the volume that `index` counts in.
        """
        return np.stack([self.means(axis) for axis in np.unravel_index(self.index, shape)], axis=1)

    @functools.cached_property
    def _numbered(self) -> tuple[int, npt.NDArray[np.intp]]:
        ids, rows = np.unique(self.ids, return_inverse=True)
        return ids.size, rows


@dataclass(frozen=True)
class ObjectScores:
    """How many clefts there are, were predicted, and are matched one to one.

    Attributes:
        true: True clefts.
        predicted: Predicted ones.
        matched: Pairs.
        splits: True clefts in several pieces: the predicted clefts that meet one, less one, summed.
        merges: Predicted clefts over several true ones, counted the same way.
        by_size: The counts by volume in nm³; empty where not asked for.
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
        """Count the clefts of several volumes together; curves are not joined.

        Args:
            parts: With the same classes of sizes.
        """
        counts = (
            sum(getattr(one, name) for one in parts) for name in ("true", "predicted", "matched", "splits", "merges")
        )
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
        """Harmonic mean of precision and recall, 0 where nothing matches; None where there is no cleft on either side."""
        return 2 * self.matched / (self.predicted + self.true) if self.predicted + self.true else None

    @property
    def average_precision(self) -> float | None:
        """Area under the curve of precision over recall; None where there is no curve, or no true cleft."""
        return self.curve.average_precision if self.curve is not None and self.true else None
