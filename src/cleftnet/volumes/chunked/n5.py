"""N5: axes x y z on disk, z y x for us, and so are the lengths in its attributes.

Understood are `resolution` (with `units`) and n5-viewer's `pixelResolution`, `offset`, `downsamplingFactors` of a level,
`scales` of a group, and OpenOrganelle's `transform`; attributes of a group hold for the arrays below it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Location, missing
from cleftnet.volumes.attributes import number_type, read_place, read_threshold
from cleftnet.volumes.chunked.arrays import ChunkedStore, digest
from cleftnet.volumes.chunked.ome import nm_per_unit
from cleftnet.volumes.chunked.storage import is_remote, join, kvstore, read_json
from cleftnet.volumes.volume import Volume

ATTRIBUTES = "attributes.json"
_PLACES = ("resolution", "pixelResolution")


def open_n5(location: Location, default: Sequence[str]) -> Volume:
    """Open the array at a location; where that names a group of resolutions, its `s0`.

    Args:
        location: The container, and what is meant inside.
        default: Arrays to try in turn where the location names only the container.

    Raises:
        InputError: when there is no such array, or its geometry makes no sense.
    """
    inside, own = _find(location, default)
    address = str(Location(location.path, inside))
    rank = len(own["dimensions"])
    axes = tuple(range(rank))[2::-1] if rank >= 3 and all(n == 1 for n in own["dimensions"][3:]) else tuple(range(rank))
    store = ChunkedStore(
        spec=json.dumps({"driver": "n5", "kvstore": kvstore(join(location.path, inside))}),
        address=address,
        shape=tuple(int(own["dimensions"][axis]) for axis in axes),
        dtype=number_type(own["dataType"], address),
        axes=axes,
        version=digest(own),
    )
    size, offset_nm = _place(location.path, inside, own, address)
    return Volume(store, size, offset_nm, address, read_threshold(own, address))


def n5_arrays(location: Location) -> list[Location]:
    """List the arrays of three axes in a container, or the one at a location.

    Raises:
        InputError: when there is none, or the container is remote, where N5 does not say what it holds.
    """
    own = read_json(join(location.path, location.inside), ATTRIBUTES)
    if own is not None and _is_array(own):
        return [location]
    names = sorted(_names(location.path, location.inside))
    if not names:
        inside, _ = _find(location, ())
        return [Location(location.path, inside)]
    return [Location(location.path, name) for name in names]


def _is_array(attributes: dict[str, Any]) -> bool:
    return isinstance(attributes.get("dimensions"), list) and "dataType" in attributes


def _names(path: str, inside: str = "") -> Iterator[str]:
    """Yield the names of the arrays of a volume in a local container."""
    if is_remote(path):
        return
    top = Path(path, inside)
    for folder, below, files in os.walk(top):
        below.sort()
        own = read_json(folder, ATTRIBUTES) if ATTRIBUTES in files else None
        if own is not None and _is_array(own):
            below.clear()  # its blocks
            if len(own["dimensions"]) >= 3 and all(n == 1 for n in own["dimensions"][3:]):
                yield join(inside, *Path(folder).relative_to(top).parts).strip("/")


def _find(location: Location, default: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of the array that is meant, and its attributes."""
    for name in [location.inside] if location.inside else [*default, ""]:
        for found in (name, join(name, "s0").strip("/")):
            own = read_json(join(location.path, found), ATTRIBUTES)
            if own is not None and _is_array(own):
                return found, own
    if not is_remote(location.path) and not Path(location.path).exists():
        raise missing(Path(location.path))
    there = sorted(_names(location.path))
    what = f"array '{location.inside}'" if location.inside else " or ".join(default) or "array of three axes"
    if not there:
        raise InputError(
            f"{location.path} has no {what}: no {ATTRIBUTES} there has 'dimensions'; check the address, and name the array"
        )
    hint = nearest(location.inside, there) if location.inside else f"name one, as in {location.path}/{there[0]}"
    raise InputError(f"{location.path} has no {what}; it has {', '.join(there)}; {hint}")


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
    except (TypeError, ValueError):
        raise InputError(f"{address}: 'downsamplingFactors' is {factors}; expected three factors x y z") from None
    shift = [
        (f - 1) / 2 * v for f, v in zip((x, y, z), size, strict=True)
    ]  # from centre to centre, as n5-viewer has it
    return (size[2] * z, size[1] * y, size[0] * x), _reversed([o + s for o, s in zip(offset, shift, strict=True)])


def _above(path: str, inside: str) -> dict[str, Any]:
    """Return the attributes that the groups above an array hand down, the nearest winning."""
    handed: dict[str, Any] = {}
    parts = inside.split("/") if inside else []
    for depth in range(len(parts)):
        handed |= read_json(join(path, *parts[:depth]), ATTRIBUTES) or {}
    return handed


def _level_factors(group: dict[str, Any], inside: str) -> Any:
    """Return what the group says of the level that an array is by its name."""
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
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{address}: attribute 'transform' cannot be understood ({error})") from None
    return (z, y, x), (oz, oy, ox)


def _reversed(values: Sequence[float]) -> FloatZYX:
    x, y, z = values
    return z, y, x
