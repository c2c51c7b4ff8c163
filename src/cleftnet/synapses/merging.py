"""Joins the parts of all blocks to synapses, exactly as if the volume had been labeled in one piece."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cleftnet.blockwise import BlockGrid
from cleftnet.geometry import Block
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.synapses.block_arrays import BlockArrays
from cleftnet.synapses.parts import (
    COLUMNS,
    COUNT,
    DIRECTIONS,
    MEASURED,
    PAIRS,
    POSITION,
    PROBABILITY,
    PRODUCTS,
    BlockParts,
)
from cleftnet.volumes import Array


@dataclass(frozen=True)
class SynapseSums:
    """Sums over the voxels of every synapse, in the order of their first voxels; the synapse in row n has id n + 1.

    Attributes:
        voxels: Number of voxels.
        center: Mean position z y x, in voxels of the volume.
        covariance: Covariance of the positions in voxels², z y x by z y x.
        columns: Columns of voxels along z, y and x, counted as often as the synapse is entered along them.
        probability: Sum of the probability.
        maximum: Highest probability.
        bounds: Box: z y x of the first voxels, then z y x after the last.
        extents: Distance in nm of the first to the last voxel center along each of `parts.directions()`.
        appearance: Sums as in `appearance`; no columns where they were not measured.
    """

    voxels: Floats
    center: Floats
    covariance: Floats
    columns: Floats
    probability: Floats
    maximum: Floats
    bounds: Integers
    extents: Floats
    appearance: Floats

    def __len__(self) -> int:
        return len(self.voxels)


@dataclass(frozen=True)
class JoinedParts:
    """The components that the parts of all blocks make up, and those of them that are large and probable enough.

    Attributes:
        sums: Sums of these components, in the order of their first voxels.
        chosen: Which components they are.
        group: The component of each part of all blocks.
        ids: The numbers of the parts of each block.
    """

    sums: SynapseSums
    chosen: Integers
    group: Integers
    ids: Sequence[Integers]

    def number(self, arrays: BlockArrays, grid: BlockGrid, kept: Mask) -> None:
        """Give ids from 1 to the components that are kept, and save for every block the id of each of its parts.

        Args:
            arrays: Where the ids are kept.
            grid: The blocks.
            kept: Which of the components of `sums` are synapses.
        """
        final = np.zeros(int(self.group.max(initial=-1)) + 1, np.int64)
        final[self.chosen[kept]] = np.arange(1, int(kept.sum()) + 1)
        start = 0
        for block, own in zip(grid, self.ids, strict=True):
            lookup = np.zeros(int(own.max(initial=0)) + 1, np.int64)
            lookup[own] = final[self.group[start : start + len(own)]]
            start += len(own)
            arrays.save(block, "ids", {"ids": lookup})


def join(arrays: BlockArrays, grid: BlockGrid, min_voxels: float, seed: float) -> JoinedParts:
    """Join the parts of all blocks to components.

    Args:
        arrays: Where the parts are.
        grid: The blocks.
        min_voxels: Components of fewer voxels are left out.
        seed: Components that reach this probability nowhere are left out.
    """
    ids = [arrays.load(block, "parts", "ids")["ids"] for block in grid]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in ids])]).astype(np.int64)
    links = [_links(arrays, grid, index, ids, offsets) for index in range(len(grid))]
    joined = np.concatenate([np.zeros((2, 0), np.int64), *links], axis=1)
    size = int(offsets[-1])
    graph = coo_array((np.ones(joined.shape[1], np.bool_), tuple(joined)), shape=(size, size))
    number, group = connected_components(graph, directed=False) if size else (0, np.zeros(0, np.int64))
    total = _Sums(int(number))
    for block, start, stop in zip(grid, offsets, offsets[1:], strict=False):
        total.add(group[start:stop].astype(np.int64), arrays.load(block, "parts", *MEASURED), block)
    chosen = total.choose(min_voxels, seed)
    return JoinedParts(total.synapses(chosen), chosen, group.astype(np.int64), ids)


def sums_of(parts: BlockParts, block: Block) -> SynapseSums:
    """Return the sums of the parts of a block that is a whole volume, in the order of their numbers."""
    total = _Sums(len(parts.ids))
    total.add(np.arange(len(parts.ids)), parts.arrays(), block)
    return total.synapses(np.arange(len(parts.ids)))


def _links(
    arrays: BlockArrays, grid: BlockGrid, index: int, ids: Sequence[Integers], offsets: Integers
) -> npt.NDArray[np.int64]:
    """Return which parts of a block and of the blocks after it are one: two rows of their numbers over all blocks."""
    links = [np.zeros((2, 0), np.int64)]
    ahead = arrays.load(grid[index], "parts", "ahead", "ahead_ids")
    if not ahead["ahead"].size:
        return links[0]
    for other in _following(grid, index):
        near = arrays.load(grid[other], "parts", "near", "near_ids")
        _, here, there = np.intersect1d(ahead["ahead"], near["near"], assume_unique=True, return_indices=True)
        pairs = np.unique(np.stack([ahead["ahead_ids"][here], near["near_ids"][there]]), axis=1)
        mine = offsets[index] + np.searchsorted(ids[index], pairs[0])
        links.append(np.stack([mine, offsets[other] + np.searchsorted(ids[other], pairs[1])]))
    return np.concatenate(links, axis=1)


def _following(grid: BlockGrid, index: int) -> list[int]:
    """Return the numbers of the up to seven blocks that a block's far layers lie in."""
    rest, x = divmod(index, grid.counts[2])
    z, y = divmod(rest, grid.counts[1])
    steps = [range(2 if at + 1 < count else 1) for at, count in zip((z, y, x), grid.counts, strict=True)]
    return [index + (dz * grid.counts[1] + dy) * grid.counts[2] + dx for dz, dy, dx in itertools.product(*steps)][1:]


