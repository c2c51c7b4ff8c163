"""N5 containers, read and written: axes and the lengths in attributes are x y z on disk, z y x in a `Volume`.

Attributes that are understood: `resolution` (with `units`) and n5-viewer's `pixelResolution`, `offset`, `downsamplingFactors`
of a level, `scales` of a group, and OpenOrganelle's `transform`. Attributes of a group hold for the arrays below it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import UNSYNCED, Location, is_remote, join, kvstore, read_json, walk_arrays, write_json
from cleftnet.volumes.chunked import CHUNK_VOX, ChunkedStore, container, create_array, digest
from cleftnet.volumes.metadata import (
    ArraySpec,
    LayoutSettings,
    nm_per_unit,
    number_type,
    read_place,
    read_provenance,
    read_sides,
    read_threshold,
    write_attributes,
)
from cleftnet.volumes.volume import Volume, WritableStore

ENDINGS = (".n5",)
OPTIONS = ("chunk",)
_ATTRIBUTES = "attributes.json"
_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_PLACES = ("resolution", "pixelResolution")


def open_n5(location: Location, default: Sequence[str]) -> Volume:
    """Open the array at a location; where that names a group of resolutions, its `s0`.

    Args:
        location: The container, and the array or group inside.
        default: Arrays to try in turn where the location names only the container.

    Raises:
        InputError: when there is no such array, or its geometry makes no sense.
    """
    inside, own = _find(location, default)
    address = str(Location(location.path, inside))
    sides = read_sides(own["dimensions"], address)
    rank = len(sides)
    axes = tuple(range(rank))[2::-1] if rank >= 3 and all(n == 1 for n in sides[3:]) else tuple(range(rank))
    store = ChunkedStore(
        spec=json.dumps({"driver": "n5", "kvstore": kvstore(join(location.path, inside))}),
        address=address,
        shape=tuple(sides[axis] for axis in axes),
        dtype=number_type(own["dataType"], address),
        axes=axes,
        version=digest(own),
    )
    size, offset_nm = _place(location.path, inside, own, address)
    return Volume(store, size, offset_nm, address, read_threshold(own, address), read_provenance(own))


def list_n5(location: Location) -> list[Location]:
    """List the arrays of three axes in a container, or the one at a location.

    Raises:
        InputError: when there is none, or the container is remote, where N5 does not say what it holds.
    """
    if _shape(join(location.path, location.inside)) is not None:
        return [location]
    names = _names(location.path, location.inside)
    if not names:
        inside, _ = _find(location, ())
        return [Location(location.path, inside)]
    return [Location(location.path, name) for name in names]


def _is_array(attributes: dict[str, Any]) -> bool:
    return isinstance(attributes.get("dimensions"), list) and "dataType" in attributes


def _shape(path: str) -> Sequence[int] | None:
    """Return the sides of the array at a path, the slowest axis first, or None where there is no array."""
    own = read_json(path, _ATTRIBUTES)
    return own["dimensions"][::-1] if own is not None and _is_array(own) else None


def _names(path: str, inside: str = "") -> list[str]:
    """Return the names of the arrays of a volume in a local container; a remote one does not say what it holds."""
    return [] if is_remote(path) else sorted(walk_arrays(path, inside, _shape))


def _find(location: Location, default: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of the array that a location means, and its attributes."""
    for name in [location.inside] if location.inside else [*default, ""]:
        for candidate in (name, join(name, "s0").strip("/")):
            own = read_json(join(location.path, candidate), _ATTRIBUTES)
            if own is not None and _is_array(own):
                return candidate, own
    location.check_exists()
    raise location.no_array(default, _names(location.path))


