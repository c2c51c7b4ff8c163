"""A labelled volume that patches are cut from; outside its border, raw and targets are mirrored.

Both are mirrored together, so they stay aligned and every voxel of a rotated patch is trained on. Leaving the mirrored
part unlabelled would train less near the borders, where many patches lie, and its share would reveal the distance to
the border.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.patches.patch import Patch
from cleftnet.patches.target_volume import target_volume
from cleftnet.volumes import Array, Volume, check_raw_type, intensity


@dataclass(frozen=True)
class LabelledVolume:
    """Raw and targets of one shape, both read box by box.

    Args:
        raw: Gray values: unsigned integers, or floats in 0-1.
        target: float32 distance or `UNKNOWN`, as returned by `target_volume`.
        tissue: uint8 classes of other tissue; None where none are labelled.
    """

    raw: Volume
    target: Volume
    tissue: Volume | None = None

    @classmethod
    def read(
        cls,
        raw: Volume,
        labels: Volume,
        tissue: Volume | None = None,
        *,
        scale_nm: float | None = None,
        signed: bool = False,
    ) -> LabelledVolume:
        """Compute the targets of a label volume (Eq. 6), or take them from the cache; raw is not read.

        Args:
            raw: Gray values of an unsigned integer type, or floats in 0-1.
            labels: Instance ids of the same shape, background 0.
            tissue: uint8 classes of other tissue, of the same shape.
            scale_nm: None measures boundary distance in voxels, as printed; a number divides the distance in nm.
            signed: Whether distances outside clefts are measured too, as negative numbers.

        Raises:
            InputError: when the shapes differ, or raw or tissue has another type.
        """
        if raw.shape != labels.shape:
            raise InputError(
                f"{raw.address} is {raw.shape} but its labels {labels.address} are {labels.shape} (z y x voxels); give "
                f"arrays of one shape, or labels whose offset places them"
            )
        if tissue is not None and (tissue.shape != raw.shape or tissue.dtype != np.uint8):
            raise InputError(
                f"tissue {tissue.address} is {tissue.dtype} of {tissue.shape} voxels (z y x); expected uint8 of "
                f"{raw.shape}, as the labels"
            )
        check_raw_type(raw.dtype)  # before a worker process reads its first patch
        return cls(raw, target_volume(labels, scale_nm=scale_nm, signed=signed), tissue)

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        return self.raw.shape

    @property
    def raw_bytes(self) -> int:
        """Memory that all of raw takes, in bytes."""
        return self.raw.box.voxels * self.raw.dtype.itemsize

    def in_memory(self) -> LabelledVolume:
        """Return this volume with raw read into memory."""
        return replace(self, raw=replace(self.raw, store=self.raw.read()))

    def patch(self, box: Box) -> Patch:
        """Read one patch: raw as float32 in 0-1, mirrored at the border where the box reaches outside the volume.

        Args:
            box: Any box within the sections of the volume.

        Example:
            >>> row = np.array([[[1, 2, 3]]], np.uint8)
            >>> volume = LabelledVolume.read(Volume(row), Volume(row))
            >>> (volume.patch(Box((0, 0, -2), (1, 1, 3))).raw * 255).round().tolist()
            [[[3.0, 2.0, 1.0, 2.0, 3.0]]]
        """
        tissue = None if self.tissue is None else _mirrored(self.tissue, box)
        return Patch(intensity(_mirrored(self.raw, box)), _mirrored(self.target, box), tissue)


def _mirrored(volume: Volume, box: Box) -> Array:
    """Read a box that may reach outside in the plane, where the volume is mirrored about its first and last voxel."""
    if volume.box.contains(box):
        return volume[box]
    (z0, *low), (z1, *high) = box.start, box.stop
    rows, columns = (_mirrored_index(a, b, n) for a, b, n in zip(low, high, volume.shape[1:], strict=True))
    first = (z0, int(rows.min()), int(columns.min()))
    inside = volume[Box(first, (z1, int(rows.max()) + 1, int(columns.max()) + 1))]
    return inside[:, (rows - first[1])[:, None], columns - first[2]]


def _mirrored_index(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return the index of the voxel that each place from `start` to `stop` mirrors."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    place = np.arange(start, stop) % period
    return np.asarray(np.minimum(place, period - place), np.intp)
