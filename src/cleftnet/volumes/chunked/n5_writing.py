"""New N5 arrays; axes and lengths x y z on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from cleftnet.geometry import FloatZYX
from cleftnet.volumes.attributes import write_place
from cleftnet.volumes.chunked.arrays import ChunkedStore, create_array, digest
from cleftnet.volumes.chunked.n5 import ATTRIBUTES
from cleftnet.volumes.chunked.storage import UNSYNCED, join, kvstore, write_json
from cleftnet.volumes.chunked.writing import CHUNK_VOX, container, held_type
from cleftnet.volumes.layout import Layout
from cleftnet.volumes.slabs import WritableStore

_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


@contextmanager
def new_n5(path: str, overwrite: bool, layout: Layout) -> Iterator[NewN5]:
    """Yield a new N5 container to be filled, see `container`."""
    with container(path, overwrite, lambda at, called: NewN5(at, called, layout)) as new:
        write_json(new.path, ATTRIBUTES, {"n5": "2.0.0"})
        yield new


@dataclass(frozen=True)
class NewN5:
    """An N5 container being made; see `NewZarr` for the arguments."""

    path: str
    called: str
    layout: Layout

    def create(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        voxel_size_nm: FloatZYX | None,
        offset_nm: FloatZYX = (0.0, 0.0, 0.0),
        threshold: float | None = None,
    ) -> WritableStore:
        """Create an array, zero where nobody writes; bool is stored as uint8. See `NewZarr.create` for the arguments.

        Raises:
            InputError: when N5 has no such type of voxels, or the array no name.
        """
        called = join(self.called, name)
        stored = held_type(dtype, _TYPES, "N5", called)
        sides = tuple(int(n) for n in shape)
        size = None if voxel_size_nm is None else voxel_size_nm[::-1]
        metadata: dict[str, Any] = {
            "dimensions": sides[::-1],
            "blockSize": self.layout.sides(sides, CHUNK_VOX)[::-1],
            "dataType": stored.name,
            "compression": {"type": "gzip", "level": 1},  # what every reader of N5 knows
            "axes": list("xyz"),
            **write_place(size, offset_nm[::-1], threshold),
        }
        if size is not None:
            metadata["pixelResolution"] = {"dimensions": list(size), "unit": "nm"}
        spec = {"driver": "n5", "kvstore": kvstore(join(self.path, name)), **UNSYNCED}
        create_array({**spec, "metadata": metadata}, called)
        return ChunkedStore(json.dumps(spec), called, sides, stored, (2, 1, 0), digest(metadata))
