"""Measures the parts of synapses that lie in one block: sums that add up to the table, and the voxels where blocks meet.

A block labels its own voxels and one more layer on the far side of every axis. Any two voxels that touch, even at a corner, lie
together in what one block labels: the block that holds the smaller of their coordinates along each axis. Every voxel of such a
layer also lies in the nearest layer of the block that owns it, where the two numbers are recognized as one synapse.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import Block, Box, FloatZYX, IntZYX
from cleftnet.metrics.voxels import Floats, Integers
from cleftnet.volumes import Array

DIRECTIONS = 48  # along which extents are measured; the longest comes out at most 5 % short
AHEAD: IntZYX = (1, 1, 1)  # the layer beyond the far sides, in voxels

# Columns of `BlockParts.sums`: voxels; coordinates from the block's first voxel, and their products; columns of voxels along
# each axis, counted as often as the synapse is entered along it; probability.
COUNT, POSITION, PRODUCTS, COLUMNS, PROBABILITY = 0, slice(1, 4), slice(4, 10), slice(10, 13), 13
MEASURED = ("ids", "first", "sums", "maximum", "bounds", "reach", "appearance")  # of each part
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of axes z y x, as in PRODUCTS


def directions() -> Floats:
    """Return directions spread evenly over the half sphere (a Fibonacci lattice), unit vectors z y x."""
    n = np.arange(DIRECTIONS) + 0.5
    z, turn = n / DIRECTIONS, np.pi * (1 + np.sqrt(5)) * n
    flat = np.sqrt(1 - z**2)
    return np.stack([z, flat * np.cos(turn), flat * np.sin(turn)], axis=1)


@dataclass(frozen=True)
class BlockParts:
    """All parts in one block; arrays have one entry a part, except for those of single voxels.

    Attributes:
        ids: Number of the part in the block, ascending.
        first: Flat index in the whole volume of its first voxel; the largest integer for parts beyond the block, which only
            connect others.
        sums: Sums over its voxels; `COUNT` and the constants after it name the columns.
        maximum: Highest probability.
        bounds: Box in the volume: z y x of its first voxels, then z y x after its last.
        reach: Nearest and farthest voxel center along each of `directions()`, in nm from the volume's first voxel.
        appearance: Sums as in `appearance`; no columns where they are not needed.
        near: Flat indices of the voxels in the block's nearest layers, one entry a voxel.
        near_ids: Their parts.
        ahead: Flat indices of the voxels beyond the block's far sides, one entry a voxel.
        ahead_ids: Their parts.
    """

    ids: Integers
    first: Integers
    sums: Floats
    maximum: Floats
    bounds: Integers
    reach: Floats
    appearance: Floats
    near: Integers
    near_ids: Integers
    ahead: Integers
    ahead_ids: Integers

    @classmethod
    def of(
        cls,
        labels: npt.NDArray[np.integer],
        values: Array,
        block: Block,
        volume: Box,
        size_nm: FloatZYX,
        appearance: Floats | None = None,
    ) -> BlockParts:
        """Measure the parts of one block.

        Args:
            labels: Numbers of the parts, from 1, in the block's write box and the layer ahead.
            values: The prediction in the write box, as it is stored.
            block: The block.
            volume: Box of the whole volume, which begins at 0 0 0.
            size_nm: Voxel size z y x.
            appearance: Sums of each part that lies in the write box, as in `appearance`; None where they are not needed.
        """
        write, number = block.write, int(labels.max(initial=0))
        runs = _VoxelRuns.of(np.ascontiguousarray(labels[tuple(slice(n) for n in write.shape)]), values)
        sums = runs.sums(number)
        sums[:, COLUMNS] = _columns(labels, write.shape, number)
        near, near_ids = _near(labels, block, volume)
        ahead, ahead_ids = _ahead(labels, block, volume)
        first = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(first, runs.ids - 1, _flat(runs.starts, write, volume))
        maximum = np.zeros(number)
        np.maximum.at(maximum, runs.ids - 1, runs.maximum)
        low, high = runs.bounds(number, write.start)
        reach = runs.reach(number, write.start, size_nm)
        ids = np.arange(1, number + 1)
        bounds = np.concatenate([low, high], axis=1)
        looks = np.zeros((number, 0)) if appearance is None else np.zeros((number, appearance.shape[1]))
        if appearance is not None:
            looks[: len(appearance)] = appearance  # parts that lie beyond the block have no voxel to add
        return cls(ids, first, sums, maximum, bounds, reach, looks, near, near_ids, ahead, ahead_ids)

    def keep(self, min_voxels: float, seed: float) -> BlockParts:
        """Leave out parts that reach no other block and are no synapses: too small, or without a seed."""
        meets = np.zeros(len(self.ids), np.bool_)
        meets[np.concatenate([self.near_ids, self.ahead_ids]) - 1] = True
        kept = meets | ((self.sums[:, COUNT] >= min_voxels) & (self.maximum >= seed))
        rows = {name: getattr(self, name)[kept] for name in MEASURED}
        return BlockParts(**rows, near=self.near, near_ids=self.near_ids, ahead=self.ahead, ahead_ids=self.ahead_ids)

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class _VoxelRuns:
    """Runs of voxels along x, from which sums, boxes and extents follow.

    Attributes:
        starts: First voxel, a row z y x counted from the first voxel of the block.
        lengths: Number of voxels.
        ids: Number of the part.
        total: Sum of the probability.
        maximum: Highest probability.
    """

    starts: Integers
    lengths: Integers
    ids: Integers
    total: Floats
    maximum: Floats

    @classmethod
    def of(cls, labels: npt.NDArray[np.integer], values: Array) -> _VoxelRuns:
        voxels = np.flatnonzero(labels)
        begins = np.ones(voxels.size, np.bool_)
        begins[1:] = (np.diff(voxels) != 1) | (voxels[1:] % labels.shape[2] == 0)
        at = np.flatnonzero(begins)
        lengths = np.diff(np.append(at, voxels.size))
        starts = np.stack(np.unravel_index(voxels[at], labels.shape), axis=1)
        ids = labels.ravel()[voxels[at]].astype(np.int64)
        if not at.size:
            return cls(starts, lengths, ids, np.zeros(0), np.zeros(0))
        inside = values.ravel()[voxels]
        if inside.dtype.kind != "f":  # uint8 stands for v / 255; a mask is certain
            inside, scale = inside.astype(np.uint8, copy=False), 255.0 if inside.dtype == np.uint8 else 1.0
        else:
            scale = 1.0
        total = np.add.reduceat(inside, at, dtype=np.float64) / scale
        return cls(starts, lengths, ids, total, np.maximum.reduceat(inside, at) / scale)

    def sums(self, number: int) -> Floats:
        """Return `BlockParts.sums` without the columns of voxels."""
        z, y, x = self.starts.astype(np.float64).T
        n = self.lengths.astype(np.float64)
        last = x + n - 1
        sum_x = (x + last) * n / 2
        sum_xx = _squares(last) - _squares(x - 1)
        weights = [n, z * n, y * n, sum_x, z * z * n, z * y * n, z * sum_x, y * y * n, y * sum_x, sum_xx]
        sums = np.zeros((number, PROBABILITY + 1))
        for column, weight in zip([*range(len(weights)), PROBABILITY], [*weights, self.total], strict=True):
            sums[:, column] = np.bincount(self.ids, weight, number + 1)[1:]
        return sums

    def bounds(self, number: int, start: IntZYX) -> tuple[Integers, Integers]:
        """Return the first corner of every part's box in the volume, and the corner after its last voxel."""
        low = np.full((number, 3), np.iinfo(np.int64).max)
        high = np.zeros((number, 3), np.int64)
        np.minimum.at(low, self.ids - 1, self.starts + start)
        stops = self.starts + start + 1
        stops[:, 2] += self.lengths - 1
        np.maximum.at(high, self.ids - 1, stops)
        return low, high

    def reach(self, number: int, start: IntZYX, size_nm: FloatZYX) -> Floats:
        """Return `BlockParts.reach`; only the two ends of a run can be its nearest and farthest voxel."""
        reach = np.empty((number, 2, DIRECTIONS))
        reach[:, 0], reach[:, 1] = np.inf, -np.inf
        order = np.argsort(self.ids, kind="stable")
        ids = self.ids[order]
        if not ids.size:
            return reach
        begins = np.flatnonzero(np.diff(ids, prepend=0))
        rows = ids[begins] - 1
        first_nm = (self.starts[order] + start) * np.array(size_nm)
        length_nm = (self.lengths[order] - 1) * size_nm[2]
        for n, direction in enumerate(directions()):
            one_end = first_nm @ direction
            other = one_end + length_nm * direction[2]
            reach[rows, 0, n] = np.minimum.reduceat(np.minimum(one_end, other), begins)
            reach[rows, 1, n] = np.maximum.reduceat(np.maximum(one_end, other), begins)
        return reach


