"""Neuroglancer's precomputed format, read and written: one array in several resolutions, axes x y z on disk.

An `info` file holds `resolution` (nm) and `voxel_offset` (whole voxels) of every scale, x y z. Its coordinates count from the
corner of a voxel, ours from the center; between scales this makes a difference of half a voxel, which is added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.address import UNSYNCED, Location, join, kvstore, read_json, write_json
from cleftnet.volumes.chunked import CHUNK_VOX, ChunkedStore, container, digest
from cleftnet.volumes.metadata import (
    ArraySpec,
    LayoutSettings,
    number_type,
    read_provenance,
    read_sides,
    read_threshold,
)
from cleftnet.volumes.pyramid import Pyramid, plan
from cleftnet.volumes.volume import Volume, WritableStore

SCHEME = "precomputed://"
OPTIONS = ("chunk", "pyramid")
_INFO = "info"
_OURS = "cleftnet"  # the key in `info` for what the format has no place for
_PROVENANCE = "provenance"  # a key below it
_KIND = "neuroglancer_multiscale_volume"
_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
_COMPRESSED = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
_COMPRESSED_TYPES = ("uint32", "uint64")


def open_precomputed(location: Location, default: Sequence[str]) -> Volume:
    """Open the highest resolution of a precomputed volume, or the scale whose key the path ends in.

    Args:
        location: Its folder, or a scale in it, as in `precomputed://vol/8_8_40`.
        default: Not used, since the format has no names.

    Raises:
        InputError: when there is no such volume or scale, it has several channels, or its `info` makes no sense.
    """
    path, info, key = _find(location)
    address = str(Location(path if key is None else join(path, key), scheme=SCHEME))
    try:
        scales = info["scales"]
        keys = [scale["key"] for scale in scales]
        index = _finest(scales) if key is None else keys.index(key)
        scale = scales[index]
        store = ChunkedStore(
            spec=json.dumps({"driver": "neuroglancer_precomputed", "kvstore": kvstore(path), "scale_index": index}),
            address=address,
            shape=read_sides(scale["size"], address)[::-1],
            dtype=number_type(info["data_type"], address),
            axes=(2, 1, 0),
            version=digest(info),
        )
        size = _zyx(scale["resolution"])
        # from the corner of the scale's first voxel to its center, less half a voxel of the full resolution
        full = _zyx(scales[_finest(scales)]["resolution"])
        corner = _zyx(scale.get("voxel_offset", (0, 0, 0)))
        z, y, x = (v * s + (s - f) / 2 for v, s, f in zip(corner, size, full, strict=True))
        channels = int(info["num_channels"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{join(path, _INFO)} makes no sense ({type(error).__name__}: {error}); check the file"
        ) from None
    if channels != 1:
        raise InputError(f"{address} has {channels} channels; expected one")
    ours = info.get(_OURS)
    ours = ours if isinstance(ours, dict) else {}
    return Volume(store, size, (z, y, x), address, read_threshold(ours, address), read_provenance(ours, _PROVENANCE))


def list_precomputed(location: Location) -> list[Location]:
    """List the scales of a precomputed volume, the highest resolution by the volume's address, or the scale at a location.

    Raises:
        InputError: when there is none.
    """
    path, info, key = _find(location)
    open_precomputed(location, ())
    scales = info["scales"]
    if key is not None or len(scales) < 2:
        return [location]
    finest = _finest(scales)
    others = [Location(join(path, str(scale["key"])), scheme=SCHEME) for n, scale in enumerate(scales) if n != finest]
    return [location, *others]


def _finest(scales: Sequence[dict[str, Any]]) -> int:
    """Return the number of the scale with the smallest voxels; the format puts it first, but does not have to."""
    return min(range(len(scales)), key=lambda n: [float(v) for v in scales[n]["resolution"]])


def _find(location: Location) -> tuple[str, dict[str, Any], str | None]:
    """Return the folder with the `info`, that file, and the key of a scale where the path names one."""
    if (info := read_json(location.path, _INFO)) is not None:
        return location.path, _image(info, location), None
    above, _, key = location.path.rpartition("/")
    info = read_json(above, _INFO) if above and not above.endswith(":/") else None
    if info is None or not isinstance(info.get("scales"), list):
        location.check_exists()
        raise InputError(f"{location} is no precomputed volume: there is no file '{_INFO}'; check the address")
    keys = [str(scale.get("key")) for scale in info["scales"] if isinstance(scale, dict)]
    if key not in keys:
        raise InputError(f"{SCHEME}{above} has no scale '{key}'; {nearest(key, keys)}")
    return above, _image(info, location), key


def _image(info: dict[str, Any], location: Location) -> dict[str, Any]:
    kind = info.get("@type", _KIND)
    if kind != _KIND:
        raise InputError(f"{location} holds '{kind}'; expected a volume (an image or a segmentation)")
    return info


def _zyx(values: Sequence[Any]) -> FloatZYX:
    x, y, z = (float(v) for v in values)
    return z, y, x


@contextmanager
def new_precomputed(path: str, overwrite: bool, layout: LayoutSettings) -> Iterator[NewPrecomputed]:
    """Yield a new precomputed volume to be filled, see `container`."""
    with container(path, overwrite, lambda at, address: NewPrecomputed(at, f"{SCHEME}{address}", layout)) as new:
        yield new


@dataclass(frozen=True)
class NewPrecomputed:
    """A precomputed volume being made, which holds one array; see `NewZarr` for the arguments."""

    path: str
    address: str
    layout: LayoutSettings

    def create(self, spec: ArraySpec) -> WritableStore:
        """Create the one array of a precomputed volume, zero everywhere; bool is stored as uint8.

        Labels become a segmentation, compressed where their ids have four or eight bytes. Threshold and provenance are kept in
        `info` below `cleftnet`, which other programs pass over.

        Raises:
            InputError: when there is an array already, no voxel size, an offset that is not a whole number of voxels, or a type
                of voxels that the format does not have.
        """
        if read_json(self.path, _INFO) is not None:
            raise InputError(
                f"{self.address} holds one array and cannot take {spec.name} as well; choose an output ending in .zarr"
            )
        stored = spec.stored(_TYPES, f"{self.address}: precomputed")
        size = spec.needed_voxel_size(self.address, "the format")
        start = _whole(spec.offset_nm, size, self.address)
        factors = plan(spec.shape, size, self.layout.chunk or CHUNK_VOX) if self.layout.pyramid else [(1, 1, 1)]
        compressed = spec.labels and stored.name in _COMPRESSED_TYPES
        encoding = _COMPRESSED if compressed else {"encoding": "raw"}
        scales = [self._scale(spec.shape, start, size, by) | encoding for by in factors]
        ours: dict[str, Any] = {} if spec.threshold is None else {"threshold": spec.threshold}
        ours |= {_PROVENANCE: dict(spec.provenance)} if spec.provenance else {}
        info = {
            "@type": _KIND,
            "type": "segmentation" if spec.labels else "image",
            "data_type": stored.name,
            "num_channels": 1,
            "scales": scales,
            **({_OURS: ours} if ours else {}),
        }
        write_json(self.path, _INFO, info)
        tensor = {"driver": "neuroglancer_precomputed", "kvstore": kvstore(self.path), **UNSYNCED}
        stores = [
            ChunkedStore(
                json.dumps({**tensor, "scale_index": n}),
                self.address,
                scale["size"][::-1],
                stored,
                (2, 1, 0),
                digest(info),
            )
            for n, scale in enumerate(scales)
        ]
        return Pyramid(tuple(stores), tuple(factors), spec.labels) if self.layout.pyramid else stores[0]

    def _scale(self, shape: Sequence[int], start: IntZYX, size: FloatZYX, by: IntZYX) -> dict[str, Any]:
        """Describe a level whose voxels lie on the grid that begins at the origin, and so may reach over the array's edge."""
        corner = [o // f for o, f in zip(start, by, strict=True)]
        end = [-(-(o + int(n)) // f) for o, n, f in zip(start, shape, by, strict=True)]
        sides = tuple(b - a for a, b in zip(corner, end, strict=True))
        resolution = [f * v for f, v in zip(reversed(by), reversed(size), strict=True)]
        return {
            "key": "_".join(f"{v:g}" for v in resolution),
            "size": sides[::-1],
            "resolution": resolution,
            "voxel_offset": corner[::-1],
            "chunk_sizes": [self.layout.sides(sides, CHUNK_VOX)[::-1]],
        }


def _whole(offset_nm: FloatZYX, voxel_size_nm: FloatZYX, address: str) -> IntZYX:
    """Return an offset in voxels."""
    exact = [o / v for o, v in zip(offset_nm, voxel_size_nm, strict=True)]
    z, y, x = (round(e) for e in exact)
    if any(abs(e - n) > 1e-3 for e, n in zip(exact, (z, y, x), strict=True)):
        raise InputError(
            f"{address}: the offset {offset_nm} nm is no whole number of voxels of {voxel_size_nm} nm (z y x), and precomputed "
            f"keeps no other; choose .zarr or .n5"
        )
    return z, y, x
