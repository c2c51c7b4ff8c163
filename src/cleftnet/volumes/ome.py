"""OME metadata: multiscale images of OME-Zarr, read and written, and voxel sizes of OME-TIFF, read.

OME-Zarr is NGFF 0.4 on Zarr v2 and 0.5 on Zarr v3 (https://ngff.openmicroscopy.org). A translation is the position of
the center of the first voxel, and so is our `offset_nm`. A lower resolution, whose voxels cover f of the full ones,
therefore begins (f − 1)/2 full voxels further than the full resolution.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.metadata import NM_PER_UNIT, nm_per_unit, times

_NGFF = {2: "0.4", 3: "0.5"}  # by the version of Zarr


@dataclass(frozen=True)
class ImageLevel:
    """One resolution of a multiscale image.

    Args:
        path: The path of its array, below the group that holds the metadata.
        voxel_size: Voxel size in nm, z y x; None where the metadata has no unit or no scale.
        offset_nm: Position of the center of the first voxel, z y x.
        axes: The names of the array's axes.
    """

    path: str
    voxel_size: FloatZYX | None
    offset_nm: FloatZYX
    axes: tuple[str, ...] = ("z", "y", "x")

    def below(self, group: str) -> ImageLevel:
        """Return the level with its path counted from a group inside."""
        return replace(self, path=self.path.removeprefix(f"{group}/"))


def read_images(attributes: dict[str, Any], address: str) -> list[list[ImageLevel]]:
    """Return the images that a group's attributes describe, each with its levels, the highest resolution first.

    Args:
        attributes: The attributes of a group; without multiscale metadata the result is empty.
        address: The address of the group, for messages.

    Raises:
        InputError: when the metadata cannot be understood, the axes are not z y x (behind t and c), or a transformation is
            neither scale nor translation.

    Example:
        >>> attributes = write_images([[ImageLevel("s0", (40.0, 4.0, 4.0), (80.0, 0.0, 0.0))]], version=2)
        >>> read_images(attributes, "vol.zarr")[0][0].offset_nm
        (80.0, 0.0, 0.0)
    """
    ome = attributes.get("ome")
    holder = ome if isinstance(ome, dict) else attributes
    try:
        return [_read_image(image, address) for image in holder.get("multiscales", ())]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{address}: its OME-Zarr metadata (multiscales) cannot be understood ({type(error).__name__}: {error}); "
            f"name an array in it to read it without"
        ) from None


def _read_image(image: dict[str, Any], address: str) -> list[ImageLevel]:
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
        size, offset = _read_steps(steps, address)
        path = dataset["path"].strip("/")
        if ".." in path.split("/"):
            raise InputError(f"{address}: its level {dataset['path']!r} leads outside of it; expected a path below it")
        if nm is not None and any(step["type"] == "scale" for step in steps):
            levels.append(ImageLevel(path, times(size, nm), times(offset, nm), names))
        elif any(offset):
            raise InputError(f"{address}: it has a translation but no unit or no scale; add 'unit' to its axes")
        else:
            levels.append(ImageLevel(path, None, (0.0, 0.0, 0.0), names))
    return levels


def _read_steps(steps: Sequence[dict[str, Any]], address: str) -> tuple[list[float], list[float]]:
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
            size, offset = list(times(size, values)), list(times(offset, values))
        else:
            offset = [a + v for a, v in zip(offset, values, strict=True)]
    return size, offset


def write_images(images: Sequence[Sequence[ImageLevel]], version: int) -> dict[str, Any]:
    """Return the attributes of a group that describe its images.

    Args:
        images: The levels of each image, the highest resolution first, voxel sizes known, axes z y x.
        version: The version of Zarr, 2 or 3.
    """
    number = _NGFF[version]
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


def write_label_names(names: Sequence[str], version: int) -> dict[str, Any]:
    """Return the attributes of the group `labels` of an image, which name its label images.

    Args:
        names: The names of all of them.
        version: The version of Zarr, 2 or 3.
    """
    return {"labels": [*names]} if version == 2 else {"ome": {"version": _NGFF[version], "labels": [*names]}}


def read_label_names(attributes: dict[str, Any]) -> list[str]:
    """Return the names of the label images that the attributes of a group `labels` list."""
    ome = attributes.get("ome")
    names = (ome if isinstance(ome, dict) else attributes).get("labels", ())
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def mark_as_labels(attributes: dict[str, Any], version: int, source: str | None = None) -> dict[str, Any]:
    """Return the attributes of an image with the mark of a label image added (`image-label`).

    Args:
        attributes: What `write_images` returned.
        version: The version of Zarr, 2 or 3.
        source: Path of the labeled image, counted from the label image; None where there is none.

    Example:
        >>> mark_as_labels({"multiscales": []}, version=2, source="../../")["image-label"]
        {'version': '0.4', 'source': {'image': '../../'}}
    """
    mark: dict[str, Any] = {"version": _NGFF[version]} if version == 2 else {}
    if source is not None:
        mark["source"] = {"image": source}
    if version == 2:
        return attributes | {"image-label": mark}
    return attributes | {"ome": attributes["ome"] | {"image-label": mark}}


def read_ome_xml(xml: str) -> FloatZYX | None:
    """Return the voxel size in nm, z y x, of an OME-TIFF, or None where its XML does not give all three sides.

    Args:
        xml: OME-XML of schema 2016-06, where a `PhysicalSize` without a unit is in µm.
    """
    try:
        pixels = ET.fromstring(xml).find("{*}Image/{*}Pixels")
    except ET.ParseError:
        return None
    if pixels is None:
        return None
    sizes = []
    for axis in "ZYX":
        nm = NM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        if nm is None or not value > 0 or math.isinf(value):
            return None
        sizes.append(value * nm)
    z, y, x = sizes
    return z, y, x
