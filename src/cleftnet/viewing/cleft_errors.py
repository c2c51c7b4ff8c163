"""Which predicted clefts are right, which are false, and which true ones were missed, as volumes that a viewer can draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import Box, IntZYX, slabs
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.evaluation import WHOLE_VOX
from cleftnet.metrics.matching import pair_by_overlap
from cleftnet.metrics.predictions import PredictionPair
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.progress import track
from cleftnet.volumes import Array, Volume, is_cleft
from cleftnet.volumes.volume import Slices


@dataclass(frozen=True)
class SparseLabels:
    """The store of a label volume that is background nearly everywhere; only the voxels of clefts take memory.

    Args:
        index: Flat indices of the voxels, ascending.
        ids: The id of each.
        shape: Sides of the volume, z y x.

    Example:
        >>> labels = SparseLabels(np.array([1, 5]), np.array([7, 8], np.uint64), (1, 2, 3))
        >>> labels[0:1, 0:2, 1:3].tolist()
        [[[7, 0], [0, 8]]]
    """

    index: Integers
    ids: npt.NDArray[np.uint64]
    shape: IntZYX

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        return np.dtype(np.uint64)

    def __getitem__(self, index: Slices) -> Array:
        """Read one box."""
        starts, stops, _ = zip(*(part.indices(side) for part, side in zip(index, self.shape, strict=True)), strict=True)
        box = Box(starts, stops)
        values = np.zeros(box.shape, np.uint64)
        z, y = np.meshgrid(np.arange(starts[0], stops[0]), np.arange(starts[1], stops[1]), indexing="ij")
        rows = ((z * self.shape[1] + y) * self.shape[2]).ravel() + starts[2]  # where each row of the box begins
        first = np.searchsorted(self.index, rows)
        counts = np.searchsorted(self.index, rows + box.shape[2]) - first
        before = np.cumsum(counts) - counts
        chosen = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
        inside = np.repeat(np.arange(rows.size) * box.shape[2] - rows, counts) + self.index[chosen]
        values.reshape(-1)[inside] = self.ids[chosen]
        return values


@dataclass(frozen=True)
class JudgedClefts:
    """Clefts of one volume, all with the same verdict.

    Attributes:
        volume: Their voxels, uint64 ids, in the region that prediction and truth share.
        ids: Their ids.
        centers_nm: Their centroids, a row z y x each.
        volumes_nm3: Their volumes.
    """

    volume: Volume
    ids: npt.NDArray[np.uint64]
    centers_nm: Floats
    volumes_nm3: Floats

    @classmethod
    def of(cls, clefts: Instances, kept: Mask, like: Volume) -> JudgedClefts:
        """Take some clefts, each by its place in the order of ids.

        Args:
            clefts: All clefts.
            kept: Whether each one belongs here.
            like: The region that their indices count in.
        """
        voxels = kept[clefts.rows]
        store = SparseLabels(clefts.index[voxels], clefts.ids[voxels].astype(np.uint64), like.shape)
        size = np.array(like.voxel_size_nm)
        centers = clefts.centers(like.shape)[kept] * size + np.array(like.offset_nm)
        return cls(
            Volume(store, like.voxel_size, like.offset_nm, like.address),
            np.unique(clefts.ids)[kept].astype(np.uint64),
            centers,
            (clefts.sizes[kept] * size.prod()).astype(np.float64),
        )


@dataclass(frozen=True)
class CleftErrors:
    """Predicted and true clefts by how they were matched.

    Attributes:
        true_positives: Predicted clefts that are matched with a true one.
        false_positives: Predicted clefts that are not.
        false_negatives: True clefts that no predicted one is matched with.
    """

    true_positives: JudgedClefts
    false_positives: JudgedClefts
    false_negatives: JudgedClefts


def find_cleft_errors(predicted: Volume, truth: Volume) -> CleftErrors:
    """Match predicted clefts one to one with true ones that share voxels with them, as `evaluate` does.

    Both are read slab by slab, where the truth is labeled and the two overlap. Memory is about 50 bytes for each cleft voxel.

    Args:
        predicted: Cleft ids, background 0. Where all cleft voxels share one id, in regions up to 2^29 voxels, the connected
            components are the clefts.
        truth: Cleft ids, in the same way.

    Raises:
        InputError: when the two do not fit each other.
    """
    pair = PredictionPair.of(predicted, truth, kind="labels" if predicted.dtype.kind in "iu" else None)
    indices: tuple[list[Integers], list[Integers]] = ([], [])
    ids: tuple[list[npt.NDArray[np.integer]], list[npt.NDArray[np.integer]]] = ([], [])
    parts = list(slabs(pair.box))
    for slab in track(parts, "comparing with the truth", len(parts)):
        part = pair.read(slab)
        found = is_cleft(part.values) & part.valid
        places = (np.flatnonzero(found), part.true_ids.index)
        values = (part.values[found].astype(np.uint64), part.true_ids.ids)
        for side in range(2):
            indices[side].append(_in_whole(places[side], slab, pair.box.shape))
            ids[side].append(values[side])
    ours, theirs = (_instances(indices[side], ids[side], pair.box.shape) for side in range(2))
    matches = pair_by_overlap(ours, theirs)
    region = pair.truth.crop(pair.place.truth_box)
    like = Volume(region.store, pair.place.voxel_size_nm, region.offset_nm, region.address)
    return CleftErrors(
        JudgedClefts.of(ours, matches.predicted, like),
        JudgedClefts.of(ours, ~matches.predicted, like),
        JudgedClefts.of(theirs, ~matches.true, like),
    )


def _in_whole(index: Integers, slab: Box, shape: IntZYX) -> Integers:
    """Return flat indices of a slab as flat indices of the whole region."""
    axes = zip(np.unravel_index(index, slab.shape), slab.start, strict=True)
    return np.asarray(np.ravel_multi_index([axis + first for axis, first in axes], shape), np.int64)


def _instances(indices: Sequence[Integers], ids: Sequence[npt.NDArray[np.integer]], shape: IntZYX) -> Instances:
    index, values = np.concatenate(indices), np.concatenate(ids)
    order = np.argsort(index, kind="stable")  # slabs may be parts of sections
    clefts = Instances(index[order], values[order])
    if len(clefts) != 1 or math.prod(shape) > WHOLE_VOX:
        return clefts
    mask = np.zeros(math.prod(shape), np.bool_)
    mask[index] = True
    parts = clefts.or_components(mask.reshape(shape))
    return parts if len(parts) > 1 else clefts  # a single cleft keeps its id
