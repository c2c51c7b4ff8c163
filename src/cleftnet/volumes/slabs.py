"""A volume slab by slab: how anything larger than memory is read through once, in order, in few large pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cleftnet.geometry import Box, IntZYX
from cleftnet.volumes.volume import Array, Store, Volume

CHUNK_VOX: IntZYX = (8, 128, 128)  # the chunk of the files we write; slabs end at its borders, so none is read twice

Progress = Callable[[int, int], None]  # called with the voxels done and the voxels in all


class WritableStore(Store, Protocol):
    """A store whose boxes can be written, in any order."""

    def __setitem__(self, index: tuple[slice, slice, slice], values: Any, /) -> None:
        """Write one box."""


def slabs(box: Box, max_voxels: int = 2**23) -> Iterator[Box]:
    """Cut a box into slabs of whole slices, or of whole rows where slices are very large.

    Slabs come in z y x order and cover every voxel exactly once. One slab holds about `max_voxels` at most, but never
    less than one row of chunks.

    Example:
        >>> [str(slab) for slab in slabs(Box.of((20, 128, 64)), max_voxels=8 * 128 * 64)]
        ['0:8,0:128,0:64', '8:16,0:128,0:64', '16:20,0:128,0:64']
    """
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    _, height, width = box.shape
    depth = max(1, max_voxels // max(1, height * width * CHUNK_VOX[0])) * CHUNK_VOX[0]
    rows = max(1, max_voxels // max(1, depth * width * CHUNK_VOX[1])) * CHUNK_VOX[1]
    for z in range(z0, z1, depth):
        for y in range(y0, y1, rows):
            yield Box((z, y, x0), (min(z + depth, z1), min(y + rows, y1), x1))


def copy(
    source: Volume,
    target: WritableStore,
    convert: Callable[[Array], Array] = lambda values: values,
    progress: Progress | None = None,
) -> None:
    """Copy a volume into a store of the same shape, holding one slab in memory.

    Args:
        source: What to read.
        target: Where to write, the same shape.
        convert: Applied to every slab on its way.
        progress: Called after every slab with the voxels done and the voxels in all.
    """
    done = 0
    for slab in slabs(source.box):
        target[slab.slices] = convert(source[slab])
        done += slab.voxels
        if progress is not None:
            progress(done, source.box.voxels)
