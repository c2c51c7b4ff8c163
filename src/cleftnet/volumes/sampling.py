"""Cheap checksums of a volume, from a sample of its voxels."""

from __future__ import annotations

import itertools
import zlib

import numpy as np

from cleftnet.geometry import Box
from cleftnet.volumes.volume import Volume

PLACES = 4  # along each axis
SIDE_VOX = 16  # of a place along y and x; one section along z


def sampled_checksums(volume: Volume) -> tuple[int | None, ...]:
    """Return CRC-32 sums of 4×4×4 evenly spread places of 16×16 voxels each; None where voxels cannot be read.

    At most 64 chunks are read, however large the volume is. The sums tell a volume that was rewritten, shifted or rescaled,
    but perhaps not a change of a few voxels.

    Example:
        >>> len(sampled_checksums(Volume(np.zeros((8, 64, 64), np.uint8))))
        64
    """
    sides = [1, *(min(SIDE_VOX, n) for n in volume.shape[1:])]
    starts = [
        np.unique(np.linspace(0, n - side, PLACES).astype(int)).tolist()
        for n, side in zip(volume.shape, sides, strict=True)
    ]
    return tuple(_checksum(volume, Box.at(start, sides)) for start in itertools.product(*starts))


def _checksum(volume: Volume, box: Box) -> int | None:
    try:
        values = volume[box]
    except Exception:  # whatever is wrong with these voxels, blocks that need them will report it
        return None
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return zlib.crc32(plain, zlib.crc32(values.dtype.name.encode()))
