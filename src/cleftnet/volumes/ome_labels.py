"""Label images of OME-Zarr: arrays in the group `labels` of an image, where napari and WEBKNOSSOS look for segmentations.

NGFF 0.4 and 0.5, section "labels" (https://ngff.openmicroscopy.org). A label image is an image of its own with the mark
`image-label`, has as many levels as the image that it belongs to, and is named by the attributes of the group.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import IntZYX
from cleftnet.volumes.address import Location, join, read_json, write_json
from cleftnet.volumes.chunked import container
from cleftnet.volumes.labels import check_ids
from cleftnet.volumes.metadata import ArraySpec, LayoutSettings
from cleftnet.volumes.ome import ImageLevel, read_images, read_label_names, write_label_names
from cleftnet.volumes.volume import WritableStore
from cleftnet.volumes.zarr import NewZarr, ZarrNode, read_node

log = logging.getLogger(__name__)

_GROUP = "labels"
_TO_IMAGE = "../../"  # from a label image to the image


@dataclass(frozen=True)
class LabelPlace:
    """A place in the group `labels` of an OME-Zarr image.

    Attributes:
        image: The path of the image.
        name: The name of the label image.
        node: The group of the image.
        levels: The levels of the image.
    """

    image: str
    name: str
    node: ZarrNode
    levels: Sequence[ImageLevel]

    @classmethod
    def of(cls, location: Location) -> LabelPlace | None:
        """Return the place that a location names, such as `vol.zarr/labels/clefts`; None where there is no image above."""
        *above, group, name = ["", *location.inside.split("/")] if location.inside else ["", ""]
        image = join(location.path, *above)
        if group != _GROUP or not name:
            return None
        node = read_node(image)
        images = read_images(node.attributes, image) if node is not None and node.kind == "group" else []
        return cls(image, name, node, images[0]) if node is not None and images else None

    @property
    def group(self) -> str:
        """The path of the group `labels`."""
        return join(self.image, _GROUP)


@contextmanager
def new_labels(place: LabelPlace, overwrite: bool, layout: LayoutSettings) -> Iterator[NewLabels]:
    """Yield a label image to be filled; the image names it when the body succeeds, and it vanishes when the body fails.

    Args:
        place: Where it shall be.
        overwrite: Whether one of that name may be replaced.
        layout: How the array lies on disk; version of Zarr and number of levels are those of the image.

    Raises:
        InputError: when there is one of that name, or the layout asks for another version of Zarr than the image's.
    """
    version = place.node.version
    if layout.zarr not in (None, version):
        raise InputError(f"{place.image} is Zarr v{version}, and so are its labels; leave out zarr={layout.zarr}")
    layout, factors = layout.changed(zarr=version, pyramid=True), _factors(place.levels)

    def make(at: str, address: str) -> NewLabels:
        return NewLabels(NewZarr(at, address, layout, labels_of=_TO_IMAGE, factors=factors))

    with container(join(place.group, place.name), overwrite, make) as new:
        yield new
    _name(place)


@dataclass(frozen=True)
class NewLabels:
    """A label image being made, in which its one array is created."""

    zarr: NewZarr

    def create(self, spec: ArraySpec) -> WritableStore:
        """Create the array and its levels `s0`, `s1` and so on, zero everywhere, whatever name the spec has.

        Raises:
            InputError: when the values are no ids, or there is no voxel size.
        """
        check_ids(np.empty(0, spec.dtype), self.zarr.address)
        spec.needed_voxel_size(self.zarr.address, "a label image")
        dtype = np.uint8 if np.dtype(spec.dtype) == np.bool_ else spec.dtype
        return self.zarr.create(replace(spec, name="", dtype=dtype))


def _factors(levels: Sequence[ImageLevel]) -> list[IntZYX]:
    """Return how many full voxels one voxel of each level of an image covers.

    Where that is no whole number, or no multiple of the level before, only the first level is returned.
    """
    first = levels[0].voxel_size
    factors: list[IntZYX] = []
    for level in levels:
        shares = [a / b for a, b in zip(level.voxel_size or (), first or (), strict=True)] or [1.0, 1.0, 1.0]
        z, y, x = (round(share) for share in shares)
        before = factors[-1] if factors else (1, 1, 1)
        uneven = max(abs(a - b) for a, b in zip(shares, (z, y, x), strict=True)) > 0.01
        if uneven or any(a < b or a % b for a, b in zip((z, y, x), before, strict=True)):
            return [(1, 1, 1)]
        factors.append((z, y, x))
    return factors


def _name(place: LabelPlace) -> None:
    """Add a label image to the names in the group `labels`."""
    group, version = read_node(place.group), place.node.version
    attributes = {} if group is None else group.attributes
    names = dict.fromkeys([*read_label_names(attributes), place.name])
    attributes = attributes | write_label_names(list(names), version)
    if version == 3:
        write_json(place.group, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
    else:
        write_json(place.group, ".zgroup", {"zarr_format": 2})
        write_json(place.group, ".zattrs", attributes)
    if read_json(place.image, ".zmetadata") or place.node.metadata.get("consolidated_metadata"):
        log.warning(f"{place.image} has consolidated metadata, which does not list {place.group}; consolidate it anew")
