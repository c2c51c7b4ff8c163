"""One array of a chunked format (Zarr, N5, precomputed) as a lazy store, read and written box by box through tensorstore.

A store holds only what tensorstore needs to open the array, so that it travels to other processes; each process opens the array
for itself at the first use. Axes are z y x whatever their order on disk.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cleftnet.errors import InputError
from cleftnet.files import DISK_FULL, replacing
from cleftnet.geometry import Box, IntZYX
from cleftnet.volumes.address import FAILURES, context, is_network, is_remote, one_line, read_json, remove_remote
from cleftnet.volumes.chunk_limits import check_chunk
from cleftnet.volumes.forks import run
from cleftnet.volumes.volume import Array, Slices, Volume

if TYPE_CHECKING:
    import tensorstore as ts

T = TypeVar("T")

CHUNK_VOX: IntZYX = (16, 128, 128)  # 256 KB of gray values: small enough for a viewer, large enough for a file system
_MARKS = ("zarr.json", ".zgroup", ".zarray", "attributes.json", "info")  # one of these files is in every container


@dataclass(frozen=True)
class ChunkedStore:
    """The voxels of one array, read and written box by box.

    Args:
        spec: What tensorstore opens, as JSON text.
        address: The address of the array, for messages.
        shape: Side lengths in voxels, z y x.
        dtype: The type of one voxel, in this machine's byte order.
        axes: The positions of z, y and x among the array's own axes; the others have length 1.
        version: A digest of the array's metadata, see `digest`; it tells an array from the one that replaced it.
    """

    spec: str
    address: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    version: str = ""

    def __getitem__(self, index: Slices) -> Array:
        """Read one box.

        Raises:
            InputError: when a chunk is damaged, or a server does not answer.
        """
        return run(_read, self, index)

    def __setitem__(self, index: Slices, values: Any) -> None:
        """Write one box.

        Raises:
            InputError: when the values do not fit the array's type, or cannot be written.
            OSError: when the disk is full.
        """
        new = np.asarray(values)
        if new.dtype.kind == "f" and self.dtype.kind != "f":
            raise InputError(f"{self.address} holds {self.dtype} and cannot take {new.dtype}; scale and round it first")
        run(_write, self, index, new.astype(self.dtype, copy=False))

    @property
    def chunk_shape(self) -> IntZYX:
        """Sides of a chunk in voxels, z y x; different processes may write different chunks at the same time."""
        return run(_chunk_shape, self)


@dataclass(frozen=True)
class WritableVolume:
    """An array that exists, open for writing.

    Several processes may write into one array at the same time as long as no two of them write into one chunk: cut the
    volume at multiples of `chunk_shape`. A box that cuts chunks is written as well, by reading them first.

    Args:
        volume: The same array for reading.
        chunk_shape: Sides of a chunk in voxels, z y x; the first chunk begins at the first voxel.
    """

    volume: Volume
    chunk_shape: IntZYX

    def __getitem__(self, box: Box) -> Array:
        """Read one box of voxels."""
        return self.volume[box]

    def __setitem__(self, box: Box, values: Any) -> None:
        """Write one box of voxels; when this returns they are on disk.

        Raises:
            InputError: when the box reaches outside the volume, or the values do not fit its type.
        """
        if not self.volume.box.contains(box):
            raise InputError(f"region {box} reaches outside {self.volume.address}, which is {self.volume.box}")
        store = self.volume.store
        assert isinstance(store, ChunkedStore)
        store[box.slices] = values


@contextmanager
def container(path: str, overwrite: bool, make: Callable[[str, str], T]) -> Iterator[T]:
    """Yield a new container, which takes its place when the body succeeds and vanishes when it fails.

    In a bucket nothing can be renamed: there a container is written in its place, and deleted when the body fails.

    Args:
        path: Where it shall be, a local path or a URL.
        overwrite: Whether a container already there may be replaced.
        make: Called with the path to write to and the path for messages.

    Raises:
        InputError: when the output exists, or nothing can be written there.
    """
    if not is_remote(path):
        with replacing(Path(path), overwrite) as temporary:
            temporary.mkdir()
            yield make(str(temporary), path)
        return
    if path.startswith("http"):
        raise InputError(f"{path}: nothing can be written over HTTP; write to s3://, gs:// or a local file")
    if any(read_json(path, mark) is not None for mark in _MARKS):
        if not overwrite:
            raise InputError(f"{path} exists already; add overwrite=True or choose another name")
        remove_remote(path)
    try:
        yield make(path, path)
    except BaseException:  # an interrupt too: a half-written array must never be taken for a result
        remove_remote(path)
        raise


def digest(metadata: Mapping[str, Any]) -> str:
    """Return a short text that differs where the metadata do."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]


