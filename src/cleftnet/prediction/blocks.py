"""The prediction of one block: all tiles that touch it, blended, calibrated, and turned into what is stored.

A block predicts every tile that touches its write box, those across its borders too, so that it matters to no voxel how the
volume was cut. How large blocks should be follows from that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cleftnet.blockwise import Tick
from cleftnet.geometry import Block, Box, IntZYX, TileGrid
from cleftnet.models.checkpoint import Float32, Model
from cleftnet.prediction.blending import Blending
from cleftnet.prediction.inference import PredictionSettings, best_device
from cleftnet.prediction.masking import PredictionMask
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.volumes import DISTANCE_NAME, PROBABILITY_NAME, Array, Volume, WritableVolume

EMPTY_LOGIT = -30.0  # of the segmentation head where a tile was left out; the boundary head's is 0

Arrays = dict[str, Array]


class Data(NamedTuple):
    """What is read for a block: raw of its read box, and where of that a prediction is wanted, if anyone said so."""

    raw: Array
    wanted: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class BlockPrediction:
    """A `blockwise.Work`: one block of raw to one block of probability and distance.

    Args:
        model: With its network as it is run.
        raw: What is predicted.
        tiles: Of all of it.
        how: Everything else that decides the voxels.
        targets: The arrays to write, by name.
    """

    model: Model
    raw: Volume
    tiles: TileGrid
    how: PredictionSettings
    targets: Mapping[str, WritableVolume]

    def start(self, threads: int) -> None:
        """Take the network to this process's device, and as many threads as there are for it."""
        torch.set_num_threads(threads)
        self.model.net.to(best_device())

    def reads(self, write: Box) -> Box:
        """Return what has to be read for a write box."""
        return self.tiles.reads(write)

    def read(self, block: Block) -> Data:
        """Read raw and mask."""
        wanted = None if self.how.mask is None else PredictionMask(self.how.mask, self.raw)[block.read]
        return Data(self.raw[block.read], wanted)

    def compute(self, block: Block, data: Data, tick: Tick) -> Arrays | None:
        """Return the block's arrays by name, or None where every tile was left out: new arrays are zero."""
        wanted: list[Block] = []
        empty: list[Block] = []
        for tile in self.tiles.touching(block.write):
            (wanted if self._is_wanted(tile, data, block.read) else empty).append(tile)
        if not wanted:
            return None
        heads = len(self.model.card.spec.heads)
        blending, seen = Blending(self.tiles, block.write, heads), np.zeros(block.write.shape, np.bool_)
        network = TileNetwork(self.model.net, self.how)
        logits = network.logits(wanted, lambda box: data.raw[box.relative_to(block.read.start).slices])
        for done, (tile, found) in enumerate(logits, start=1):
            blending.add(tile, found)
            seen[tile.read.intersect(block.write).relative_to(block.write.start).slices] = True
            tick(done / len(wanted))
        nothing = np.zeros((heads, *self.tiles.shape), np.float32)
        nothing[0] = EMPTY_LOGIT
        for tile in empty:
            blending.add(tile, nothing)
        if data.wanted is not None:
            seen &= data.wanted[block.write.relative_to(block.read.start).slices]
        return self._stored(blending.logits, seen)

    def write(self, block: Block, arrays: Arrays | None) -> None:
        """Write the block's arrays."""
        for name, array in (arrays or {}).items():
            self.targets[name][block.write] = array

    def _is_wanted(self, tile: Block, data: Data, read: Box) -> bool:
        where = tile.read.relative_to(read.start).slices
        if self.how.skip_empty and not data.raw[where].any():
            return False
        return data.wanted is None or bool(data.wanted[where].any())

    def _stored(self, logits: Float32, seen: npt.NDArray[np.bool_]) -> Arrays:
        """Return logits `heads z y x` as what is stored, by name; 0 where nothing was seen."""
        arrays = {name: np.empty(seen.shape, self.how.dtype) for name in self.targets}
        for z in range(len(seen)):  # in sections: what is computed on the way is larger than what is stored
            section = np.ascontiguousarray(logits[:, z])
            units = {PROBABILITY_NAME: self.model.probability(section), DISTANCE_NAME: self.model.distance(section)}
            for name, unit in units.items():
                if unit is not None:
                    values = to_uint8(unit) if self.how.dtype == "uint8" else unit.astype(np.float32)
                    arrays[name][z] = values * seen[z]
        return arrays


def to_uint8(unit: Float32) -> npt.NDArray[np.uint8]:
    """Return values of 0-1 as 0-255, rounded to the nearest: v stands for v / 255.

    Example:
        >>> to_uint8(np.array([0, 0.2, 0.5, 1], np.float32)).tolist()
        [0, 51, 128, 255]
    """
    return np.rint(unit * 255).astype(np.uint8)


def block_sides(tiles: TileGrid, chunk: IntZYX, voxels: float) -> IntZYX:
    """Return sides of a block of at most so many voxels, or of one chunk, such that few tiles are computed twice.

    Both sides of a border between blocks compute the tiles across it, on average as many as a tile is steps long. Of all
    blocks that end at chunks and fit, this is the one with the fewest tiles in all; of equals, the smallest.

    Args:
        tiles: Of the volume.
        chunk: What the sides shall be multiples of.
        voxels: How many a block may have.

    Example:
        >>> block_sides(TileGrid(Box.of((512, 1024, 1024)), (16, 128, 128), (2, 16, 16)), (16, 128, 128), 2**26)
        (64, 1024, 1024)
    """
    sides, computed = [], []
    for axis, (length, patch, shared, unit) in enumerate(
        zip(tiles.box.shape, tiles.shape, tiles.overlap, chunk, strict=True)
    ):
        chunks = -(-length // unit)
        found = np.minimum(np.unique(-(-chunks // np.arange(1, chunks + 1))) * unit, length)  # those that divide well
        found = found[found * (math.prod(chunk) / unit) <= max(voxels, math.prod(chunk))]
        sides.append(found)
        computed.append(len(tiles.starts[axis]) + (-(-length // found) - 1) * patch / (patch - shared))
    size, work = (functools.reduce(np.multiply.outer, values) for values in (sides, computed))
    fits = np.nonzero((size <= voxels) | (size == size.min()))
    best = np.lexsort((size[fits], work[fits]))[0]
    z, y, x = (int(found[where[best]]) for found, where in zip(sides, fits, strict=True))
    return z, y, x
