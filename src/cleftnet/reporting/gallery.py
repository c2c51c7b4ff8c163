"""Gallery of the largest mistakes of a model: a crop around each, with its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cleftnet.geometry import FloatZYX
from cleftnet.metrics.voxels import Mask
from cleftnet.reporting import pictures
from cleftnet.reporting.mistakes import Mistake, MistakeKind, Rectangle, largest_mistakes
from cleftnet.reporting.viewing import MarkedBox, View

COUNT = 6  # mistakes of each kind
CROP_NM, LARGEST_CROP_NM, MARGIN_NM = 800.0, 2400.0, 150.0  # smallest and largest side of a crop, and its margin


class Card(NamedTuple):
    """One mistake in the gallery.

    Attributes:
        title: What is wrong.
        scene: Number of its scene.
        place: Coordinates z y x in voxels of the volume.
        place_nm: Coordinates z y x in nm, with the offset of the volume.
        size: Number of voxels and volume, as text.
        raw: The crop as a data URI.
        tint: Right and wrong voxels in the crop as a data URI.
        frame: Height and width of the crop in voxels, and its aspect ratio.
        box: The mistake within the crop.
    """

    title: str
    scene: int
    place: tuple[int, int, int]
    place_nm: FloatZYX
    size: str
    raw: str
    tint: str
    frame: dict[str, float]
    box: MarkedBox


def gallery(views: Sequence[View], masks: Sequence[Mask], count: int = COUNT) -> dict[MistakeKind, list[Card]]:
    """Return the largest mistakes over all scenes.

    Args:
        views: The scenes.
        masks: Predicted masks of the scenes, z y x.
        count: Largest number of mistakes of each kind.

    Returns:
        Cards of each kind, the largest volume first.
    """
    found = [
        (mistake, number)
        for number, (view, mask) in enumerate(zip(views, masks, strict=True))
        for mistake in largest_mistakes(mask, view.truth, count)
    ]
    found.sort(key=lambda each: -each[0].voxels)
    return {
        kind: [_card(m, n, views[n], masks[n]) for m, n in [each for each in found if each[0].kind is kind][:count]]
        for kind in MistakeKind
    }


def _card(mistake: Mistake, number: int, view: View, mask: Mask) -> Card:
    size, offset, origin = view.scene.raw.voxel_size_nm, view.scene.raw.offset_nm, view.scene.origin
    z, y, x = mistake.center
    volume_um3 = mistake.voxels * size[0] * size[1] * size[2] / 1e9
    crop = _crop(mistake, view)
    part = (z, slice(crop.y0, crop.y1), slice(crop.x0, crop.x1))
    box, height, width = mistake.box, crop.y1 - crop.y0, crop.x1 - crop.x0
    inside = Rectangle(
        max(box.start[1] - crop.y0 - 3, 0),
        max(box.start[2] - crop.x0 - 3, 0),
        min(box.stop[1] - crop.y0 + 3, height),
        min(box.stop[2] - crop.x0 + 3, width),
    )
    return Card(
        title=_title(mistake),
        scene=number,
        place=(z + origin[0], y + origin[1], x + origin[2]),
        place_nm=(offset[0] + z * size[0], offset[1] + y * size[1], offset[2] + x * size[2]),
        size=f"{mistake.voxels:,} voxels, {volume_um3:.2g} µm³",
        raw=pictures.gray_picture(view.gray[part]),
        tint=pictures.tint_of_errors(mask[part], view.truth[part]),
        frame={"height": height, "width": width, "aspect": round(width * size[2] / (height * size[1]), 4)},
        box=MarkedBox(mistake.kind, inside),
    )


def _title(mistake: Mistake) -> str:
    if mistake.kind is MistakeKind.POSITIVE:
        return "no true cleft here" if mistake.alone else "outside a true cleft"
    return "cleft not found" if mistake.alone else "missing part of a found cleft"


def _crop(mistake: Mistake, view: View) -> Rectangle:
    """Return a window around a mistake, moved inside the section."""
    edges = []
    for axis in (1, 2):
        unit = view.scene.raw.voxel_size_nm[axis]
        extent_nm = mistake.box.shape[axis] * unit + 2 * MARGIN_NM
        side = min(round(min(max(CROP_NM, extent_nm), LARGEST_CROP_NM) / unit), view.gray.shape[axis])
        middle = (
            mistake.center[axis]
            if extent_nm > LARGEST_CROP_NM
            else (mistake.box.start[axis] + mistake.box.stop[axis]) // 2
        )
        start = min(max(middle - side // 2, 0), view.gray.shape[axis] - side)
        edges.append((start, start + side))
    (y0, y1), (x0, x1) = edges
    return Rectangle(y0, x0, y1, x1)
