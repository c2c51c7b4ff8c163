"""A volume slab by slab: how anything larger than memory is read through once, in order, in few large pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cleftnet.geometry import Box, IntZYX
from cleftnet.volumes.volume import Array, Store, Volume

CHUNK_VOX: IntZYX = (8, 128, 128)  # the chunk of the HDF5 files we write

Progress = Callable[[int, int], None]  # called with the voxels done and the voxels in all


class WritableStore(Store, Protocol):
    """A store whose boxes can be written, in any order."""

    def __setitem__(self, index: tuple[slice, slice, slice], values: Any, /) -> None:
        """Write one box."""


def slabs(box: Box, max_voxels: int = 2**23, chunk: IntZYX = CHUNK_VOX) -> Iterator[Box]:
    """Cut a box into slabs of whole slices, of whole rows where slices are very large, or of less where rows are.

    Slabs come in z y x order, cover every voxel exactly once and end at the borders of chunks, so that no chunk is read or
    written twice. One slab holds about `max_voxels` at most, but never less than one chunk.

    Args:
        box: What to cover.
        max_voxels: How many voxels one slab may hold.
        chunk: Sides of a chunk in voxels, z y x; the first begins where the box does.

    Example:
        >>> [str(slab) for slab in slabs(Box.of((20, 128, 64)), max_voxels=8 * 128 * 64)]
        ['0:8,0:128,0:64', '8:16,0:128,0:64', '16:20,0:128,0:64']
    """
    _, height, width = box.shape
    columns = max(1, max_voxels // (chunk[0] * chunk[1] * chunk[2])) * chunk[2]
    width = min(width, columns)
    depth = max(1, max_voxels // max(1, height * width * chunk[0])) * chunk[0]
    rows = max(1, max_voxels // max(1, depth * width * chunk[1])) * chunk[1]
    for z, y, x in itertools.product(*map(range, box.start, box.stop, (depth, rows, columns))):
        yield Box.at((z, y, x), (depth, rows, columns)).intersect(box)


def copy(
    source: Volume,
    target: WritableStore,
    convert: Callable[[Array], Array] = lambda values: values,
    progress: Progress | None = None,
) -> None:
    """Copy a volume into a store of the same shape, holding one slab in memory.

    Args:
        source: What to read.
        target: Where to write, the same shape; its `chunk_shape`, where it has one, says where slabs may end.
        convert: Applied to every slab on its way.
        progress: Called after every slab with the voxels done and the voxels in all.
    """
    done = 0
    for slab in slabs(source.box, chunk=getattr(target, "chunk_shape", CHUNK_VOX)):
        target[slab.slices] = convert(source[slab])
        done += slab.voxels
        if progress is not None:
            progress(done, source.box.voxels)