def _squares(n: Floats) -> Floats:
    """Return 1² + 2² + ... + n²."""
    return n * (n + 1) * (2 * n + 1) / 6


def _columns(labels: npt.NDArray[np.integer], own: IntZYX, number: int) -> Floats:
    """Count, along each axis, the voxels of every part whose next voxel is background."""
    inside = labels[tuple(slice(n) for n in own)]
    counts = np.zeros((number, 3))
    for axis in range(3):
        ends = inside != 0
        following = np.moveaxis(labels, axis, 0)[1 : own[axis] + 1]
        rest = tuple(slice(n) for i, n in enumerate(own) if i != axis)
        np.moveaxis(ends, axis, 0)[: len(following)] &= following[:, *rest] == 0
        counts[:, axis] = np.bincount(inside[ends], minlength=number + 1)[1:]
    return counts


def _near(labels: npt.NDArray[np.integer], block: Block, volume: Box) -> tuple[Integers, Integers]:
    """Return voxels and parts of the block's nearest layers, where another block lies before them."""
    own = labels[tuple(slice(n) for n in block.write.shape)]
    boxes, start = [], [0, 0, 0]
    for axis in range(3):
        if block.write.start[axis] > volume.start[axis]:
            layer = [slice(first, None) for first in start]
            layer[axis] = slice(0, 1)
            boxes.append(tuple(layer))
            start[axis] = 1  # so that no voxel comes twice
    return _voxels(own, boxes, block, volume)


