"""Zarr v2 and v3, plain or as OME-Zarr: which array an address means, and where it lies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Location, missing
from cleftnet.volumes.attributes import number_type, read_place, read_threshold
from cleftnet.volumes.chunked.arrays import ChunkedStore, digest
from cleftnet.volumes.chunked.ome import Level, read_images
from cleftnet.volumes.chunked.storage import is_remote, join, kvstore, read_json
from cleftnet.volumes.layout import NAMES
from cleftnet.volumes.volume import Volume


@dataclass(frozen=True)
class Node:
    """An array or a group of a Zarr hierarchy.

    Args:
        kind: What it is.
        version: Of Zarr.
        metadata: `.zarray` or `zarr.json`.
        attributes: `.zattrs`, or those in `zarr.json`.
    """

    kind: Literal["array", "group"]
    version: Literal[2, 3]
    metadata: Mapping[str, Any]
    attributes: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths as stored."""
        return tuple(int(side) for side in self.metadata["shape"])


def read_node(path: str) -> Node | None:
    """Return what lies at a path, or None where there is no Zarr metadata.

    Raises:
        InputError: when the metadata is damaged, or a server does not answer.
    """
    if (found := read_json(path, "zarr.json")) is not None:
        kind: Literal["array", "group"] = "array" if found.get("node_type") == "array" else "group"
        return _checked(Node(kind, 3, found, dict(found.get("attributes") or {})), path)
    array = read_json(path, ".zarray")
    group = None if array is not None else read_json(path, ".zgroup")
    attributes = read_json(path, ".zattrs")
    if array is not None:
        return _checked(Node("array", 2, array, attributes or {}), path)
    return None if group is None and attributes is None else Node("group", 2, group or {}, attributes or {})


def _checked(node: Node, path: str) -> Node:
    if node.kind == "array" and not isinstance(node.metadata.get("shape"), list):
        raise InputError(f"{path}: its Zarr metadata has no shape; it is damaged: copy or fetch it again")
    return node


def open_zarr(location: Location, default: Sequence[str]) -> Volume:
    """Open the array at a location; where that names a group, its image's highest resolution.

    Args:
        location: The container, and what is meant inside.
        default: Arrays to try in turn where the location names only the container.

    Raises:
        InputError: when there is no such array, its axes are not z y x, or its geometry makes no sense.
    """
    inside, node = _find(location, default)
    path, address = join(location.path, inside), str(Location(location.path, inside))
    level = _level(location.path, inside)
    axes = _axes(node, level, address)
    spec = {"driver": {2: "zarr", 3: "zarr3"}[node.version], "kvstore": kvstore(path)}
    named = node.metadata.get("dtype" if node.version == 2 else "data_type")
    store = ChunkedStore(
        spec=json.dumps(spec),
        address=address,
        shape=tuple(node.shape[axis] for axis in axes),
        dtype=number_type(named, address),
        axes=axes,
        version=digest(node.metadata),
    )
    size, offset_nm = _place(level, node, address)
    return Volume(store, size, offset_nm, address, read_threshold(node.attributes, address))


def zarr_arrays(location: Location) -> list[Location]:
    """List the arrays of three axes (and more of length 1 before them) in a container, or the one at a location.

    Raises:
        InputError: when there is none, or a remote container does not say what it holds.
    """
    node = read_node(join(location.path, location.inside))
    if node is not None and node.kind == "array":
        return [location]
    names = sorted(_names(location.path, location.inside))
    if not names:
        _find(location, ())
        raise InputError(f"{location} cannot be listed; name an array in it")
    return [Location(location.path, name) for name in names]


def _names(path: str, inside: str = "") -> Iterator[str]:
    """Yield the names of arrays of a volume: from the folders where it is local, else from what the metadata tells."""
    if is_remote(path):
        yield from _told(path, inside)
        return
    top = Path(path, inside)
    for folder, below, files in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if not {".zarray", "zarr.json"} & set(files):
            continue
        node = read_node(folder)
        if node is not None and node.kind == "array":
            below.clear()  # its chunks
            if _is_volume(node.shape):
                yield join(inside, *Path(folder).relative_to(top).parts).strip("/")


