"""Copies a volume into a store slab by slab, so that anything larger than memory can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cleftnet.geometry import SLAB_CHUNK_VOX, slabs
from cleftnet.volumes.volume import Array, Store, Volume

Progress = Callable[[int, int], None]  # called with the voxels done and the voxels in all


class WritableStore(Store, Protocol):
    """A store whose boxes can be written, in any order."""

    def __setitem__(self, index: tuple[slice, slice, slice], values: Any, /) -> None:
        """Write one box."""


def copy_into(
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
    for slab in slabs(source.box, chunk=getattr(target, "chunk_shape", SLAB_CHUNK_VOX)):
        target[slab.slices] = convert(source[slab])
        done += slab.voxels
        if progress is not None:
            progress(done, source.box.voxels)
