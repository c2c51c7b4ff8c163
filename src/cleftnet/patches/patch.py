"""One training example: raw and targets.

The *target* of a labelled voxel is `y_b` of Eq. 6: in (0, 1] inside clefts and 0 outside, or negative outside where the
map is signed. That of an unlabelled voxel is `UNKNOWN`. Class and distance both follow from it, so that `distance > 0`
exactly on clefts whatever augmentation does, and a volume has one array of targets instead of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cleftnet.volumes import CLEFT, NOT_CLEFT, UNLABELLED, Array

Float32 = npt.NDArray[np.float32]

UNKNOWN = -1.0  # target of an unlabelled voxel; signed distances stay above
NO_TISSUE = 255  # tissue class of a voxel whose class is not known


class Patch(NamedTuple):
    """Raw and targets of one box, axes z y x, all of one shape.

    Attributes:
        raw: float32 in [0, 1].
        target: float32: the tanh distance, in [0, 1] or signed in (-1, 1], positive exactly on clefts; or `UNKNOWN`.
        tissue: uint8 classes of other tissue, or `NO_TISSUE`; None where none are labelled.

    Example:
        >>> target = np.array([[[0, 0.76, UNKNOWN]]], np.float32)
        >>> Patch(np.zeros_like(target), target).classes.tolist()
        [[[0, 1, 2]]]
    """

    raw: Float32
    target: Float32
    tissue: npt.NDArray[np.uint8] | None = None

    @property
    def classes(self) -> npt.NDArray[np.uint8]:
        """The class of each voxel, uint8: 0 not cleft, 1 cleft, 2 unlabelled."""
        found = np.full(self.target.shape, NOT_CLEFT, np.uint8)
        np.putmask(found, self.target > 0, CLEFT)
        np.putmask(found, self.target <= UNKNOWN, UNLABELLED)
        return found

    @property
    def distance(self) -> Float32:
        """The tanh distance map, 0 on unlabelled voxels: in [0, 1] and 0 outside clefts, or signed in (-1, 1]."""
        return np.where(self.target <= UNKNOWN, np.float32(0), self.target)

    def each(self, change: Callable[[Array], Array]) -> Patch:
        """Return the patch with a change applied to raw and to all targets."""
        tissue = None if self.tissue is None else change(self.tissue)
        return Patch(change(self.raw), change(self.target), tissue)
