"""One training example: raw, and what a network shall say of every voxel, in one array.

A *target* is `y_b` of Eq. 6 (in (0, 1] inside clefts, 0 outside; negative there where the map is signed) where somebody
labelled the voxel, and `UNKNOWN` where nobody did. Class and distance are both read off it, so that `distance > 0` exactly on
clefts whatever happens to a patch, and a volume keeps one array of targets instead of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cleftnet.volumes import CLEFT, NOT_CLEFT, UNLABELLED, Array

Float32 = npt.NDArray[np.float32]

UNKNOWN = -1.0  # the target of a voxel that nobody labelled; a signed distance stays above


class Patch(NamedTuple):
    """Raw and targets of one box, axes z y x, both of one shape.

    Attributes:
        raw: float32 in [0, 1].
        target: float32: the tanh distance, in [0, 1] or signed in (-1, 1], positive exactly on clefts; or `UNKNOWN`.

    Example:
        >>> target = np.array([[[0, 0.76, UNKNOWN]]], np.float32)
        >>> Patch(np.zeros_like(target), target).classes.tolist()
        [[[0, 1, 2]]]
    """

    raw: Float32
    target: Float32

    @property
    def classes(self) -> npt.NDArray[np.uint8]:
        """The class of each voxel, uint8: 0 not cleft, 1 cleft, 2 unlabelled."""
        found = np.full(self.target.shape, NOT_CLEFT, np.uint8)
        np.putmask(found, self.target > 0, CLEFT)
        np.putmask(found, self.target <= UNKNOWN, UNLABELLED)
        return found

    @property
    def distance(self) -> Float32:
        """The tanh distance map, 0 where nobody labelled: in [0, 1] and 0 outside clefts, or signed in (-1, 1]."""
        return np.where(self.target <= UNKNOWN, np.float32(0), self.target)

    def each(self, change: Callable[[Array], Array]) -> Patch:
        """Return the patch with the same change made to both of its arrays."""
        return Patch(change(self.raw), change(self.target))
