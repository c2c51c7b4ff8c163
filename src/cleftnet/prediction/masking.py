"""Looks up a mask, whose voxels may be larger than those of raw, for any box of raw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import Volume


@dataclass(frozen=True)
class PredictionMask:
    """A mask in the coordinates of raw: a voxel of raw has the value of the mask at its center, and False outside the mask.

    Args:
        volume: Nonzero where a prediction is wanted.
        raw: The volume to predict.

    Raises:
        InputError: when a voxel size is missing and the shapes differ.

    Example:
        >>> raw = Volume(np.zeros((2, 4, 4), np.uint8), (40, 4, 4))
        >>> coarse = Volume(np.array([[[0, 1]]], np.uint8), (80, 16, 8))
        >>> PredictionMask(coarse, raw)[Box((0, 0, 0), (1, 1, 4))].tolist()
        [[[False, False, True, True]]]
    """

    volume: Volume
    raw: Volume

    def __post_init__(self) -> None:
        if not self._placed and self.volume.shape != self.raw.shape:
            raise InputError(
                f"the mask {self.volume.address} has no voxel size, and shape {self.volume.shape} where raw has "
                f"{self.raw.shape}; use a mask with a voxel size, or one of the shape of raw"
            )

    @property
    def _placed(self) -> bool:
        return self.volume.voxel_size is not None and self.raw.voxel_size is not None

    def __getitem__(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return True where a prediction is wanted, in a box of raw."""
        if not self._placed:
            return np.asarray(self.volume[box] != 0)
        wanted = np.zeros(box.shape, np.bool_)
        places = [self._places(box, axis) for axis in range(3)]
        inside = [(place >= 0) & (place < n) for place, n in zip(places, self.volume.shape, strict=True)]
        covered = [place[within] for place, within in zip(places, inside, strict=True)]
        if all(len(place) for place in covered):
            z, y, x = covered
            values = self.volume[Box((z[0], y[0], x[0]), (z[-1] + 1, y[-1] + 1, x[-1] + 1))] != 0
            wanted[np.ix_(*inside)] = values[np.ix_(z - z[0], y - y[0], x - x[0])]
        return wanted

    def _places(self, box: Box, axis: int) -> npt.NDArray[np.int64]:
        """Return which voxel of the mask contains the center of each voxel of the box along an axis."""
        centers = np.arange(box.start[axis], box.stop[axis]) + 0.5
        nm = self.raw.offset_nm[axis] - self.volume.offset_nm[axis] + centers * self.raw.voxel_size_nm[axis]
        return np.asarray(np.floor(nm / self.volume.voxel_size_nm[axis]), np.int64)
