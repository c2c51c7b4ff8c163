"""Where patches hold enough cleft: one bit for every place a patch can have, so that rejection reads no voxels.

The count of cleft voxels in every box of one shape is a running sum, made section by section: a few sections are held in
memory, whatever the size of the volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import Box, IntZYX
from cleftnet.volumes import Array, Volume

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CleftIndex:
    """For every place of a patch in a volume, whether it holds enough cleft voxels there.

    Args:
        places: How many places there are along z y x.
        bits: The answers, packed along x: uint8 of shape (z, y, ceil(x / 8)).
        cleft_voxels: How many there are in the whole volume.
    """

    places: IntZYX
    bits: npt.NDArray[np.uint8]
    cleft_voxels: int

    @classmethod
    def of(cls, target: Volume, patch: IntZYX, at_least: int) -> CleftIndex:
        """Count the cleft voxels (target > 0) of every box of the patch's shape.

        Args:
            target: Targets of a volume, read once, section by section; no axis shorter than the patch's.
            patch: Sides z y x in voxels.
            at_least: How many cleft voxels are enough.

        Example:
            >>> target = Volume(np.array([[[0, 0, 0.76, 0.76, 0]]], np.float32))
            >>> index = CleftIndex.of(target, (1, 1, 2), at_least=1)
            >>> [index.enough((0, 0, x)) for x in range(4)]
            [False, True, True, True]
        """
        z, y, x = (n - p + 1 for n, p in zip(target.shape, patch, strict=True))
        bits = np.empty((z, y, -(-x // 8)), np.uint8)
        inside, voxels = np.zeros((y, x), np.int32), 0
        planes: deque[Int32] = deque()  # the sections that the box spans
        for last, cleft in enumerate(_sections(target)):
            plane = _counts(cleft, patch[1], patch[2])
            voxels += int(np.count_nonzero(cleft))
            inside += plane
            planes.append(plane)
            if (first := last - patch[0] + 1) >= 0:
                bits[first] = np.packbits(inside >= at_least, axis=1)
                inside -= planes.popleft()
        return cls((z, y, x), bits, voxels)

    def enough(self, start: IntZYX) -> bool:
        """True when the patch that begins at `start` holds enough cleft voxels."""
        z, y, x = start
        return bool(self.bits[z, y, x >> 3] >> (7 - (x & 7)) & 1)

    @property
    def share(self) -> float:
        """The share of all places that hold enough."""
        z, y, x = self.places  # the bits beyond the last place are 0
        return int(np.bitwise_count(self.bits).sum(dtype=np.int64)) / (z * y * x)


def _sections(target: Volume) -> Iterator[Array]:
    """Yield for each section which of its voxels are cleft, y x."""
    depth, height, width = target.shape
    for z in range(depth):
        yield target[Box((z, 0, 0), (z + 1, height, width))][0] > 0


def _counts(cleft: Array, height: int, width: int) -> Int32:
    """Return the number of cleft voxels in every rectangle of one section: four corners of its summed-area table."""
    table = np.zeros((cleft.shape[0] + 1, cleft.shape[1] + 1), np.int32)
    np.cumsum(cleft, axis=1, dtype=np.int32, out=table[1:, 1:])
    np.cumsum(table, axis=0, out=table)
    rows = table[height:] - table[:-height]
    return np.asarray(rows[:, width:] - rows[:, :-width])
