"""Lower resolutions of an array, for viewers.

Voxels are merged along y and x until they are about cubes, then along all three axes. Gray values and probabilities are
averaged; labels become the id that most voxels have (the smallest where several tie).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleftnet.geometry import Box, FloatZYX, IntZYX, slabs
from cleftnet.volumes.address import FAILURES
from cleftnet.volumes.chunked import ChunkedStore, open_array, unwritable
from cleftnet.volumes.forks import run
from cleftnet.volumes.volume import Array, Progress, Slices

_BLOCK_VOX = 2**20  # of the coarser level; eight times as many are read
_CUBE = math.sqrt(2)  # an axis is halved while its voxels are shorter than this, in units of the shortest side


def plan(shape: Sequence[int], voxel_size_nm: FloatZYX, smallest: Sequence[int]) -> list[IntZYX]:
    """Return how many full voxels one voxel of each level covers, z y x, the full resolution first.

    Args:
        shape: Sides of the full resolution in voxels, z y x.
        voxel_size_nm: Voxel size of the full resolution, z y x.
        smallest: Sides in voxels, z y x; the first level that has no more voxels than this is the last.

    Example:
        >>> plan((64, 1024, 1024), (40, 4, 4), (16, 128, 128))
        [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)]
    """
    levels: list[IntZYX] = [(1, 1, 1)]
    while True:
        last = levels[-1]
        sides = [-(-n // f) for n, f in zip(shape, last, strict=True)]
        sizes = [f * v for f, v in zip(last, voxel_size_nm, strict=True)]
        short = min(s for s, n in zip(sizes, sides, strict=True) if n > 1) if max(sides) > 1 else 0.0
        halved = [n > 1 and s < _CUBE * short for s, n in zip(sizes, sides, strict=True)]
        if math.prod(sides) <= math.prod(smallest) or not any(halved):
            return levels
        z, y, x = (f * 2 if halve else f for f, halve in zip(last, halved, strict=True))
        levels.append((z, y, x))


def level_place(voxel_size_nm: FloatZYX, offset_nm: FloatZYX, factors: IntZYX) -> tuple[FloatZYX, FloatZYX]:
    """Return voxel size and offset of a level; the center of its first voxel lies (f − 1)/2 full voxels further.

    Args:
        voxel_size_nm: Voxel size of the full resolution, z y x.
        offset_nm: Position of the center of its first voxel, z y x.
        factors: How many full voxels one voxel of the level covers, z y x.

    Example:
        >>> level_place((40, 4, 4), (80, 0, 0), (1, 2, 2))
        ((40, 8, 8), (80.0, 2.0, 2.0))
    """
    size_z, size_y, size_x = (f * v for f, v in zip(factors, voxel_size_nm, strict=True))
    z, y, x = (o + (f - 1) / 2 * v for o, f, v in zip(offset_nm, factors, voxel_size_nm, strict=True))
    return (size_z, size_y, size_x), (z, y, x)


@dataclass(frozen=True)
class Pyramid:
    """A new array with its lower resolutions: write the array, then call `fill` to compute the others.

    Args:
        levels: The arrays, the full resolution first.
        factors: How many full voxels one voxel of each level covers, z y x.
        labels: Whether the arrays hold ids, which cannot be averaged.
    """

    levels: tuple[ChunkedStore, ...]
    factors: tuple[IntZYX, ...]
    labels: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths of the full resolution in voxels, z y x."""
        return self.levels[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        return self.levels[0].dtype

    @property
    def chunk_shape(self) -> IntZYX:
        """Sides of a chunk of the full resolution in voxels, z y x."""
        return self.levels[0].chunk_shape

    def __getitem__(self, index: Slices) -> Array:
        """Read one box of the full resolution."""
        return self.levels[0][index]

    def __setitem__(self, index: Slices, values: Any) -> None:
        """Write one box of the full resolution."""
        self.levels[0][index] = values

    def fill(self, progress: Progress | None = None) -> None:
        """Compute every lower resolution from the one above it, block by block.

        Args:
            progress: Called after every block with the number of voxels done and of all voxels of the lower resolutions.
        """
        done, total = 0, sum(math.prod(level.shape) for level in self.levels[1:])
        pairs = zip(itertools.pairwise(self.levels), itertools.pairwise(self.factors), strict=True)
        for (finer, coarser), (before, after) in pairs:
            step = [b // a for a, b in zip(before, after, strict=True)]
            for box in slabs(Box.of(coarser.shape), _BLOCK_VOX, coarser.chunk_shape):
                run(_downsample, finer, coarser, step, self.labels, box)
                done += box.voxels
                if progress is not None:
                    progress(done, total)


def _downsample(finer: ChunkedStore, coarser: ChunkedStore, step: Sequence[int], labels: bool, box: Box) -> None:
    """Write one box of a level; both levels count voxels from the origin of the format, not from the first voxel."""
    import tensorstore as ts

    target = open_array(coarser, write=True)
    view = ts.downsample(open_array(finer), step, method="mode" if labels else "mean")
    origin = target.domain.origin
    region = tuple(slice(s.start + o, s.stop + o) for s, o in zip(box.slices, origin, strict=True))
    try:
        target[region].write(view[region].read().result()).result()
    except FAILURES as error:
        raise unwritable(coarser.address, error) from error
