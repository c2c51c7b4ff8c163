"""Scores whole clefts block by block: sums over the voxels of each cleft, added up over blocks and joined across their borders.

The result is that of the region in one piece. A component of a mask that crosses blocks is recognized in the layer of voxels
beyond a block's far sides, which the block labels too: there the next block has labeled the same voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cleftnet.geometry import Block, Box, FloatZYX
from cleftnet.metrics.clefts import CleftMeasures, ObjectScores, components
from cleftnet.metrics.matching import score_measured
from cleftnet.metrics.predictions import PairVoxels
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.volumes import Array

_VOXELS, _POSITION, _VALUE = 0, slice(1, 4), 4  # columns of the sums of a cleft


class NumberedVoxels(NamedTuple):
    """Cleft voxels that a block scores: their flat indices in its write box, ascending, and the number of each one's cleft."""

    at: Integers
    numbers: npt.NDArray[np.integer]


@dataclass
class CleftTally:
    """The clefts of one side, predicted or true, under one numbering.

    Attributes:
        box: The whole region, which begins at 0 0 0.
    """

    box: Box
    _numbers: list[npt.NDArray[np.integer]] = field(default_factory=list)
    _sums: list[Floats] = field(default_factory=list)
    _first: list[Integers] = field(default_factory=list)
    _near: list[tuple[Integers, Integers]] = field(default_factory=list)
    _ahead: list[tuple[Integers, Integers]] = field(default_factory=list)
    _components: int = 0
    _joined: npt.NDArray[np.intp] | None = None

    def by_ids(
        self, index: Integers, ids: npt.NDArray[np.integer], block: Block, values: Array | None
    ) -> NumberedVoxels:
        """Add clefts of a block that have ids.

        Args:
            index: Flat indices of their voxels in the read box of the block, ascending.
            ids: Their ids.
            block: The block.
            values: Values of the write box whose mean ranks a cleft; None where there is no ranking.
        """
        own = block.write.relative_to(block.read.start)
        if own.shape != block.read.shape:
            places = np.stack(np.unravel_index(index, block.read.shape)) - np.array(own.start)[:, None]
            inside = np.all((places >= 0) & (places < np.array(own.shape)[:, None]), axis=0)
            index, ids = np.ravel_multi_index(tuple(places[:, inside]), own.shape), ids[inside]
        return self._add(NumberedVoxels(index, ids), block, values)

    def by_components(self, mask: Mask, valid: Mask, block: Block, values: Array | None) -> NumberedVoxels:
        """Add the components of a mask of a block's read box; only voxels that are valid count.

        Args:
            mask: Voxels of clefts.
            valid: Labeled voxels; unlabeled ones connect parts and count for nothing.
            block: The block.
            values: Values of the write box whose mean ranks a cleft; None where there is no ranking.
        """
        own = block.write.relative_to(block.read.start)
        reach = Box(own.start, own.grow((1, 1, 1)).stop).intersect(Box.of(mask.shape))
        labels, number = components(mask[reach.slices])
        self._note_layers(labels, block)
        index = np.flatnonzero(mask[own.slices] & valid[own.slices])
        z, y, x = own.shape
        numbers = labels[:z, :y, :x].ravel()[index].astype(np.int64) + self._components
        self._components += number
        return self._add(NumberedVoxels(index, numbers), block, values)

    def _add(self, voxels: NumberedVoxels, block: Block, values: Array | None) -> NumberedVoxels:
        places = np.stack(np.unravel_index(voxels.at, block.write.shape)) + np.array(block.write.start)[:, None]
        distinct, rows = np.unique(voxels.numbers, return_inverse=True)
        weights = [None, *places] if values is None else [None, *places, values.ravel()[voxels.at].astype(np.float64)]
        first = np.full(distinct.size, np.iinfo(np.int64).max)
        np.minimum.at(first, rows, np.ravel_multi_index(tuple(places), self.box.shape))
        self._numbers.append(distinct)
        self._sums.append(np.stack([np.bincount(rows, weight, distinct.size) for weight in weights], axis=1))
        self._first.append(first)
        return voxels

    def _note_layers(self, labels: npt.NDArray[np.integer], block: Block) -> None:
        """Note the voxels of clefts in the layers next to other blocks; labels cover the write box and a layer ahead."""
        for axis, side in enumerate(block.write.shape):
            nearest, beyond = ([slice(None)] * 3 for _ in range(2))
            nearest[axis], beyond[axis] = slice(0, 1), slice(side, side + 1)
            if block.write.start[axis] > 0:
                self._near.append(self._layer(labels, nearest, block))
            if labels.shape[axis] > side:
                self._ahead.append(self._layer(labels, beyond, block))

    def _layer(self, labels: npt.NDArray[np.integer], layer: list[slice], block: Block) -> tuple[Integers, Integers]:
        places = np.stack(np.nonzero(labels[tuple(layer)]))
        places += np.array([part.start or 0 for part in layer])[:, None]
        numbers = labels[tuple(places)].astype(np.int64) + self._components
        return np.ravel_multi_index(tuple(places + np.array(block.write.start)[:, None]), self.box.shape), numbers

    @property
    def distinct(self) -> int:
        """How many numbers occur."""
        return np.unique(np.concatenate(self._numbers)).size if self._numbers else 0

    def measures(self) -> CleftMeasures:
        """Return size, center and mean value of every cleft, ordered by id, components by their first voxel."""
        numbers = self.rows(np.concatenate(self._numbers))
        sums = np.concatenate(self._sums)
        total = np.zeros((int(numbers.max(initial=-1)) + 1, sums.shape[1]))
        np.add.at(total, numbers, sums)
        sizes = total[:, _VOXELS]
        means = total[:, _VALUE] / sizes if total.shape[1] > _VALUE else None
        return CleftMeasures(sizes, total[:, _POSITION] / sizes[:, None], means)

    def rows(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        """Return the row that each number has in `measures`."""
        if not self._components:
            return np.searchsorted(np.unique(np.concatenate(self._numbers)), numbers)
        if self._joined is None:
            self._joined = self._join()
        rows: npt.NDArray[np.intp] = self._joined[numbers]
        return rows

    def _join(self) -> npt.NDArray[np.intp]:
        """Return the row of each component: those that share a voxel of a layer are one."""
        links = [np.zeros((2, 0), np.int64)]
        if self._near and self._ahead:
            near, ahead = (tuple(map(np.concatenate, zip(*side, strict=True))) for side in (self._near, self._ahead))
            order = np.argsort(near[0], kind="stable")
            left, right = (np.searchsorted(near[0][order], ahead[0], side=side) for side in ("left", "right"))
            counts = right - left  # a voxel at a corner lies in several layers
            at = np.repeat(left, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            links.append(np.stack([np.repeat(ahead[1], counts), near[1][order][at]]))
        pairs = np.concatenate(links, axis=1)
        size = self._components + 1
        graph = coo_array((np.ones(pairs.shape[1], np.bool_), tuple(pairs)), shape=(size, size))
        _, group = connected_components(graph, directed=False)
        first = np.full(size, np.iinfo(np.int64).max)
        numbers = np.concatenate(self._numbers)
        np.minimum.at(first, group[numbers], np.concatenate(self._first))
        order = np.argsort(first, kind="stable")  # groups without a valid voxel come last, and no number asks for them
        rank = np.empty(size, np.intp)
        rank[order] = np.arange(size)
        rows: npt.NDArray[np.intp] = rank[group]
        return rows


@dataclass
class SharedTally:
    """Counts the voxels that each pair of a predicted and a true cleft shares."""

    _parts: list[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], Integers]] = field(default_factory=list)

    def add(self, predicted: NumberedVoxels, true: NumberedVoxels) -> None:
        """Add the voxels of one block."""
        if not predicted.at.size or not true.at.size:
            return
        at = np.minimum(np.searchsorted(predicted.at, true.at), predicted.at.size - 1)
        theirs = np.flatnonzero(predicted.at[at] == true.at)
        ours = at[theirs]
        distinct, rows = np.unique(predicted.numbers[ours], return_inverse=True)
        others, columns = np.unique(true.numbers[theirs], return_inverse=True)
        pairs, shared = np.unique(rows * max(1, others.size) + columns, return_counts=True)
        row, column = np.divmod(pairs, max(1, others.size))
        self._parts.append((distinct[row], others[column], shared))

    def matrix(self, predicted: CleftTally, true: CleftTally, shape: tuple[int, int]) -> coo_array:
        """Return the counts as a sparse matrix, predicted by true."""
        if not self._parts:
            return coo_array(shape, dtype=np.int64)
        ours, theirs, counts = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        pairs, where = np.unique(predicted.rows(ours) * max(1, shape[1]) + true.rows(theirs), return_inverse=True)
        shared = np.bincount(where, counts, pairs.size).astype(np.int64)
        return coo_array((shared, np.divmod(pairs, max(1, shape[1]))), shape=shape)


