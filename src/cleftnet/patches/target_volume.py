"""Targets of a whole volume, computed once, tile by tile, and cached on disk for all processes and later runs.

A tile is computed with as much context as can change a value: beyond `FARTHEST` the tanh is 1 in float32. Memory
therefore depends on the tile, not on the volume, and the values equal those of the whole volume.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX, slabs, tile
from cleftnet.patches.patch import UNKNOWN, Float32
from cleftnet.patches.targets import FARTHEST, FARTHEST_OUTSIDE, distance_map
from cleftnet.progress import track
from cleftnet.volumes import Array, Volume, is_labelled

log = logging.getLogger(__name__)

CACHE = "CLEFTNET_CACHE"  # environment variable that names another cache folder
TILE_VOX: IntZYX = (64, 512, 512)
IN_MEMORY_VOXELS = 2**24  # smaller volumes take seconds and 64 MiB; they are not cached
_LAYOUT = 1  # to be raised whenever the targets of the same labels change
_CRC_BYTES = 4


def cache_folder() -> Path:
    """Return the folder of cached targets, `$CLEFTNET_CACHE` or the user's cache folder; deleting it is safe."""
    return Path(os.environ.get(CACHE) or pooch.os_cache("cleftnet")).expanduser()


def target_volume(
    labels: Volume,
    *,
    scale_nm: float | None = None,
    signed: bool = False,
    in_memory_voxels: int = IN_MEMORY_VOXELS,
    tile_vox: IntZYX = TILE_VOX,
) -> Volume:
    """Return the targets of a label volume: float32 distances of Eq. 6, and `UNKNOWN` on unlabelled voxels.

    The targets of larger volumes are cached under a checksum of the labels, for which these are read once, and mapped
    into memory. A damaged cache file is computed again.

    Args:
        labels: Instance ids, background 0.
        scale_nm: None measures boundary distance in voxels, as printed; a number divides the distance in nm.
        signed: Whether distances outside clefts are measured too, as negative numbers (`distance_map`).
        in_memory_voxels: Volumes of at most this size are not cached; their targets stay in memory.
        tile_vox: Largest tile computed at once, context included; it grows where distances reach farther.

    Raises:
        InputError: when `scale_nm` is given and the labels have no voxel size, or the cache cannot be written.

    Example:
        >>> target_volume(Volume(np.array([[[0, 5, 5, 5, 0]]], np.uint64))).read().round(2).tolist()
        [[[0.0, 0.7599999904632568, 0.9599999785423279, 0.7599999904632568, 0.0]]]
    """
    sides = (1.0, 1.0, 1.0) if scale_nm is None else labels.voxel_size_nm
    tiles = _tiles(labels.box, sides, scale_nm or 1.0, tile_vox)
    store: Array | MappedArray
    if labels.box.voxels <= in_memory_voxels:
        store = np.concatenate(list(_slabs_of_targets(labels, tiles, scale_nm, signed)))
    else:
        path = cache_folder() / "targets" / f"{_key(labels, scale_nm, signed)}.npy"
        if not _intact(path):
            log.info(f"measuring the boundary distances of {labels.address} once; they are kept in {path}")
            _keep(path, labels.shape, _slabs_of_targets(labels, tiles, scale_nm, signed))
        store = MappedArray(str(path))
    return Volume(store, labels.voxel_size, labels.offset_nm, f"targets of {labels.address}")


