"""Parts of all blocks joined to synapses, exactly as if the volume had been labelled in one piece."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cleftnet.blockwise import BlockGrid
from cleftnet.files import replacing
from cleftnet.geometry import Block
from cleftnet.synapses.parts import (
    COLUMNS,
    COUNT,
    DIRECTIONS,
    PAIRS,
    POSITION,
    PROBABILITY,
    PRODUCTS,
    Floats,
    Ints,
    load,
)


@dataclass(frozen=True)
class SynapseSums:
    """What the parts of every synapse add up to, in the order of the synapses' first voxels; synapse n has id n + 1.

    Attributes:
        voxels: How many.
        centre: Mean of the voxels, z y x, in voxels of the volume.
        covariance: Of the voxels' places, in voxels², z y x by z y x.
        columns: How many columns of voxels along z, y and x lie in it.
        probability: Summed over its voxels.
        maximum: Highest probability.
        bounds: Its box, z y x of the first voxels, then of what follows the last.
        extents: From its first to its last voxel's centre along each of `parts.directions()`, nm.
    """

    voxels: Floats
    centre: Floats
    covariance: Floats
    columns: Floats
    probability: Floats
    maximum: Floats
    bounds: Ints
    extents: Floats

    def __len__(self) -> int:
        return len(self.voxels)


def path_of(folder: Path, block: Block, ending: str = "npz") -> Path:
    """Return where what belongs to a block is kept."""
    return folder / f"{'_'.join(map(str, block.write.start))}.{ending}"


def merge(folder: Path, grid: BlockGrid, min_voxels: float, seed: float) -> SynapseSums:
    """Join the parts in a folder, choose the synapses, and leave for every block the id of each of its parts beside it.

    Args:
        folder: Of the saved `Parts`.
        grid: The blocks they belong to.
        min_voxels: Synapses of fewer are left out.
        seed: So are those that reach this probability nowhere.
    """
    ids = [load(path_of(folder, block), "ids")["ids"] for block in grid]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in ids])]).astype(np.int64)
    links = [_links(folder, grid, index, ids, offsets) for index in range(len(grid))]
    joined = np.concatenate([np.zeros((2, 0), np.int64), *links], axis=1)
    size = int(offsets[-1])
    graph = coo_array((np.ones(joined.shape[1], np.bool_), tuple(joined)), shape=(size, size))
    number, group = connected_components(graph, directed=False) if size else (0, np.zeros(0, np.int64))
    total = _Total(int(number))
    for block, start, stop in zip(grid, offsets, offsets[1:], strict=False):
        total.add(group[start:stop].astype(np.int64), folder, block)
    chosen = total.choose(min_voxels, seed)
    final = np.zeros(int(number), np.int64)
    final[chosen] = np.arange(1, len(chosen) + 1)
    for block, own, start, stop in zip(grid, ids, offsets, offsets[1:], strict=False):
        lookup = np.zeros(int(own.max(initial=0)) + 1, np.int64)
        lookup[own] = final[group[start:stop]]
        with replacing(path_of(folder, block, "npy"), overwrite=True) as temporary, temporary.open("wb") as file:
            np.save(file, lookup)
    return total.synapses(chosen)


def _links(folder: Path, grid: BlockGrid, index: int, ids: Sequence[Ints], offsets: Ints) -> npt.NDArray[np.int64]:
    """Return which parts are one, of a block and of those after it: two rows of their numbers over all blocks."""
    links = [np.zeros((2, 0), np.int64)]
    ahead = load(path_of(folder, grid[index]), "ahead", "ahead_ids")
    if not ahead["ahead"].size:
        return links[0]
    for other in _following(grid, index):
        near = load(path_of(folder, grid[other]), "near", "near_ids")
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


class _Total:
    """Parts added up, block by block."""

    def __init__(self, number: int) -> None:
        self.first = np.full(number, np.iinfo(np.int64).max)
        self.sums = np.zeros((number, PROBABILITY + 1))
        self.spread = np.zeros((number, len(PAIRS)))  # about the centre
        self.maximum = np.zeros(number)
        self.bounds = np.tile(np.array([np.iinfo(np.int64).max] * 3 + [0] * 3), (number, 1))
        self.reach = np.empty((number, 2, DIRECTIONS))
        self.reach[:, 0], self.reach[:, 1] = np.inf, -np.inf

    def add(self, group: Ints, folder: Path, block: Block) -> None:
        """Add the parts of a block, each to its synapse."""
        parts = load(path_of(folder, block), "first", "sums", "maximum", "bounds", "reach")
        np.minimum.at(self.first, group, parts["first"])
        np.maximum.at(self.maximum, group, parts["maximum"])
        np.minimum.at(self.bounds[:, :3], group, parts["bounds"][:, :3])
        np.maximum.at(self.bounds[:, 3:], group, parts["bounds"][:, 3:])
        np.minimum.at(self.reach[:, 0], group, parts["reach"][:, 0])
        np.maximum.at(self.reach[:, 1], group, parts["reach"][:, 1])
        own, where = np.unique(group, return_inverse=True)
        sums = np.zeros((len(own), self.sums.shape[1]))
        np.add.at(sums, where, parts["sums"])
        self._add_sums(own, sums, np.array(block.write.start, np.float64))

    def _add_sums(self, own: Ints, sums: Floats, start: Floats) -> None:
        """Add sums whose places count from `start`; spreads as in Chan, Golub and LeVeque (1979), which loses nothing."""
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

    def choose(self, min_voxels: float, seed: float) -> Ints:
        """Return the synapses among the joined parts, by their first voxels."""
        count = self.sums[:, COUNT]
        passing = np.flatnonzero((count > 0) & (count >= min_voxels) & (self.maximum >= seed))
        return passing[np.argsort(self.first[passing])]

    def synapses(self, chosen: Ints) -> SynapseSums:
        """Return the sums of the chosen ones."""
        sums, count = self.sums[chosen], self.sums[chosen, COUNT]
        covariance = np.empty((len(chosen), 3, 3))
        for n, (a, b) in enumerate(PAIRS):
            covariance[:, a, b] = covariance[:, b, a] = self.spread[chosen, n] / count
        return SynapseSums(
            voxels=count,
            centre=sums[:, POSITION] / count[:, None],
            covariance=covariance,
            columns=sums[:, COLUMNS],
            probability=sums[:, PROBABILITY],
            maximum=self.maximum[chosen],
            bounds=self.bounds[chosen],
            extents=self.reach[chosen, 1] - self.reach[chosen, 0],
        )
