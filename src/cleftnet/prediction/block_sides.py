"""Chooses the sides of blocks so that few tiles across their borders are computed twice."""

from __future__ import annotations

import functools
import math

import numpy as np

from cleftnet.geometry import IntZYX, TileGrid


def block_sides(tiles: TileGrid, chunk: IntZYX, voxels: float) -> IntZYX:
    """Choose the sides of a block so that few tiles are computed twice.

    Both sides of a border between blocks compute the tiles across it, on average as many as a tile is steps long. Of all
    blocks that end at chunk borders and fit, the one with the fewest tiles in total is taken; of equals, the smallest.

    Args:
        tiles: Tiles of the volume.
        chunk: Sides of a chunk, which the sides of the block are multiples of.
        voxels: Largest number of voxels of a block; a block of a single chunk is always allowed.

    Example:
        >>> from cleftnet.geometry import Box
        >>> block_sides(TileGrid(Box.of((512, 1024, 1024)), (16, 128, 128), (2, 16, 16)), (16, 128, 128), 2**26)
        (64, 1024, 1024)
    """
    sides, computed = [], []
    for axis, (length, patch, shared, unit) in enumerate(
        zip(tiles.box.shape, tiles.shape, tiles.overlap, chunk, strict=True)
    ):
        chunks = -(-length // unit)
        choices = np.minimum(np.unique(-(-chunks // np.arange(1, chunks + 1))) * unit, length)  # those that divide well
        choices = choices[choices * (math.prod(chunk) / unit) <= max(voxels, math.prod(chunk))]
        sides.append(choices)
        computed.append(len(tiles.starts[axis]) + (-(-length // choices) - 1) * patch / (patch - shared))
    size, work = (functools.reduce(np.multiply.outer, values) for values in (sides, computed))
    fits = np.nonzero((size <= voxels) | (size == size.min()))
    best = np.lexsort((size[fits], work[fits]))[0]
    z, y, x = (int(choices[where[best]]) for choices, where in zip(sides, fits, strict=True))
    return z, y, x