def _ahead(labels: npt.NDArray[np.integer], block: Block, volume: Box) -> tuple[Integers, Integers]:
    """Return voxels and parts of the layers beyond the block."""
    boxes, stop = [], list(labels.shape)
    for axis, side in enumerate(block.write.shape):
        if labels.shape[axis] > side:
            layer = [slice(0, last) for last in stop]
            layer[axis] = slice(side, side + 1)
            boxes.append(tuple(layer))
            stop[axis] = side
    return _voxels(labels, boxes, block, volume)


def _voxels(
    labels: npt.NDArray[np.integer], boxes: list[tuple[slice, ...]], block: Block, volume: Box
) -> tuple[Integers, Integers]:
    """Return the flat indices in the volume, ascending, and the parts of all voxels of parts in some boxes of a block."""
    flat, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for box in boxes:
        layer = labels[box]
        where = np.stack(np.nonzero(layer), axis=1)
        ids.append(layer[tuple(where.T)].astype(np.int64))
        flat.append(_flat(where + [part.start for part in box], block.write, volume))
    voxels = np.concatenate(flat)
    order = np.argsort(voxels)
    return voxels[order], np.concatenate(ids)[order]


def _flat(where: Integers, box: Box, volume: Box) -> Integers:
    """Return places z y x in a box as flat indices in the volume."""
    (z0, y0, x0), (_, height, width) = box.start, volume.shape
    z, y, x = where.T
    flat: Integers = ((z + z0) * height + y + y0) * width + x + x0
    return flat
