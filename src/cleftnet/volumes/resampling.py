"""Shows a volume at another voxel size, read box by box in bounded memory; every box equals the same part of the whole.

A voxel of a coarser grid is the mean over its extent (an area average, which filters what the grid cannot show); a voxel of a
finer grid is interpolated linearly at its center. Labels take the id that fills most of the voxel, or the id at its center.
Positions in nm stay what they are: the center of voxel i lies at `offset + i * size` on both grids (docs/data.md). Where the
sizes are no multiples of each other, the center of gravity of a mean may lie a tenth of a voxel off its place, without drift.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.volumes.volume import Array, Slices, Volume

_SAME_VOX = 0.01  # grids that differ by less than this share of a voxel over their whole length are one grid

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VoxelGrid:
    """Where the voxels of a volume lie.

    Args:
        shape: Sides in voxels, z y x.
        voxel_size_nm: Voxel size, z y x.
        offset_nm: Position of the center of the first voxel, z y x.
    """

    shape: IntZYX
    voxel_size_nm: FloatZYX
    offset_nm: FloatZYX = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, volume: Volume) -> VoxelGrid:
        """Return the grid of a volume.

        Raises:
            InputError: when the volume has no voxel size.
        """
        return cls(volume.shape, volume.voxel_size_nm, volume.offset_nm)

    @property
    def box(self) -> Box:
        """The whole grid as a box."""
        return Box.of(self.shape)

    @property
    def corner_nm(self) -> FloatZYX:
        """Position of the corner at which the first voxel begins, z y x."""
        z, y, x = (center - size / 2 for center, size in zip(self.offset_nm, self.voxel_size_nm, strict=True))
        return z, y, x

    def at(self, voxel_size_nm: FloatZYX) -> VoxelGrid:
        """Return the grid of another voxel size that begins at the same corner and covers the same space.

        The last voxels may reach beyond it, by less than one voxel.

        Example:
            >>> VoxelGrid((20, 1000, 1000), (50, 4, 4)).at((50, 4.6, 4.6)).shape
            (20, 870, 870)
            >>> VoxelGrid((20, 1000, 1000), (50, 4, 4)).at((50, 8, 8)).offset_nm
            (0.0, 2.0, 2.0)
        """
        lengths = [n * old / new for n, old, new in zip(self.shape, self.voxel_size_nm, voxel_size_nm, strict=True)]
        z, y, x = (max(1, math.ceil(length - _SAME_VOX)) for length in lengths)
        oz, oy, ox = (corner + size / 2 for corner, size in zip(self.corner_nm, voxel_size_nm, strict=True))
        return VoxelGrid((z, y, x), voxel_size_nm, (oz, oy, ox))


@dataclass(frozen=True)
class Resampling:
    """The map of voxels from one grid to another; beyond its border, the source continues with its outermost voxels.

    Every voxel of the target depends on its position alone, to the last bit, whatever box it is computed in.

    Args:
        source: The grid that voxels are taken from.
        target: The grid that voxels are computed on.
        labels: Whether the voxels are ids, which are not averaged.

    Example:
        >>> grid = VoxelGrid((1, 1, 6), (40, 4, 4))
        >>> resampling = Resampling(grid, grid.at((40, 4, 8)))
        >>> str(resampling.reads(Box((0, 0, 1), (1, 1, 3))))
        '0:1,0:1,2:6'
        >>> resampling(np.array([[[0, 2, 4, 6, 8, 10]]], np.uint8), Box.of((1, 1, 6)), Box.of((1, 1, 3))).tolist()
        [[[1, 5, 9]]]
    """

    source: VoxelGrid
    target: VoxelGrid
    labels: bool = False

    @functools.cached_property
    def _axes(self) -> list[_Axis]:
        rows = zip(
            self.source.shape,
            self.source.voxel_size_nm,
            self.target.voxel_size_nm,
            self.source.corner_nm,
            self.target.corner_nm,
            strict=True,
        )
        return [_Axis(n, new / old, round((there - here) / old, 6), self.labels) for n, old, new, here, there in rows]

    def reads(self, box: Box) -> Box:
        """Return the box of the source that the voxels of a box of the target are computed from."""
        spans = [axis.span(a, b) for axis, a, b in zip(self._axes, box.start, box.stop, strict=True)]
        (z0, z1), (y0, y1), (x0, x1) = spans
        return Box((z0, y0, x0), (z1, y1, x1))

    def __call__(self, values: Array, read: Box, box: Box) -> Array:
        """Return the voxels of a box of the target, in the type of the values.

        Args:
            values: Voxels of the source, `z y x`.
            read: Where they lie in the source; it contains `reads(box)`.
            box: The box of the target.
        """
        taps = [
            axis.taps(a, b).relative_to(low)
            for axis, a, b, low in zip(self._axes, box.start, box.stop, read.start, strict=True)
        ]
        if not self.labels:
            return _mean(values, taps)
        if all(len(axis.indices) == 1 for axis in taps):
            z, y, x = (axis.indices[0] for axis in taps)
            return np.asarray(values[np.ix_(z, y, x)])
        return _majority(values, taps)


@dataclass(frozen=True)
class _Taps:
    """The voxels of the source, and their weights, that make each voxel of a range of the target along one axis.

    Args:
        indices: `taps n`: indices of the source.
        weights: `taps n`: their weights, which sum to 1 over the taps.
    """

    indices: Indices
    weights: Weights

    def relative_to(self, low: int) -> _Taps:
        return _Taps(self.indices - low, self.weights)

    def apply(self, values: Array, axis: int) -> Array:
        """Return the weighted sums along one axis; one tap after the other, so that no sum depends on its neighbors."""
        if len(self.weights) == 1 and (self.weights == 1).all():
            return np.asarray(values.take(self.indices[0], axis))
        total: Array | None = None
        shape = [-1 if n == axis else 1 for n in range(values.ndim)]
        for indices, weights in zip(self.indices, self.weights, strict=True):
            part = values.take(indices, axis)
            part *= weights.reshape(shape)
            if total is None:
                total = part
            else:
                total += part
        assert total is not None
        return total


@dataclass(frozen=True)
class _Axis:
    """The map of voxels along one axis.

    Args:
        length: Number of voxels of the source.
        step: Voxels of the source for each voxel of the target.
        shift: Where the target begins, in voxels of the source.
        labels: Whether the voxels are ids.
    """

    length: int
    step: float
    shift: float
    labels: bool

    @property
    def _same(self) -> bool:
        """Whether both grids are the same along this axis, up to a whole number of voxels."""
        return abs(self.step - 1) * self.length < _SAME_VOX and abs(self.shift - round(self.shift)) < _SAME_VOX

    def taps(self, start: int, stop: int) -> _Taps:
        """Return the taps of the target's voxels from start to stop."""
        at = np.arange(start, stop)
        if self._same:
            first, weights = at + round(self.shift), np.ones((1, len(at)))
        elif self.step > 1:
            low = self.shift + at * self.step
            first = np.floor(low)
            cells = first + np.arange(math.ceil(self.step) + 1)[:, None]
            weights = (np.minimum(low + self.step, cells + 1) - np.maximum(low, cells)).clip(min=0) / self.step
        else:
            center = self.shift + (at + 0.5) * self.step - 0.5
            first = np.floor(center + 0.5) if self.labels else np.floor(center)
            weights = np.ones((1, len(at))) if self.labels else np.stack([first + 1 - center, center - first])
        indices = (first.astype(np.int64) + np.arange(len(weights))[:, None]).clip(0, self.length - 1)
        return _Taps(indices, weights.astype(np.float32))

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return first and last + 1 of the source's voxels that the target's voxels from start to stop need."""
        ends = [self.taps(at, at + 1).indices for at in (start, stop - 1)]
        return int(ends[0].min()), int(ends[1].max()) + 1


def _mean(values: Array, taps: list[_Taps]) -> Array:
    """Return weighted means, section by section: the plane first, then across sections.

    No more sections are held as floats than one section of the result needs.
    """
    dtype = values.dtype
    exact = np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64
    across, rows, columns = taps

    @functools.lru_cache(maxsize=len(across.indices))
    def plane(z: int) -> Array:
        section = values[z].astype(exact)
        for axis, along in enumerate((rows, columns)):
            section = along.apply(section, axis)
        return np.asarray(section)

    result = np.empty((across.indices.shape[1], rows.indices.shape[1], columns.indices.shape[1]), dtype)
    for n, (indices, weights) in enumerate(zip(across.indices.T, across.weights.T, strict=True)):
        section = np.multiply(plane(indices[0]), weights[0])
        for z, weight in zip(indices[1:], weights[1:], strict=True):
            section += plane(z) * weight
        result[n] = np.rint(section) if dtype.kind in "iu" else section
    return result


def _majority(values: Array, taps: list[_Taps]) -> Array:
    """Return the id that fills most of each voxel; of equal shares, the larger id (so unlabeled voxels stay unlabeled)."""
    ids, dense = np.unique(values, return_inverse=True)
    dense = dense.reshape(values.shape)
    shape = [along.indices.shape[1] for along in taps]
    best, result = np.zeros(shape, np.float32), np.full(shape, ids[0])
    for number, where in enumerate(ndimage.find_objects(dense + 1)):
        reached = [_reached(along, part) for along, part in zip(taps, where, strict=True)]
        inside = tuple(slice(*ends) for ends in reached)
        share = (dense[where] == number).astype(np.float32)
        for axis, (along, part, ends) in enumerate(zip(taps, where, reached, strict=True)):
            share = _share(along, share, axis, part, ends)
        wins = (share >= best[inside]) & (share > 0)
        best[inside][wins] = share[wins]
        result[inside][wins] = ids[number]
    return result


def _reached(taps: _Taps, part: slice) -> tuple[int, int]:
    """Return the range of the target whose taps lie in a part of the source."""
    hit = np.flatnonzero(((taps.indices >= part.start) & (taps.indices < part.stop)).any(axis=0))
    return (int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, 0)


def _share(taps: _Taps, share: Array, axis: int, part: slice, ends: tuple[int, int]) -> Array:
    """Return the weighted sums of a part of the source along one axis; the source is 0 outside the part."""
    indices, weights = taps.indices[:, slice(*ends)], taps.weights[:, slice(*ends)]
    inside = (indices >= part.start) & (indices < part.stop)
    clipped = indices.clip(part.start, part.stop - 1) - part.start
    return _Taps(clipped, np.where(inside, weights, np.float32(0)).astype(np.float32)).apply(share, axis)


@dataclass(frozen=True)
class _ResampledStore:
    """The store of a resampled volume, which reads what a box needs of its parent."""

    parent: Volume
    resampling: Resampling

    @property
    def shape(self) -> IntZYX:
        return self.resampling.target.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parent.dtype

    def __getitem__(self, index: Slices) -> Array:
        (z0, z1, _), (y0, y1, _), (x0, x1, _) = (s.indices(n) for s, n in zip(index, self.shape, strict=True))
        box = Box((z0, y0, x0), (z1, y1, x1))
        if box.empty:
            return np.empty(box.shape, self.dtype)
        read = self.resampling.reads(box)
        return self.resampling(self.parent[read], read, box)


def resampled(volume: Volume, target: VoxelGrid | FloatZYX, *, labels: bool = False) -> Volume:
    """Show a volume at another voxel size, lazily: a box that is read computes its voxels, and no others.

    Args:
        volume: Gray values, probabilities, logits, or labels with `labels=True`.
        target: The voxel size to show it at, in nm z y x; or a grid, to put it onto the grid of another volume.
        labels: Whether the voxels are ids, which are not averaged.

    Returns:
        A volume of the same type and place, or the volume itself where it lies on this grid already.

    Raises:
        InputError: when the volume has no voxel size, or the size to show it at is not positive.

    Example:
        >>> volume = Volume(np.array([[[0, 30, 60]]], np.uint8), (40, 4, 6))
        >>> coarse = resampled(volume, (40, 4, 9))
        >>> coarse.read().tolist(), coarse.voxel_size_nm
        ([[[10, 50]]], (40, 4, 9))
    """
    source = VoxelGrid.of(volume)
    if not isinstance(target, VoxelGrid):
        if not all(side > 0 for side in target):
            raise InputError(f"voxel size {tuple(target)} nm must be positive on z y x")
        target = source.at(target)
    if source == target:
        return volume
    sides = ",".join(f"{side:g}" for side in target.voxel_size_nm)
    return replace(
        volume,
        store=_ResampledStore(volume, Resampling(source, target, labels)),
        voxel_size=target.voxel_size_nm,
        offset_nm=target.offset_nm,
        address=f"{volume.address} at {sides} nm",
    )
