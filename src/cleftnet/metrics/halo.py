"""Distances block by block, for volumes larger than memory: exact within the halo, and marked as lower bounds beyond it.

A block reads a halo around what it scores. The nearest voxel outside the halo bounds every distance: a target within the bound
is the nearest one; beyond it a nearer target may lie outside, so that the bound is taken and counted as a lower bound. The
counts beyond 200 nm are always exact, since every halo is wider than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from pydantic import Field, PositiveInt

from cleftnet.geometry import Block, Box, FloatZYX, tile
from cleftnet.metrics.distances import FAR_NM, CremiScore, Distances, nearest_distances
from cleftnet.metrics.voxels import Floats, Mask
from cleftnet.settings import Settings


class HaloSettings(Settings):
    """Blocks that a volume larger than memory is scored in; about 12 bytes for each voxel of a block and its halo.

    Attributes:
        shape: What one block scores, voxels z y x.
        halo_nm: How far a block reads beyond that, on every side; more than 200 nm, which far voxels are counted by.
    """

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 1024, 1024)
    halo_nm: float = Field(1000.0, gt=FAR_NM)

    def cover(self, box: Box, voxel_size_nm: FloatZYX) -> Iterator[Block]:
        """Yield blocks that cover a box; each scores its own part and reads the halo around it.

        Example:
            >>> blocks = HaloSettings(shape=(2, 9, 9), halo_nm=201)
            >>> [str(block.read) for block in blocks.cover(Box.of((6, 9, 9)), (100, 50, 50))]
            ['0:5,0:9,0:9', '0:6,0:9,0:9', '1:6,0:9,0:9']
        """
        d, h, w = (min(side, length) for side, length in zip(self.shape, box.shape, strict=True))
        halo = [math.ceil(self.halo_nm / side) for side in voxel_size_nm]
        for block in tile(box, (d, h, w)):
            yield Block(read=block.write.grow(halo).intersect(box), write=block.write)


def whole(box: Box) -> list[Block]:
    """Return a single block that covers a box, so that all distances are exact."""
    return [Block(read=box, write=box)]


def score_block(predicted: Mask, true: Mask, block: Block, box: Box, voxel_size_nm: FloatZYX) -> list[CremiScore]:
    """Return the distances of the CREMI score for each section of a block.

    Args:
        predicted: Predicted cleft voxels of the block's read box, invalid ones left out.
        true: True cleft voxels of the same box, invalid ones left out.
        block: The box that the masks cover (read), and its part that is scored (write).
        box: The whole scored region, beyond which there are no voxels.
        voxel_size_nm: Voxel size, z y x.
    """
    of_predicted = _bounded(predicted, true, block, box, voxel_size_nm)
    of_true = _bounded(true, predicted, block, box, voxel_size_nm)
    return [CremiScore(p, t) for p, t in zip(of_predicted, of_true, strict=True)]


def _bounded(voxels: Mask, targets: Mask, block: Block, box: Box, voxel_size_nm: FloatZYX) -> Iterator[Distances]:
    scored = block.write.relative_to(block.read.start)
    if scored.shape != voxels.shape:
        inside = np.zeros_like(voxels)
        inside[scored.slices] = voxels[scored.slices]
        voxels = inside
    distances = nearest_distances(voxels, targets, voxel_size_nm)
    for z in range(scored.start[0], scored.stop[0]):
        if block.read == box:
            yield Distances.of(distances[z])
            continue
        bound = _unseen_nm(z, voxels[z], block.read, box, voxel_size_nm)
        beyond = int(np.count_nonzero(distances[z] > bound))
        yield Distances.of(np.minimum(distances[z], bound), lower_bounds=beyond)


def _unseen_nm(z: int, section: Mask, read: Box, box: Box, voxel_size_nm: FloatZYX) -> Floats:
    """Return a lower bound of the distance from each voxel of a section to the nearest voxel of `box` outside `read`."""
    y, x = np.nonzero(section)
    bound = np.full(y.size, np.inf)
    for axis, place in enumerate((np.full(y.size, z), y, x)):
        if read.start[axis] > box.start[axis]:
            np.minimum(bound, (place + 1) * voxel_size_nm[axis], out=bound)
        if read.stop[axis] < box.stop[axis]:
            np.minimum(bound, (read.shape[axis] - place) * voxel_size_nm[axis], out=bound)
    return bound
