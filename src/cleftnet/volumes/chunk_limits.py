"""Limits on what one chunk may unpack to, so that a small file cannot take the memory of the machine.

A library unpacks a chunk whole, before anything compares its size with what the file says. A decompression bomb is a chunk
that is said to be small and unpacks to gigabytes, or that is said to be gigabytes.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator

import h5py

from cleftnet.errors import InputError
from cleftnet.volumes.volume import Slices

LARGEST_CHUNK_BYTES = 2**31
_SURPLUS_BYTES = 2**28  # more than a chunk should take, which is not worth the time of unpacking it twice
_DEFLATE_RATIO = 1032  # the most that a byte of deflate unpacks to
_BOUNDED = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET)
_PIECE_BYTES = 2**22


def check_chunk(size: int, address: str) -> None:
    """Refuse chunks that take too much memory.

    Args:
        size: Bytes of an unpacked chunk, as the file says.
        address: The address of the array, for messages.

    Raises:
        InputError: when it is more than `LARGEST_CHUNK_BYTES`.

    Example:
        >>> check_chunk(2**40, "a.zarr")
        Traceback (most recent call last):
        cleftnet.errors.InputError: a.zarr is in chunks of 1,024 GiB, more than the 2 GiB that are read at once; save it in \
smaller chunks, or check that the file is not damaged
    """
    if size > LARGEST_CHUNK_BYTES:
        raise InputError(
            f"{address} is in chunks of {size / 2**30:,.0f} GiB, more than the {LARGEST_CHUNK_BYTES // 2**30} GiB that are "
            f"read at once; save it in smaller chunks, or check that the file is not damaged"
        )


def check_hdf5_chunks(dataset: h5py.Dataset, index: Slices, address: str) -> None:
    """Refuse compressed chunks of HDF5 that would unpack to far more than their voxels.

    A chunk that could unpack to less than 256 MiB too much passes without being looked into.

    Args:
        dataset: The dataset.
        index: The box that is about to be read, with non-negative bounds.
        address: Its address, for messages.

    Raises:
        InputError: when a chunk is too large, longer than its voxels, or unpacks to more than them.
    """
    if dataset.chunks is None:
        return
    how = dataset.id.get_create_plist()
    filters = [how.get_filter(number)[0] for number in range(how.get_nfilters())]
    packers = [number for number, kind in enumerate(filters) if kind not in _BOUNDED]
    if not packers:
        return
    if len(packers) > 1:
        raise InputError(
            f"{address} is compressed {len(packers)} times over; repack it with one compression (h5repack)"
        )
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    check_chunk(size, address)
    for corner in _corners(dataset.chunks, index):
        stored = dataset.id.get_chunk_info_by_coord(corner).size
        if stored > size + size // 8 + 2**16:
            raise _bomb(address, corner)
        if filters[packers[0]] == h5py.h5z.FILTER_DEFLATE and stored * _DEFLATE_RATIO > size + _SURPLUS_BYTES:
            skipped, packed = dataset.id.read_direct_chunk(corner)
            if not skipped >> packers[0] & 1 and _unpacks_to_more(packed, size):
                raise _bomb(address, corner)


def _corners(chunks: tuple[int, ...], index: Slices) -> Iterator[tuple[int, ...]]:
    """Yield the first voxel of every chunk that a box touches."""
    return itertools.product(
        *(range(s.start // side * side, s.stop, side) for s, side in zip(index, chunks, strict=True))
    )


def _unpacks_to_more(packed: bytes, size: int) -> bool:
    unpacker, total = zlib.decompressobj(), 0
    try:
        while packed and total <= size:
            total += len(unpacker.decompress(packed, _PIECE_BYTES))
            packed = unpacker.unconsumed_tail
    except zlib.error:  # HDF5 says so when it reads the chunk
        return False
    return total > size


def _bomb(address: str, corner: tuple[int, ...]) -> InputError:
    at = ",".join(map(str, corner))
    return InputError(
        f"{address} has a chunk at {at} that unpacks to more than its voxels; the file is damaged or was made to "
        f"exhaust the memory: fetch it again"
    )