def _place(path: str, inside: str, own: dict[str, Any], address: str) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size and offset in nm, z y x."""
    if "transform" in own:
        return _transform(own["transform"], address)
    above = _above(path, inside)
    attributes = {**above, **own}
    if isinstance(pixel := attributes.get("pixelResolution"), dict) and "resolution" not in own:
        attributes |= {"resolution": pixel.get("dimensions"), "units": [pixel.get("unit", "nm")] * 3}
    size, offset = read_place(attributes, address)
    if size is None:
        return None, _reversed(offset)
    factors = own.get("downsamplingFactors")
    if factors is None and not any(name in own for name in _PLACES):  # else it has its own resolution already
        factors = _level_factors(above, inside)
    try:
        x, y, z = (float(f) for f in factors or (1, 1, 1))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{address}: 'downsamplingFactors' is {factors}; expected three factors x y z") from None
    # from center to center, as n5-viewer has it
    shift = [(f - 1) / 2 * v for f, v in zip((x, y, z), size, strict=True)]
    return (size[2] * z, size[1] * y, size[0] * x), _reversed([o + s for o, s in zip(offset, shift, strict=True)])


def _above(path: str, inside: str) -> dict[str, Any]:
    """Return the attributes of the groups above an array; the nearest group wins."""
    handed: dict[str, Any] = {}
    parts = inside.split("/") if inside else []
    for depth in range(len(parts)):
        handed |= read_json(join(path, *parts[:depth]), _ATTRIBUTES) or {}
    return handed


def _level_factors(group: dict[str, Any], inside: str) -> Any:
    """Return the factors that a group gives for the level that an array is by its name, such as `s1`."""
    level = re.fullmatch(r"(?:.*/)?s(\d+)", inside)
    listed = group.get("scales", group.get("downsamplingFactors"))
    if level is None or not isinstance(listed, list) or not all(isinstance(factors, list) for factors in listed):
        return None
    return listed[int(level[1])] if int(level[1]) < len(listed) else None


def _transform(transform: Any, address: str) -> tuple[FloatZYX, FloatZYX]:
    try:
        order = [transform["axes"].index(axis) for axis in "zyx"]
        nm = [nm_per_unit(unit, address) for unit in transform["units"]]
        z, y, x = (float(transform["scale"][n]) * nm[n] for n in order)
        oz, oy, ox = (float(transform["translate"][n]) * nm[n] for n in order)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(f"{address}: attribute 'transform' cannot be understood ({error})") from None
    return (z, y, x), (oz, oy, ox)


def _reversed(values: Sequence[float]) -> FloatZYX:
    x, y, z = values
    return z, y, x


@contextmanager
def new_n5(path: str, overwrite: bool, layout: LayoutSettings) -> Iterator[NewN5]:
    """Yield a new N5 container to be filled, see `container`."""
    with container(path, overwrite, lambda at, address: NewN5(at, address, layout)) as new:
        write_json(new.path, _ATTRIBUTES, {"n5": "2.0.0"})
        yield new


@dataclass(frozen=True)
class NewN5:
    """An N5 container being made; see `NewZarr` for the arguments."""

    path: str
    address: str
    layout: LayoutSettings

    def create(self, spec: ArraySpec) -> WritableStore:
        """Create an array, zero everywhere; bool is stored as uint8.

        Raises:
            InputError: when N5 has no such type of voxels.
        """
        address = join(self.address, spec.name)
        stored = spec.stored(_TYPES, f"{address}: N5")
        sides = tuple(int(n) for n in spec.shape)
        size = None if spec.voxel_size_nm is None else spec.voxel_size_nm[::-1]
        metadata: dict[str, Any] = {
            "dimensions": sides[::-1],
            "blockSize": self.layout.sides(sides, CHUNK_VOX)[::-1],
            "dataType": stored.name,
            "compression": {"type": "gzip", "level": 1},  # which every reader of N5 knows
            "axes": list("xyz"),
            **write_attributes(spec, size, spec.offset_nm[::-1]),
        }
        if size is not None:
            metadata["pixelResolution"] = {"dimensions": list(size), "unit": "nm"}
        tensor = {"driver": "n5", "kvstore": kvstore(join(self.path, spec.name)), **UNSYNCED}
        create_array({**tensor, "metadata": metadata}, address)
        return ChunkedStore(json.dumps(tensor), address, sides, stored, (2, 1, 0), digest(metadata))
