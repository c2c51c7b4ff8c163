"""OME-Zarr's multiscale metadata (NGFF 0.4 on Zarr v2, 0.5 on Zarr v3; https://ngff.openmicroscopy.org), read and written.

A translation is where the centre of the first voxel lies, and so is our `offset_nm`. A lower resolution, whose voxels cover f
of the full ones, therefore begins (f − 1)/2 full voxels further than the full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX

_NM = {"nanometer": 1.0, "micrometer": 1e3, "angstrom": 0.1, "millimeter": 1e6, "picometer": 1e-3, "meter": 1e9}
_NM |= {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9}  # not NGFF's, but written by some

VERSIONS = {2: "0.4", 3: "0.5"}  # by the version of Zarr


@dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Args:
        path: Of its array, below the group that holds the metadata.
        voxel_size: In nm, z y x; None where the metadata has no unit or no scale.
        offset_nm: Where the centre of the first voxel lies, z y x.
        axes: The names of the array's axes.
    """

    path: str
    voxel_size: FloatZYX | None
    offset_nm: FloatZYX
    axes: tuple[str, ...]


def nm_per_unit(unit: object, address: str) -> float:
    """Return how many nm a unit of length has.

    Raises:
        InputError: when it is no length that we know.

    Example:
        >>> nm_per_unit("angstrom", "vol.zarr")
        0.1
    """
    if unit not in _NM:
        raise InputError(f"{address}: the unit {unit!r} of an axis is unknown; known are {', '.join(_NM)}")
    return _NM[str(unit)]


def read_images(attributes: dict[str, Any], address: str) -> list[list[Level]]:
    """Return the images that a group's attributes describe, each with its levels, the highest resolution first.

    Args:
        attributes: Of a group; without multiscale metadata the result is empty.
        address: Of the group, for messages.

    Raises:
        InputError: when the metadata cannot be understood, the axes are not z y x (behind t and c), or a transformation is
            neither scale nor translation.

    Example:
        >>> attributes = write_images([[Level("s0", (40.0, 4.0, 4.0), (80.0, 0.0, 0.0), ("z", "y", "x"))]], version=2)
        >>> read_images(attributes, "vol.zarr")[0][0].offset_nm
        (80.0, 0.0, 0.0)
    """
    ome = attributes.get("ome")
    holder = ome if isinstance(ome, dict) else attributes
    try:
        return [_read_image(image, address) for image in holder.get("multiscales", ())]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{address}: its OME-Zarr metadata (multiscales) cannot be understood ({type(error).__name__}: {error}); "
            f"name an array in it to read it without"
        ) from None


def _read_image(image: dict[str, Any], address: str) -> list[Level]:
    axes = image.get("axes", ("t", "c", "z", "y", "x"))  # NGFF 0.1 and 0.2 name none
    names = tuple(str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in axes)
    if names[-3:] != ("z", "y", "x") or not set(names[:-3]) <= {"t", "c"}:
        raise InputError(f"{address}: its axes are {' '.join(names)}; expected z y x, with t and c before them at most")
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in axes[-3:]]
    nm = None if None in units else [nm_per_unit(unit, address) for unit in units]
    above = image.get("coordinateTransformations", ())
    levels = []
    for dataset in image["datasets"]:
        steps = [*dataset.get("coordinateTransformations", ()), *above]
        size, offset = _place(steps, address)
        if nm is None or not any(step["type"] == "scale" for step in steps):
            if any(offset):
                raise InputError(f"{address}: it has a translation but no unit or no scale; add 'unit' to its axes")
            levels.append(Level(dataset["path"].strip("/"), None, (0.0, 0.0, 0.0), names))
            continue
        levels.append(Level(dataset["path"].strip("/"), _times(size, nm), _times(offset, nm), names))
    return levels


def _place(steps: Sequence[dict[str, Any]], address: str) -> tuple[list[float], list[float]]:
    """Return scale and translation of a chain of transformations, z y x, in the units of the axes."""
    size, offset = [1.0] * 3, [0.0] * 3
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise InputError(f"{address}: it has a transformation '{kind}'; expected scale and translation with values")
        values = [float(v) for v in step[kind][-3:]]
        if kind == "scale":
            size = [a * v for a, v in zip(size, values, strict=True)]
            offset = [a * v for a, v in zip(offset, values, strict=True)]
        else:
            offset = [a + v for a, v in zip(offset, values, strict=True)]
    return size, offset


def _times(values: Sequence[float], factors: Sequence[float]) -> FloatZYX:
    z, y, x = (v * f for v, f in zip(values, factors, strict=True))
    return z, y, x


def write_images(images: Sequence[Sequence[Level]], version: int) -> dict[str, Any]:
    """Return the attributes of a group that describe its images.

    Args:
        images: The levels of each, the highest resolution first, voxel sizes known, axes z y x.
        version: Of Zarr, 2 or 3.
    """
    number = VERSIONS[version]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    multiscales = [
        {
            **({"version": number} if version == 2 else {}),
            "name": levels[0].path,
            "axes": axes,
            "datasets": [
                {
                    "path": level.path,
                    "coordinateTransformations": [
                        {"type": "scale", "scale": list(level.voxel_size or ())},
                        {"type": "translation", "translation": list(level.offset_nm)},
                    ],
                }
                for level in levels
            ],
        }
        for levels in images
    ]
    if version == 2:
        return {"multiscales": multiscales}
    return {"ome": {"version": number, "multiscales": multiscales}}
