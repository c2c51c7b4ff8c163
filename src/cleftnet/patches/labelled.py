"""A labelled volume that any patch can be cut from, also one that reaches outside: there the tissue is mirrored.

Raw and targets are mirrored together, so that they stay aligned and every voxel of a rotated patch teaches something, as
a flipped patch does. Labelling the mirrored part as unknown would teach less near the borders of a volume, where a good
part of all patches lies, and would tell a network by their share how far it is from the border.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.patches.patch import Patch
from cleftnet.patches.target_volume import target_volume
from cleftnet.volumes import Array, Volume, intensity


@dataclass(frozen=True)
class LabelledVolume:
    """Raw and targets of one shape, both read box by box.

    Args:
        raw: Gray values: unsigned integers, or floats in 0-1.
        target: float32, the distance or `UNKNOWN`, as `target_volume` gives it.
    """

    raw: Volume
    target: Volume

    @classmethod
    def read(
        cls, raw: Volume, labels: Volume, *, scale_nm: float | None = None, signed: bool = False
    ) -> LabelledVolume:
        """Augment the labels (Eq. 6), or find them augmented by an earlier run; raw is left where it is.

        Args:
            raw: Any unsigned integer or 0-1 float type.
            labels: Instance ids in the house's convention, of the same shape.
            scale_nm: None measures boundary distance in voxels, as printed; a number in nm divided by it.
            signed: Whether the distance goes on outside clefts, with a minus.

        Raises:
            InputError: when the shapes differ, or raw has another type.
        """
        if raw.shape != labels.shape:
            raise InputError(
                f"{raw.address} is {raw.shape} but its labels {labels.address} are {labels.shape} (z y x voxels); give "
                f"arrays of one shape, or labels whose offset places them"
            )
        intensity(np.empty(0, raw.dtype))  # refuses the type now, not in a worker process at the first patch
        return cls(raw, target_volume(labels, scale_nm=scale_nm, signed=signed))

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        return self.raw.shape

    @property
    def raw_bytes(self) -> int:
        """How much memory all of raw would take."""
        return self.raw.box.voxels * self.raw.dtype.itemsize

    def in_memory(self) -> LabelledVolume:
        """Return the same with raw held in memory."""
        return replace(self, raw=replace(self.raw, store=self.raw.read()))

    def patch(self, box: Box) -> Patch:
        """Cut one patch; raw becomes float32 in 0-1, and what lies outside the volume is mirrored at its border.

        Args:
            box: Any box within the sections of the volume.

        Example:
            >>> row = np.array([[[1, 2, 3]]], np.uint8)
            >>> volume = LabelledVolume.read(Volume(row), Volume(row))
            >>> (volume.patch(Box((0, 0, -2), (1, 1, 3))).raw * 255).round().tolist()
            [[[3.0, 2.0, 1.0, 2.0, 3.0]]]
        """
        return Patch(intensity(_mirrored(self.raw, box)), _mirrored(self.target, box))


def _mirrored(volume: Volume, box: Box) -> Array:
    """Read a box that may reach outside in the plane; there the volume is mirrored about its first and last voxel."""
    if volume.box.contains(box):
        return volume[box]
    (z0, *low), (z1, *high) = box.start, box.stop
    rows, columns = (_mirrored_index(a, b, n) for a, b, n in zip(low, high, volume.shape[1:], strict=True))
    first = (z0, int(rows.min()), int(columns.min()))
    there = volume[Box(first, (z1, int(rows.max()) + 1, int(columns.max()) + 1))]
    return there[:, (rows - first[1])[:, None], columns - first[2]]


def _mirrored_index(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return which voxel of an axis stands at each place from `start` to `stop`."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    place = np.arange(start, stop) % period
    return np.asarray(np.minimum(place, period - place), np.intp)
