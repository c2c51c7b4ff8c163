"""Cuts a region into blocks that share no chunk of the output, so that processes may write them at the same time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, IntZYX


@dataclass(frozen=True)
class BlockGrid(Sequence[Block]):
    """A region cut into blocks whose write boxes cover every voxel exactly once and share no chunk of the output.

    Blocks are made on access, so that a grid of any size takes no memory; they come in z y x order.

    Args:
        box: The region, voxels z y x; chunks begin at its first voxel.
        shape: Sides of a block in voxels, rounded up to whole chunks; blocks at the far border are cut.
        chunk: Sides in voxels of a chunk, which only one process may write at a time.
        reads: Returns the box that a block reads for its write box, such as that box grown by a halo; cut at the border.

    Raises:
        InputError: when a side is not positive.

    Example:
        >>> grid = BlockGrid(Box.of((20, 10, 4)), (10, 10, 10), (8, 4, 4), functools.partial(Box.grow, by=(2, 0, 0)))
        >>> [(str(block.read), str(block.write)) for block in grid]
        [('0:18,0:10,0:4', '0:16,0:10,0:4'), ('14:20,0:10,0:4', '16:20,0:10,0:4')]
    """

    box: Box
    shape: Sequence[int]
    chunk: Sequence[int] = (1, 1, 1)
    reads: Callable[[Box], Box] = lambda write: write

    def __post_init__(self) -> None:
        if min(*self.shape, *self.chunk) < 1:
            raise InputError(f"block {tuple(self.shape)} needs three positive sides z y x; try block=(64, 512, 512)")

    @functools.cached_property
    def step(self) -> IntZYX:
        """Sides of a block in whole chunks."""
        return _zyx(math.ceil(side / c) * c for side, c in zip(self.shape, self.chunk, strict=True))

    @functools.cached_property
    def counts(self) -> IntZYX:
        """How many blocks there are along z y x."""
        return _zyx(math.ceil(n / side) for n, side in zip(self.box.shape, self.step, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        _, height, width = self.counts
        rest, x = divmod(index % len(self), width)
        z, y = divmod(rest, height)
        corner = [start + n * side for start, n, side in zip(self.box.start, (z, y, x), self.step, strict=True)]
        write = Box.at(corner, self.step).intersect(self.box)
        return Block(self.reads(write).intersect(self.box), write)


def _zyx(sides: Iterable[int]) -> IntZYX:
    z, y, x = sides
    return z, y, x
