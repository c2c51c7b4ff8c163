"""Index of the patch places with enough cleft voxels: one bit for each place, so that rejection reads no voxels.

The cleft voxels of all boxes of one shape are counted by a running sum over sections. A few sections are in memory at a
time, whatever the size of the volume.
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
    """Whether the patch at each place of a volume holds enough cleft voxels.

    Args:
        places: Number of places along z y x.
        bits: One bit for each place, packed along x: uint8 of shape (z, y, ceil(x / 8)).
        cleft_voxels: Number of cleft voxels in the whole volume.
    """

    places: IntZYX
    bits: npt.NDArray[np.uint8]
    cleft_voxels: int

    @classmethod
    def of(cls, target: Volume, patch: IntZYX, at_least: int) -> CleftIndex:
        """Count the cleft voxels (target > 0) in every box of the patch's shape.

        Args:
            target: Targets of a volume with no axis shorter than the patch's; read once, section by section.
            patch: Sides z y x in voxels.
            at_least: Number of cleft voxels that is enough.

        Example:
            >>> target = Volume(np.array([[[0, 0, 0.76, 0.76, 0]]], np.float32))
            >>> index = CleftIndex.of(target, (1, 1, 2), at_least=1)
            >>> [index.enough((0, 0, x)) for x in range(4)]
            [False, True, True, True]
        """
        z, y, x = (n - p + 1 for n, p in zip(target.shape, patch, strict=True))
        bits = np.empty((z, y, -(-x // 8)), np.uint8)
        inside, voxels = np.zeros((y, x), np.int32), 0
        planes: deque[Int32] = deque()  # those that the box spans
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
        """Return whether the patch that begins at `start` holds enough cleft voxels."""
        z, y, x = start
        return bool(self.bits[z, y, x >> 3] >> (7 - (x & 7)) & 1)

    @property
    def share(self) -> float:
        """Share of places with enough cleft voxels."""
        z, y, x = self.places  # bits beyond the last place are 0
        return int(np.bitwise_count(self.bits).sum(dtype=np.int64)) / (z * y * x)


def _sections(target: Volume) -> Iterator[Array]:
    """Yield the cleft mask y x of each section."""
    depth, height, width = target.shape
    for z in range(depth):
        yield target[Box((z, 0, 0), (z + 1, height, width))][0] > 0


def _counts(cleft: Array, height: int, width: int) -> Int32:
    """Return the number of cleft voxels in every rectangle of one section, from its summed-area table."""
    table = np.zeros((cleft.shape[0] + 1, cleft.shape[1] + 1), np.int32)
    np.cumsum(cleft, axis=1, dtype=np.int32, out=table[1:, 1:])
    np.cumsum(table, axis=0, out=table)
    rows = table[height:] - table[:-height]
    return np.asarray(rows[:, width:] - rows[:, :-width])