def _told(path: str, inside: str) -> Iterator[str]:
    """Yield what a remote container says it holds: in consolidated metadata, or as the levels of its images."""
    node = read_node(join(path, inside))
    v2 = (read_json(join(path, inside), ".zmetadata") or {}).get("metadata", {})
    v3 = ((node.metadata.get("consolidated_metadata") or {}) if node else {}).get("metadata", {})
    told = {name.removesuffix(".zarray").strip("/"): found for name, found in v2.items() if name.endswith(".zarray")}
    told |= {name: found for name, found in v3.items() if found.get("node_type") == "array"}
    for name, found in told.items():
        if _is_volume(found.get("shape", ())):
            yield join(inside, name).strip("/")
    if node is not None and not told:
        for image in read_images(node.attributes, join(path, inside)):
            yield from (join(inside, level.path).strip("/") for level in image)


def _is_volume(shape: Sequence[int]) -> bool:
    return len(shape) >= 3 and all(side == 1 for side in shape[:-3])


def _find(location: Location, default: Sequence[str]) -> tuple[str, Node]:
    """Return the name of the array that is meant, and its metadata."""
    root = read_node(location.path)
    if root is None and not location.inside:
        raise _no_container(location)
    is_array = root is not None and root.kind == "array"
    for name in [location.inside] if location.inside else [""] if is_array else [*default, ""]:
        node = root if name == "" else read_node(join(location.path, name))
        if node is not None and node.kind == "group":
            images = read_images(node.attributes, join(location.path, name))
            levels = [image[0] for image in images if image and (name or not image[0].path.startswith(NAMES))]
            name = join(name, levels[0].path).strip("/") if levels else name
            node = read_node(join(location.path, name)) if levels else None
            if levels and node is None:
                raise InputError(f"{location} speaks of an array '{name}', which is not there; copy it whole")
        if node is not None and node.kind == "array":
            return name, node
    raise _no_array(location, default)


def _no_container(location: Location) -> InputError:
    if not is_remote(location.path) and not Path(location.path).exists():
        return missing(Path(location.path))
    return InputError(
        f"{location.path} is no Zarr: it has neither zarr.json nor .zgroup nor .zarray; check the address, and that it "
        f"was copied whole"
    )


def _no_array(location: Location, default: Sequence[str]) -> InputError:
    if not is_remote(location.path) and not Path(location.path).exists():
        return missing(Path(location.path))
    there = sorted(_names(location.path))
    what = f"array '{location.inside}'" if location.inside else " or ".join(default) or "array of three axes"
    if not there:
        return InputError(f"{location.path} has no {what}, nor does it say which arrays it has; check the address")
    hint = nearest(location.inside, there) if location.inside else f"name one, as in {location.path}/{there[0]}"
    return InputError(f"{location.path} has no {what}; it has {', '.join(there)}; {hint}")


def _level(path: str, inside: str) -> Level | None:
    """Return what the nearest group above an array says of it, as one of its images."""
    parts = inside.split("/") if inside else []
    for depth in range(len(parts) - 1, -1, -1):
        group = "/".join(parts[:depth])
        node = read_node(join(path, group))
        if node is None or node.kind == "array":
            continue
        wanted = "/".join(parts[depth:])
        for image in read_images(node.attributes, join(path, group)):
            for level in image:
                if level.path == wanted:
                    return level
    return None


def _axes(node: Node, level: Level | None, address: str) -> tuple[int, ...]:
    """Return where z, y and x lie: always the last three, and what comes before must have length 1."""
    rank = len(node.shape)
    names = level.axes if level else tuple(str(name).lower() for name in node.metadata.get("dimension_names") or ())
    if level and len(names) != rank:
        raise InputError(f"{address} has {rank} axes, but its OME-Zarr metadata names {len(names)}: {' '.join(names)}")
    if sorted(names[-3:]) == ["x", "y", "z"] and names[-3:] != ("z", "y", "x"):
        raise InputError(f"{address}: its axes are {' '.join(names)}; expected z y x: transpose it first")
    if rank > 3 and not _is_volume(node.shape):
        before = "×".join(map(str, node.shape[:-3]))
        raise InputError(
            f"{address} has shape {node.shape}, {before} volumes; expected one: channels and times of length 1"
        )
    return tuple(range(max(0, rank - 3), rank))


def _place(level: Level | None, node: Node, address: str) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size and offset: OME-Zarr's where it has them, for they are the standard, else the array's own."""
    if level is None or level.voxel_size is None:
        return read_place(node.attributes, address)
    return level.voxel_size, level.offset_nm
