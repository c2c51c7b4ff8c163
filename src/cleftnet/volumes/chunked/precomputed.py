"""Neuroglancer's precomputed format: one array in several resolutions, axes x y z on disk, z y x for us.

An `info` file holds `resolution` (nm) and `voxel_offset` (whole voxels) of every scale, x y z. Its coordinates count from the
corner of a voxel, ours from the centre; between scales that makes half a voxel, which is taken into account.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Location, missing
from cleftnet.volumes.attributes import number_type, read_threshold
from cleftnet.volumes.chunked.arrays import ChunkedStore, digest
from cleftnet.volumes.chunked.storage import is_remote, join, kvstore, read_json
from cleftnet.volumes.volume import Volume

INFO = "info"
SCHEME = "precomputed://"
OURS = "cleftnet"  # the key in `info` for what the format has no place for


def open_precomputed(location: Location, default: Sequence[str]) -> Volume:
    """Open the highest resolution of a precomputed volume, or the scale whose key the path ends in.

    Args:
        location: Its folder, or a scale in it, as in `precomputed://vol/8_8_40`.
        default: Not used: the format has no names.

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
            shape=tuple(int(side) for side in reversed(scale["size"])),
            dtype=number_type(info["data_type"], address),
            axes=(2, 1, 0),
            version=digest(info),
        )
        size = _zyx(scale["resolution"])
        # from the corner of the volume's first voxel to the centre of ours, less half a voxel of the full resolution
        full = _zyx(scales[_finest(scales)]["resolution"])
        corner = _zyx(scale.get("voxel_offset", (0, 0, 0)))
        z, y, x = (v * s + (s - f) / 2 for v, s, f in zip(corner, size, full, strict=True))
        channels = int(info["num_channels"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{join(path, INFO)} makes no sense ({type(error).__name__}: {error}); check the file"
        ) from None
    if channels != 1:
        raise InputError(f"{address} has {channels} channels; expected one")
    return Volume(store, size, (z, y, x), address, read_threshold(info.get(OURS, {}), address))


def precomputed_arrays(location: Location) -> list[Location]:
    """List the scales of a precomputed volume, the highest resolution by the volume's own address, or the scale at a location.

    Raises:
        InputError: when there is none.
    """
    path, info, key = _find(location)
    scales = info.get("scales") or []
    open_precomputed(location, ())
    if key is not None or len(scales) < 2:
        return [location]
    finest = _finest(scales)
    others = [Location(join(path, scale["key"]), scheme=SCHEME) for n, scale in enumerate(scales) if n != finest]
    return [location, *others]


def _finest(scales: Sequence[dict[str, Any]]) -> int:
    """Return the number of the scale with the smallest voxels; the format puts it first, but does not have to."""
    return min(range(len(scales)), key=lambda n: [float(v) for v in scales[n]["resolution"]])


def _find(location: Location) -> tuple[str, dict[str, Any], str | None]:
    """Return the folder with the `info`, that file, and the key of a scale where the path names one."""
    if (info := read_json(location.path, INFO)) is not None:
        return location.path, _image(info, location), None
    above, _, key = location.path.rpartition("/")
    info = read_json(above, INFO) if above and not above.endswith(":/") else None
    if info is None or "scales" not in info:
        if not is_remote(location.path) and not Path(location.path).exists():
            raise missing(Path(location.path))
        raise InputError(f"{location} is no precomputed volume: there is no file '{INFO}'; check the address")
    keys = [str(scale.get("key")) for scale in info["scales"]]
    if key not in keys:
        raise InputError(f"{SCHEME}{above} has no scale '{key}'; {nearest(key, keys)}")
    return above, _image(info, location), key


def _image(info: dict[str, Any], location: Location) -> dict[str, Any]:
    kind = info.get("@type", "neuroglancer_multiscale_volume")
    if kind != "neuroglancer_multiscale_volume":
        raise InputError(f"{location} holds '{kind}'; expected a volume (an image or a segmentation)")
    return info


def _zyx(values: Sequence[Any]) -> FloatZYX:
    x, y, z = (float(v) for v in values)
    return z, y, x