class _Sums:
    """Adds up the parts of every synapse, block by block."""

    def __init__(self, number: int) -> None:
        self.first = np.full(number, np.iinfo(np.int64).max)
        self.sums = np.zeros((number, PROBABILITY + 1))
        self.spread = np.zeros((number, len(PAIRS)))  # about the center
        self.maximum = np.zeros(number)
        self.bounds = np.tile(np.array([np.iinfo(np.int64).max] * 3 + [0] * 3), (number, 1))
        self.reach = np.empty((number, 2, DIRECTIONS))
        self.reach[:, 0], self.reach[:, 1] = np.inf, -np.inf
        self.appearance = np.zeros((number, 0))

    def add(self, group: Integers, parts: Mapping[str, Array], block: Block) -> None:
        """Add the parts of a block, each to its synapse."""
        np.minimum.at(self.first, group, parts["first"])
        np.maximum.at(self.maximum, group, parts["maximum"])
        np.minimum.at(self.bounds[:, :3], group, parts["bounds"][:, :3])
        np.maximum.at(self.bounds[:, 3:], group, parts["bounds"][:, 3:])
        np.minimum.at(self.reach[:, 0], group, parts["reach"][:, 0])
        np.maximum.at(self.reach[:, 1], group, parts["reach"][:, 1])
        looks = parts["appearance"]
        if looks.shape[1] > self.appearance.shape[1]:  # the same for all blocks that have parts
            self.appearance = np.zeros((len(self.sums), looks.shape[1]))
        np.add.at(self.appearance, group, looks)
        own, where = np.unique(group, return_inverse=True)
        sums = np.zeros((len(own), self.sums.shape[1]))
        np.add.at(sums, where, parts["sums"])
        self._add_sums(own, sums, np.array(block.write.start, np.float64))

    def _add_sums(self, own: Integers, sums: Floats, start: Floats) -> None:
        """Add sums whose positions count from `start`; spreads are joined without loss (Chan, Golub and LeVeque 1979)."""
        count, before = sums[:, COUNT], self.sums[own, COUNT]
        mean = sums[:, POSITION] / np.maximum(count, 1)[:, None]
        apart = mean + start - self.sums[own, POSITION] / np.maximum(before, 1)[:, None]
        weight = count * before / np.maximum(count + before, 1)
        for n, (a, b) in enumerate(PAIRS):
            inner = sums[:, PRODUCTS][:, n] - count * mean[:, a] * mean[:, b]
            self.spread[own, n] += inner + weight * apart[:, a] * apart[:, b]
        self.sums[own, COUNT] += count
        self.sums[own, POSITION] += sums[:, POSITION] + count[:, None] * start
        self.sums[own, COLUMNS] += sums[:, COLUMNS]
        self.sums[own, PROBABILITY] += sums[:, PROBABILITY]

    def choose(self, min_voxels: float, seed: float) -> Integers:
        """Return the joined parts that are synapses, in the order of their first voxels."""
        count = self.sums[:, COUNT]
        passing = np.flatnonzero((count > 0) & (count >= min_voxels) & (self.maximum >= seed))
        return passing[np.argsort(self.first[passing])]

    def synapses(self, chosen: Integers) -> SynapseSums:
        """Return the sums of the chosen synapses."""
        sums, count = self.sums[chosen], self.sums[chosen, COUNT]
        covariance = np.empty((len(chosen), 3, 3))
        for n, (a, b) in enumerate(PAIRS):
            covariance[:, a, b] = covariance[:, b, a] = self.spread[chosen, n] / count
        return SynapseSums(
            voxels=count,
            center=sums[:, POSITION] / count[:, None],
            covariance=covariance,
            columns=sums[:, COLUMNS],
            probability=sums[:, PROBABILITY],
            maximum=self.maximum[chosen],
            bounds=self.bounds[chosen],
            extents=self.reach[chosen, 1] - self.reach[chosen, 0],
            appearance=self.appearance[chosen],
        )
