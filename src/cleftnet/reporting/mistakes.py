"""Finds mistakes of a prediction: boxes around false regions of one section, and the largest mistakes of a scene.

Figure 3 of the paper boxes false positives and false negatives by hand. This module boxes connected components of false
voxels, and joins boxes that overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.metrics.clefts import CONNECTIVITY
from cleftnet.metrics.voxels import Mask
from cleftnet.volumes import CLEFT, NOT_CLEFT

MIN_NM2 = 4000.0  # about a tenth of the cross-section of a cleft, and more than an uneven rim
MARGIN_NM = 25.0  # between a false region and its box


class MistakeKind(StrEnum):
    """Kind of a mistake: false positive or false negative."""

    POSITIVE = "false positive"
    NEGATIVE = "false negative"


class Errors(NamedTuple):
    """Wrong voxels of a section or a scene.

    Attributes:
        positive: Predicted as cleft, labelled as background.
        negative: Labelled as cleft, not predicted.
    """

    positive: Mask
    negative: Mask

    @classmethod
    def of(cls, predicted: Mask, truth: npt.NDArray[np.uint8]) -> Errors:
        """Compare a predicted mask with the classes of the truth; unlabelled voxels are never wrong."""
        return cls(predicted & (truth == NOT_CLEFT), ~predicted & (truth == CLEFT))

    def kinds(self) -> Iterable[tuple[MistakeKind, Mask]]:
        """Return both masks with their kinds."""
        return zip(MistakeKind, self, strict=True)


class Rectangle(NamedTuple):
    """Half-open ranges of rows and columns in a section."""

    y0: int
    x0: int
    y1: int
    x1: int

    def overlaps(self, other: Rectangle) -> bool:
        """Return whether two rectangles share a pixel."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1

    def join(self, other: Rectangle) -> Rectangle:
        """Return the smallest rectangle around both."""
        return Rectangle(min(self.y0, other.y0), min(self.x0, other.x0), max(self.y1, other.y1), max(self.x1, other.x1))


def false_boxes(
    false: Mask, voxel_size_nm: FloatZYX, *, min_nm2: float = MIN_NM2, margin_nm: float = MARGIN_NM
) -> list[Rectangle]:
    """Box the false regions of one section.

    Args:
        false: Wrong pixels y x of one kind.
        voxel_size_nm: z y x.
        min_nm2: Smallest area of a region (8-connected) that gets a box.
        margin_nm: Margin between a region and its box, within the section.

    Returns:
        Boxes that do not overlap, sorted by their first row.

    Raises:
        InputError: when `false` is not two-dimensional, or a length is negative.

    Example:
        >>> false = np.zeros((20, 40), bool)
        >>> false[5:9, 10:20] = True            # 40 pixels of 16 nm²
        >>> false[15, 30] = True                # one pixel: too small
        >>> [tuple(box) for box in false_boxes(false, (40, 4, 4), min_nm2=200, margin_nm=8)]
        [(3, 8, 11, 22)]
    """
    if false.ndim != 2 or min_nm2 < 0 or margin_nm < 0:
        raise InputError(
            f"false regions of shape {false.shape}, at least {min_nm2:g} nm², margin {margin_nm:g} nm; expected one section "
            f"y x and sizes of 0 or more"
        )
    _, y_nm, x_nm = voxel_size_nm
    found = cc3d.statistics(cc3d.connected_components(false.view(np.uint8), connectivity=8))
    rows, columns = round(margin_nm / y_nm), round(margin_nm / x_nm)
    boxes = [
        Rectangle(
            max(0, y.start - rows),
            max(0, x.start - columns),
            min(false.shape[0], y.stop + rows),
            min(false.shape[1], x.stop + columns),
        )
        for (y, x, *_), pixels in zip(found["bounding_boxes"][1:], found["voxel_counts"][1:], strict=True)
        if pixels * y_nm * x_nm >= min_nm2
    ]
    return sorted(merge(boxes))


def merge(boxes: Iterable[Rectangle]) -> list[Rectangle]:
    """Join overlapping rectangles until none overlap.

    Example:
        >>> [tuple(box) for box in merge([Rectangle(0, 0, 4, 4), Rectangle(3, 3, 6, 6), Rectangle(6, 0, 9, 2)])]
        [(0, 0, 6, 6), (6, 0, 9, 2)]
    """
    apart: list[Rectangle] = []
    for box in boxes:
        while meeting := [other for other in apart if box.overlaps(other)]:
            for other in meeting:
                apart.remove(other)
                box = box.join(other)
        apart.append(box)
    return apart


@dataclass(frozen=True)
class Mistake:
    """One connected region of wrong voxels.

    Attributes:
        kind: False positive or false negative.
        box: Bounding box in voxels of the scene.
        center: z y x of its median pixel in the section that holds most of it.
        voxels: Number of voxels.
        alone: True for a predicted cleft without any true voxel, or a true cleft without any predicted voxel; False for a part
            of a cleft that was found, such as its rim.
    """

    kind: MistakeKind
    box: Box
    center: tuple[int, int, int]
    voxels: int
    alone: bool


def largest_mistakes(predicted: Mask, truth: npt.NDArray[np.uint8], count: int) -> list[Mistake]:
    """Find the largest regions of false positives and of false negatives.

    Args:
        predicted: Predicted mask z y x.
        truth: Classes of the voxels (`cleftnet.volumes.classes`), of the same shape.
        count: Largest number of regions of each kind.

    Returns:
        Regions (26-connected) of both kinds, the largest first.

    Example:
        >>> predicted, truth = np.zeros((1, 4, 9), bool), np.zeros((1, 4, 9), np.uint8)
        >>> truth[0, 0, :4] = predicted[0, 0, :2] = predicted[0, 3, 6:] = 1
        >>> [(m.kind.value, m.voxels, m.center, m.alone) for m in largest_mistakes(predicted, truth, 3)]
        [('false positive', 3, (0, 3, 7), True), ('false negative', 2, (0, 0, 2), False)]
    """
    right = predicted & (truth == CLEFT)
    found: list[Mistake] = []
    for (kind, false), whole in zip(
        Errors.of(predicted, truth).kinds(), (predicted, np.asarray(truth == CLEFT)), strict=True
    ):
        clefts = cc3d.connected_components(whole.view(np.uint8), connectivity=CONNECTIVITY)
        partly_right = np.unique(clefts[right])
        regions = cc3d.connected_components(false.view(np.uint8), connectivity=CONNECTIVITY)
        statistics = cc3d.statistics(regions)
        sizes = statistics["voxel_counts"].astype(np.int64)
        sizes[0] = 0
        for region in np.argsort(-sizes, kind="stable")[:count].tolist():
            if not sizes[region]:
                break
            box = _box(statistics["bounding_boxes"][region])
            inside = regions[box.slices] == region
            z = int(inside.sum(axis=(1, 2)).argmax())
            y, x = (int(np.median(axis)) for axis in np.nonzero(inside[z]))
            center = (box.start[0] + z, box.start[1] + y, box.start[2] + x)
            alone = not np.isin(clefts[box.slices][inside], partly_right).any()
            found.append(Mistake(kind, box, center, int(sizes[region]), alone))
    return sorted(found, key=lambda mistake: -mistake.voxels)


def _box(slices: tuple[slice, slice, slice]) -> Box:
    z, y, x = slices
    return Box((int(z.start), int(y.start), int(x.start)), (int(z.stop), int(y.stop), int(x.stop)))
