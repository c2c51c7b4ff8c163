"""Finds the neurons that meet at a synapse: on either side of its plate, the segment with the largest contact.

Contact is counted in voxels of any segment within reach of the synapse, its own voxels included. The plane through the
synapse's centroid, across its normal, separates the sides: b is the side that the normal points to, a the other one; voxels in
the plane belong to neither. Counts of blocks add up to those of the whole volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cleftnet.blockwise import BlockGrid, Tick
from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, IntZYX
from cleftnet.metrics.distances import ROUNDING, nearest_distances
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.synapses.block_arrays import BlockArrays
from cleftnet.synapses.table import PARTNERS
from cleftnet.volumes import Array, Volume, is_cleft, place

IN_PLANE_NM = 1e-3  # a centroid may move by less when it is summed over other blocks

SIDES = ("a", "b")


@dataclass(frozen=True)
class PlacedSegmentation:
    """A segmentation laid over a prediction.

    Attributes:
        segmentation: The whole segmentation.
        corner: Its voxel that lies at the first voxel of the prediction.
        reach_nm: Largest distance from a synapse at which contact is counted.
        halo: The reach in voxels z y x.
    """

    segmentation: Volume
    corner: IntZYX
    reach_nm: float
    halo: IntZYX

    @classmethod
    def of(cls, volume: Volume, reach_nm: float, prediction: Volume) -> PlacedSegmentation:
        """Lay a segmentation over a prediction, which it must cover.

        Raises:
            InputError: when it holds no ids, has other voxels, or does not cover the prediction.
        """
        if volume.dtype.kind not in "iu":
            raise InputError(f"segmentation {volume.address} holds {volume.dtype}; expected the integer ids of neurons")
        try:
            box = place(volume, prediction, prediction.box).prediction_box
        except InputError as error:
            raise InputError(
                f"the segmentation does not fit the prediction, all of which it must cover: {error}"
            ) from None
        size = prediction.voxel_size_nm
        reach = max(reach_nm, *size)
        z, y, x = (math.floor(reach / side * (1 + ROUNDING)) for side in size)
        return cls(volume, box.start, reach, (z, y, x))

    def __getitem__(self, box: Box) -> Array:
        """Read the segments in a box of the prediction."""
        return self.segmentation[box.shift(self.corner)]


class ContactInput(NamedTuple):
    """What `ContactCounter` reads for a block.

    Attributes:
        labels: Ids of the synapses in the block and its halo.
        segments: Segments in the block; None where no synapse lies in the halo.
    """

    labels: Array
    segments: Array | None


class Contacts(NamedTuple):
    """Counts of contact; arrays have one entry for each synapse, side and segment in contact.

    Attributes:
        synapse: Id of the synapse.
        side: 0 for a, 1 for b.
        segment: Id of the segment.
        voxels: Number of voxels.
    """

    synapse: Integers
    side: Integers
    segment: npt.NDArray[np.uint64]
    voxels: Integers

    @classmethod
    def none(cls) -> Contacts:
        """Return counts without any contact."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros(0, np.uint64), nothing)

    @classmethod
    def total(cls, *parts: Contacts) -> Contacts:
        """Add up counts; the result is in the order of synapses, sides and segments.

        Example:
            >>> one = Contacts(np.array([1]), np.array([0]), np.array([9], np.uint64), np.array([5]))
            >>> Contacts.total(one, one).voxels.tolist()
            [10]
        """
        synapse, side, segment, voxels = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((segment, side, synapse))
        synapse, side, segment, voxels = synapse[order], side[order], segment[order], voxels[order]
        if not len(order):
            return cls.none()
        new = (np.diff(synapse) != 0) | (np.diff(side) != 0) | (segment[1:] != segment[:-1])
        first = np.flatnonzero(np.append(True, new))
        return cls(synapse[first], side[first], segment[first], np.add.reduceat(voxels, first))