@dataclass
class ObjectTally:
    """Whole clefts of a prediction and its truth, block by block.

    Where all voxels of a side share one id, which only says cleft or not, its components are its clefts. That is known after
    the last block, so both numberings are added up; a region in one block needs one of them.

    Attributes:
        box: The whole region, which begins at 0 0 0.
    """

    box: Box
    _sides: dict[str, CleftTally] = field(default_factory=dict)
    _shared: dict[tuple[str, str], SharedTally] = field(default_factory=dict)

    def add(
        self, part: PairVoxels, predicted: Mask, block: Block, *, has_ids: bool = False, is_probability: bool = False
    ) -> None:
        """Add one block.

        Args:
            part: The voxels of the block's read box.
            predicted: Predicted voxels in it, unlabeled ones included.
            block: The block.
            has_ids: Whether the values are ids of predicted clefts.
            is_probability: Whether the values are probabilities, whose mean ranks predicted clefts.
        """
        own = block.write.relative_to(block.read.start).slices
        ids = None
        if has_ids and part.values.dtype != np.bool_:
            index = np.flatnonzero(predicted & part.valid)
            ids = NumberedVoxels(index, part.values.ravel()[index])
        ours = self._number(
            "predicted", ids, predicted, part.valid, block, part.values[own] if is_probability else None
        )
        true = NumberedVoxels(part.true_ids.index, part.true_ids.ids)
        theirs = self._number("true", true, part.true, part.valid, block, None)
        for name, mine in ours.items():
            for other, yours in theirs.items():
                self._shared.setdefault((name, other), SharedTally()).add(mine, yours)

    def _number(
        self, side: str, ids: NumberedVoxels | None, mask: Mask, valid: Mask, block: Block, values: Array | None
    ) -> dict[str, NumberedVoxels]:
        found = {}
        alike = ids is None or bool(np.all(ids.numbers == ids.numbers[:1]))
        whole = block.write == self.box
        if ids is not None and not (whole and alike):
            tally = self._sides.setdefault(f"{side} ids", CleftTally(self.box))
            found[f"{side} ids"] = tally.by_ids(ids.at, ids.numbers, block, values)
        if alike or not whole:
            tally = self._sides.setdefault(f"{side} components", CleftTally(self.box))
            found[f"{side} components"] = tally.by_components(mask, valid, block, values)
        return found

    def _chosen(self, side: str) -> str:
        ids = self._sides.get(f"{side} ids")
        return f"{side} ids" if ids is not None and ids.distinct > 1 else f"{side} components"

    def scores(self, voxel_size_nm: FloatZYX, match_nm: float | None, scale: float) -> ObjectScores:
        """Match the clefts and count them.

        Args:
            voxel_size_nm: Voxel size, z y x.
            match_nm: Largest distance between the centroids of matched clefts; None matches clefts that share voxels.
            scale: What a probability of 1 is in the values that rank clefts.
        """
        names = self._chosen("predicted"), self._chosen("true")
        predicted, true = (self._sides[name] for name in names)
        ours, theirs = predicted.measures(), true.measures()
        ours = ours._replace(means=None if ours.means is None else ours.means / scale)
        shared = self._shared[names].matrix(predicted, true, (len(ours.sizes), len(theirs.sizes)))
        return score_measured(ours, theirs, shared, voxel_size_nm, match_nm)
