"""The prediction of one block: all tiles that touch it, blended, calibrated, and turned into what is stored.

A block predicts every tile that touches its write box, those across its borders too, so that it matters to no voxel how the
volume was cut. How large blocks should be follows from that.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from cleftnet.blockwise import Tick
from cleftnet.checkpoint import Float32, Model
from cleftnet.geometry import Block, Box, IntZYX, TileGrid
from cleftnet.prediction.inference import Inference, best_device
from cleftnet.prediction.masking import Mask
from cleftnet.prediction.tiles import TileNetwork, smooth_weights
from cleftnet.volumes import Volume, WritableVolume
from cleftnet.volumes.volume import Array

PROBABILITY, DISTANCE = "volumes/probability", "volumes/distance"
EMPTY_LOGIT = -30.0  # of the segmentation head where a tile was left out; the boundary head's is 0

T = TypeVar("T")
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
    how: Inference
    targets: Mapping[str, WritableVolume]

    @property
    def _blends(self) -> bool:
        return self.how.blend == "smooth"

    def start(self, threads: int) -> None:
        """Take the network to this process's device, and as many threads as there are for it."""
        torch.set_num_threads(threads)
        self.model.net.to(best_device())

    def reads(self, write: Box) -> Box:
        """Return what has to be read for a write box."""
        return self.tiles.reads(write, self._blends)

    def read(self, block: Block) -> Data:
        """Read raw and mask."""
        wanted = None if self.how.mask is None else Mask(self.how.mask, self.raw)[block.read]
        return Data(self.raw[block.read], wanted)

    def compute(self, block: Block, data: Data, tick: Tick) -> Arrays | None:
        """Return the block's arrays by name, or None where every tile was left out: new arrays are zero."""
        tiles = list(self.tiles.touching(block.write, self._blends))
        seen = [tile for tile in tiles if self._is_wanted(tile, data, block.read)]
        if not seen:
            return None
        network = TileNetwork(self.model.net, self.how)
        logits = network.logits(seen, lambda box: data.raw[box.relative_to(block.read.start).slices])
        watched = _counted(logits, len(seen), tick)
        if self._blends:
            found = set(seen)
            arrays = self._smooth(block.write, watched, [tile for tile in tiles if tile not in found])
        else:
            arrays = self._keep(block.write, watched)
        if data.wanted is not None:
            for array in arrays.values():
                array[~data.wanted[block.write.relative_to(block.read.start).slices]] = 0
        return arrays

    def write(self, block: Block, arrays: Arrays | None) -> None:
        """Write the block's arrays."""
        for name, array in (arrays or {}).items():
            self.targets[name][block.write] = array

    def _is_wanted(self, tile: Block, data: Data, read: Box) -> bool:
        if self.how.skip_empty and not data.raw[tile.read.relative_to(read.start).slices].any():
            return False
        used = tile.read if self._blends else tile.write
        return data.wanted is None or bool(data.wanted[used.relative_to(read.start).slices].any())

    def _keep(self, write: Box, logits: Iterator[tuple[Block, Float32]]) -> Arrays:
        """Every voxel from the tile that writes it."""
        arrays = {name: np.zeros(write.shape, self.how.dtype) for name in self.targets}
        for tile, whole in logits:
            # what a tile writes is the same array whichever block asks: nothing is computed on a part of it
            own = np.ascontiguousarray(whole[(slice(None), *tile.write.relative_to(tile.read.start).slices)])
            part = tile.write.intersect(write)
            for name, values in self._stored(own).items():
                arrays[name][part.relative_to(write.start).slices] = values[part.relative_to(tile.write.start).slices]
        return arrays

    def _smooth(self, write: Box, logits: Iterator[tuple[Block, Float32]], left_out: list[Block]) -> Arrays:
        """Every voxel from all tiles that read it, weighted by `smooth_weights`."""
        heads = len(self.model.card.spec.heads)
        total = np.zeros((heads, *write.shape), np.float32)
        seen = np.zeros(write.shape, np.bool_)  # by any tile that was computed
        nothing = np.zeros((heads, *self.tiles.shape), np.float32)
        nothing[0] = EMPTY_LOGIT
        for tile, whole in itertools.chain(logits, ((tile, nothing) for tile in left_out)):
            part = tile.read.intersect(write)
            seen[part.relative_to(write.start).slices] |= whole is not nothing
            inside = part.relative_to(tile.read.start).slices
            corner = tile.read.relative_to(self.tiles.box.start).start
            z, y, x = (axis[n][where] for axis, n, where in zip(self._axes, corner, inside, strict=True))
            weighted = whole[(slice(None), *inside)] * (z[:, None, None] * y[:, None] * x)
            total[(slice(None), *part.relative_to(write.start).slices)] += weighted
        arrays = {name: np.empty(write.shape, self.how.dtype) for name in self.targets}
        for z0 in range(write.shape[0]):  # in sections: what is computed on the way is larger than what is stored
            for name, values in self._stored(np.ascontiguousarray(total[:, z0 : z0 + 1])).items():
                arrays[name][z0 : z0 + 1] = values * seen[z0 : z0 + 1]
        return arrays

    @functools.cached_property
    def _axes(self) -> list[dict[int, Float32]]:
        """The weights of the tiles along each axis, by where they begin."""
        weights = (
            smooth_weights(starts, side) for starts, side in zip(self.tiles.starts, self.tiles.shape, strict=True)
        )
        return [dict(zip(starts, found, strict=True)) for starts, found in zip(self.tiles.starts, weights, strict=True)]

    def _stored(self, logits: Float32) -> Arrays:
        """Return logits `heads z y x` as what is stored, by name."""
        units = {PROBABILITY: self.model.probability(logits), DISTANCE: self.model.distance(logits)}
        whole = self.how.dtype == "uint8"
        return {
            name: to_uint8(unit) if whole else unit.astype(np.float32)
            for name, unit in units.items()
            if unit is not None
        }