@dataclass(frozen=True)
class MappedArray:
    """A .npy file mapped into memory: processes share its pages, and only its path is pickled."""

    path: str

    @cached_property
    def _array(self) -> Array:
        return np.asarray(np.load(self.path, mmap_mode="r"))

    def __reduce__(self) -> tuple[type[MappedArray], tuple[str]]:
        return MappedArray, (self.path,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        return self._array.dtype

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Return one box, read-only; the disk is read on access."""
        return np.asarray(self._array[index])


def _tiles(box: Box, sides: FloatZYX, scale: float, largest: IntZYX) -> list[Block]:
    """Cover the volume with tiles, each read with the context that its distances depend on."""
    reach = [math.ceil(FARTHEST * scale / side) for side in sides]
    shape = [min(n, max(most, 4 * r)) for n, most, r in zip(box.shape, largest, reach, strict=True)]
    return list(tile(box, shape, [min(2 * r, side - 1) for r, side in zip(reach, shape, strict=True)]))


def _slabs_of_targets(labels: Volume, tiles: list[Block], scale_nm: float | None, signed: bool) -> Iterator[Float32]:
    """Compute the targets and yield them in slabs of whole sections, from first to last."""
    _, height, width = labels.shape
    tracked = track(tiles, "measuring boundary distances", len(tiles))  # tiles come in z y x order
    for (z0, z1), row in itertools.groupby(tracked, key=lambda t: (t.write.start[0], t.write.stop[0])):
        slab = np.empty((z1 - z0, height, width), np.float32)
        for block in row:
            target = _targets(labels[block.read], labels.voxel_size, scale_nm, signed)
            slab[block.write.relative_to((z0, 0, 0)).slices] = target[block.write.relative_to(block.read.start).slices]
        yield slab


def _targets(ids: Array, voxel_size_nm: FloatZYX | None, scale_nm: float | None, signed: bool) -> Float32:
    if not ids.any():  # most of a volume holds no cleft
        return np.full(ids.shape, -np.tanh(np.float32(FARTHEST_OUTSIDE)) if signed else 0, np.float32)
    if scale_nm is None:
        distance = distance_map(ids, signed=signed)
    else:
        distance = distance_map(ids, unit="nm", voxel_size_nm=voxel_size_nm, scale_nm=scale_nm, signed=signed)
    distance[~is_labelled(ids)] = UNKNOWN
    return distance


def _key(labels: Volume, scale_nm: float | None, signed: bool) -> str:
    """Return a checksum of everything that the targets depend on."""
    known = hashlib.blake2b(digest_size=16)
    geometry = None if scale_nm is None else (labels.voxel_size_nm, scale_nm)
    kind = (
        ("signed", FARTHEST_OUTSIDE) if signed else ()
    )  # the key of unsigned targets is the same as before signed ones existed
    known.update(repr((_LAYOUT, labels.shape, labels.dtype.str, geometry, *kind)).encode())
    for slab in slabs(labels.box):
        known.update(repr(slab).encode())
        known.update(np.ascontiguousarray(labels[slab]).data)
    return known.hexdigest()


def _keep(path: Path, shape: IntZYX, parts: Iterator[Float32]) -> None:
    """Write slabs as one .npy file, followed by its CRC-32."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    crc = zlib.crc32(header.getbuffer())
    try:
        with replacing(path, overwrite=True) as temporary, temporary.open("xb") as file:
            file.write(header.getbuffer())
            for part in parts:
                data = np.ascontiguousarray(part, "<f4").data
                file.write(data)
                crc = zlib.crc32(data, crc)
            file.write(crc.to_bytes(_CRC_BYTES, "little"))
    except InputError as error:
        needed = 4 * math.prod(shape) / 2**30
        raise InputError(
            f"the distance map cannot be cached: {error}; {needed:.2g} GiB are needed; set the environment variable "
            f"{CACHE} to another folder"
        ) from error


def _intact(path: Path) -> bool:
    """Return whether the file exists and ends with the CRC-32 of its contents."""
    try:
        with path.open("rb") as file:
            crc, left = 0, path.stat().st_size - _CRC_BYTES
            while left > 0 and (piece := file.read(min(left, 2**22))):
                crc = zlib.crc32(piece, crc)
                left -= len(piece)
            return left == 0 and file.read() == crc.to_bytes(_CRC_BYTES, "little")
    except OSError:
        return False