@dataclass(frozen=True)
class ContactCounter:
    """Third pass, a `blockwise.Work`: counts the contacts of all synapses with the segments of each block.

    Attributes:
        labels: Ids of all synapses.
        around: The segmentation.
        planes: Centroid in voxels and normal of each synapse, a row z y x z y x; or the NumPy file of them, which spares the
            sending of a large array to workers.
        arrays: Where contacts are kept.
    """

    labels: Volume
    around: PlacedSegmentation
    planes: Floats | Path
    arrays: BlockArrays

    def start(self, threads: int) -> None:
        """Nothing to prepare."""

    def read(self, block: Block) -> ContactInput:
        """Read both volumes."""
        labels = self.labels[block.read]
        return ContactInput(labels, self.around[block.write] if labels.any() else None)

    def compute(self, block: Block, data: ContactInput, tick: Tick) -> Contacts:
        """Count the contacts of each synapse in the box that it reaches."""
        if data.segments is None:
            return Contacts.none()
        planes = np.load(self.planes, mmap_mode="r") if isinstance(self.planes, Path) else self.planes
        boxes = _boxes(data.labels)
        found = []
        for number, (synapse, box) in enumerate(boxes.items(), start=1):
            found.append(self._contacts(synapse, box.shift(block.read.start), block, data, planes[synapse - 1]))
            tick(number / len(boxes))
        return Contacts.total(*found)

    def _contacts(self, synapse: int, box: Box, block: Block, data: ContactInput, plane: Floats) -> Contacts:
        assert data.segments is not None
        crop = box.grow(self.around.halo).intersect(block.read)
        own = crop.intersect(block.write)
        if own.empty:
            return Contacts.none()
        inside = own.relative_to(crop.start).slices
        mask = data.labels[crop.relative_to(block.read.start).slices] == synapse
        segments = np.zeros(crop.shape, np.uint64)
        segments[inside] = data.segments[own.relative_to(block.write.start).slices]
        asked = np.zeros(crop.shape, np.bool_)
        asked[inside] = is_cleft(segments[inside])  # as for clefts: neither background nor unlabeled
        found = [Contacts.none()]
        for z, distances in enumerate(nearest_distances(asked, mask, self.labels.voxel_size_nm)):
            near = np.argwhere(asked[z])[distances <= self.around.reach_nm * (1 + ROUNDING)]
            where = np.insert(near, 0, z, axis=1)
            beyond = ((where + crop.start - plane[:3]) * self.labels.voxel_size_nm) @ plane[3:]
            off = np.abs(beyond) > IN_PLANE_NM
            found.append(_count(synapse, beyond[off] > 0, segments[tuple(where[off].T)]))
        return Contacts.total(*found)

    def write(self, block: Block, contacts: Contacts) -> None:
        """Keep the contacts."""
        self.arrays.save(block, "contacts", contacts._asdict())


def planes_of(table: pd.DataFrame) -> Floats:
    """Return the plane of each synapse, as `ContactCounter` takes it."""
    planes: Floats = table[["z", "y", "x", "normal_z", "normal_y", "normal_x"]].to_numpy(np.float64)
    return planes


def with_partners(table: pd.DataFrame, arrays: BlockArrays, grid: BlockGrid) -> pd.DataFrame:
    """Return the table with the segment of the largest contact on either side, and its share of that side's contact.

    Args:
        table: The synapses.
        arrays: Where the contacts of all blocks are.
        grid: The blocks.
    """
    parts = [arrays.load(block, "contacts", *Contacts._fields) for block in grid]
    total = Contacts.total(*(Contacts(**part) for part in parts))
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for side, name in enumerate(SIDES):
        here = total.side == side
        columns[f"segment_{name}"], columns[f"contact_{name}"] = _largest(
            total.synapse[here] - 1, total.segment[here], total.voxels[here], len(table)
        )
    return table.assign(**{column.name: columns[column.name] for column in PARTNERS})


def _largest(
    row: Integers, segment: npt.NDArray[np.uint64], voxels: Integers, number: int
) -> tuple[npt.NDArray[np.uint64], Floats]:
    """Return for each row the segment with most voxels (the smallest id among equals) and its share; 0 where none is."""
    chosen, share = np.zeros(number, np.uint64), np.zeros(number)
    order = np.lexsort((segment, -voxels, row))
    first = order[np.unique(row[order], return_index=True)[1]]
    whole = np.bincount(row, voxels, number)
    chosen[row[first]] = segment[first]
    share[row[first]] = voxels[first] / whole[row[first]]
    return chosen, share


def _boxes(labels: Array) -> dict[int, Box]:
    """Return the box of each id."""
    where = np.flatnonzero(labels)
    ids, rows = np.unique(labels.ravel()[where], return_inverse=True)
    low, high = np.full((len(ids), 3), np.iinfo(np.int64).max), np.zeros((len(ids), 3), np.int64)
    for axis, place_along in enumerate(np.unravel_index(where, labels.shape)):
        np.minimum.at(low[:, axis], rows, place_along)
        np.maximum.at(high[:, axis], rows, place_along + 1)
    corners = zip(ids.tolist(), low.tolist(), (high - low).tolist(), strict=True)
    return {synapse: Box.at(start, shape) for synapse, start, shape in corners}


def _count(synapse: int, beyond: Mask, segments: npt.NDArray[np.uint64]) -> Contacts:
    found = []
    for side in range(len(SIDES)):
        ids, voxels = np.unique(segments[beyond == bool(side)], return_counts=True)
        every = np.ones(len(ids), np.int64)
        found.append(Contacts(every * synapse, every * side, ids, voxels.astype(np.int64)))
    return Contacts.total(*found)