def _counted(logits: Iterator[T], number: int, tick: Tick) -> Iterator[T]:
    for done, item in enumerate(logits, start=1):
        yield item
        tick(done / number)


def to_uint8(unit: Float32) -> npt.NDArray[np.uint8]:
    """Return values of 0-1 as 0-255, rounded to the nearest: v stands for v / 255.

    Example:
        >>> to_uint8(np.array([0, 0.2, 0.5, 1], np.float32)).tolist()
        [0, 51, 128, 255]
    """
    return np.rint(unit * 255).astype(np.uint8)


def balanced_block(shape: IntZYX, step: IntZYX, chunk: IntZYX, voxels: float) -> IntZYX:
    """Return sides of a block of about so many voxels that computes few tiles twice.

    Both sides of a border between blocks compute the tiles across it: along each axis about one tile more than the block
    has steps. So a block gets the same number of steps along each axis, and whole axes where those are short.

    Args:
        shape: Of the volume, z y x.
        step: From one tile to the next.
        chunk: What the sides shall be multiples of.
        voxels: About how many a block shall have.

    Example:
        >>> balanced_block((20, 4096, 4096), (4, 48, 48), (16, 128, 128), 2**24)
        (20, 896, 896)
    """
    sides, free, steps = list(shape), {0, 1, 2}, 0.0
    while free:
        fixed = math.prod(sides[axis] for axis in {0, 1, 2} - free)
        steps = (voxels / fixed / math.prod(step[axis] for axis in free)) ** (1 / len(free))
        whole = {axis for axis in free if steps * step[axis] >= shape[axis]}
        if not whole:
            break
        free -= whole
    for axis in free:
        sides[axis] = min(shape[axis], max(1, round(steps * step[axis] / chunk[axis])) * chunk[axis])
    z, y, x = sides
    return z, y, x