def create_array(spec: dict[str, Any], address: str) -> None:
    """Make an array, zero everywhere.

    Args:
        spec: What tensorstore needs, metadata included.
        address: The address of the array, for messages.

    Raises:
        InputError: when the format cannot hold such an array, or nothing can be written there.
        OSError: when the disk is full.
    """
    run(_create, json.dumps(spec), address)


def open_array(store: ChunkedStore, write: bool = False) -> ts.TensorStore:
    """Return the array with axes z y x and the format's own origin (precomputed: not at zero); call it within `run`.

    Raises:
        InputError: when tensorstore cannot open it, or its chunks take too much memory.
    """
    try:
        return _open(store, write)
    except InputError:
        raise
    except FAILURES as error:
        raise _unreadable(store, "cannot be opened", error) from error


def forget_opened() -> None:
    """Close the arrays that this process has opened and does not use: others are about to be created in their place."""
    _open.cache_clear()


@functools.lru_cache(maxsize=128)
def _open(store: ChunkedStore, write: bool) -> ts.TensorStore:
    import tensorstore as ts

    array = ts.open(json.loads(store.spec), read=True, write=write, open=True, context=context()).result()
    sides = (side or 1 for side in array.chunk_layout.read_chunk.shape or array.shape)
    check_chunk(math.prod(sides) * array.dtype.numpy_dtype.itemsize, store.address)
    others = [axis for axis in range(array.rank) if axis not in store.axes]
    array = array.transpose([*others, *store.axes])
    for _ in others:
        array = array[ts.d[0].translate_to[0]][0]
    if tuple(array.shape) != store.shape:
        raise ValueError(f"its shape is {tuple(array.shape)} and not {store.shape}, as its metadata said")
    return array


def _from_zero(store: ChunkedStore, write: bool = False) -> ts.TensorStore:
    import tensorstore as ts

    return open_array(store, write)[ts.d[:].translate_to[0]]


def _read(store: ChunkedStore, index: Slices) -> Array:
    array = _from_zero(store)
    try:
        return np.asarray(array[index].read(order="C").result())
    except FAILURES as error:
        raise _unreadable(store, f"cannot be read at {_box(index)}", error) from error


def _write(store: ChunkedStore, index: Slices, values: Array) -> None:
    """Write one box, chunk by chunk, and return only when no write is under way any more, whatever happened."""
    array = _from_zero(store, write=True)
    chunk = [side or 1 for side in array.chunk_layout.write_chunk.shape or store.shape]
    starts = [[s.start, *range((s.start // c + 1) * c, s.stop, c)] for s, c in zip(index, chunk, strict=True)]
    stops = [[*begins[1:], s.stop] for begins, s in zip(starts, index, strict=True)]
    values = np.broadcast_to(values, [s.stop - s.start for s in index])
    under_way = []
    for corner in itertools.product(*(zip(a, b, strict=True) for a, b in zip(starts, stops, strict=True))):
        there = tuple(slice(a, b) for a, b in corner)
        here = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(corner, index, strict=True))
        under_way.append(array[there].write(values[here]))
    try:
        for writing in under_way:
            writing.result()
    except BaseException as error:  # an interrupt too: a late chunk would land in a folder that is being removed
        for writing in under_way:
            writing.exception()
        if isinstance(error, FAILURES):
            raise unwritable(store.address, error) from error
        raise


def _create(spec: str, address: str) -> None:
    import tensorstore as ts

    try:
        ts.open(json.loads(spec), create=True, open=False, context=context()).result()
    except FAILURES as error:
        raise unwritable(address, error) from error


def _chunk_shape(store: ChunkedStore) -> IntZYX:
    z, y, x = (side or 1 for side in open_array(store).chunk_layout.write_chunk.shape or (1, 1, 1))
    return z, y, x


def _box(index: Sequence[slice]) -> str:
    return ",".join(f"{s.start}:{s.stop}" for s in index)


def _unreadable(store: ChunkedStore, what: str, error: Exception) -> InputError:
    advice = "check the network and the address" if is_network(error) else "the array is damaged there: fetch it again"
    return InputError(f"{store.address} {what} ({one_line(error)}); {advice}")


def unwritable(address: str, error: Exception) -> Exception:
    """Return a full disk as the operating system's own error, and everything else as one line."""
    for number in DISK_FULL:
        meaning = os.strerror(number)  # all that TensorStore 0.1.60 says of it
        if f"os_error_code='{number}'" in str(error) or f"[OS error: {meaning}]" in str(error):
            return OSError(number, meaning)
    return InputError(f"{address} cannot be written ({one_line(error)}); check the permissions and the address")
