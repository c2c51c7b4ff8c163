"""Where a prediction is wrong: boxes around false regions of one section, and the largest mistakes of a whole scene.

The paper's Figure 3 boxes false positives red and false negatives green, by hand; here connected components of false
voxels are boxed, and boxes that overlap become one.
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

MIN_NM2 = 4000.0  # about a tenth of what a cleft cut across covers, and more than the frayed rim of one
MARGIN_NM = 25.0  # between a false region and its box


class MistakeKind(StrEnum):
    """Which way a voxel is wrong."""

    POSITIVE = "false positive"
    NEGATIVE = "false negative"


class Errors(NamedTuple):
    """The voxels that are wrong, of one section or of a scene.

    Attributes:
        positive: Predicted, and labelled as no cleft.
        negative: Cleft, and not predicted.
    """

    positive: Mask
    negative: Mask

    @classmethod
    def of(cls, predicted: Mask, truth: npt.NDArray[np.uint8]) -> Errors:
        """Compare a predicted mask with the classes of the truth; what nobody labelled is never wrong."""
        return cls(predicted & (truth == NOT_CLEFT), ~predicted & (truth == CLEFT))

    def kinds(self) -> Iterable[tuple[MistakeKind, Mask]]:
        """Both masks with their names."""
        return zip(MistakeKind, self, strict=True)


class Rectangle(NamedTuple):
    """Half-open ranges of rows and columns of one section."""

    y0: int
    x0: int
    y1: int
    x1: int

    def overlaps(self, other: Rectangle) -> bool:
        """True when they share a pixel."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1

    def join(self, other: Rectangle) -> Rectangle:
        """Return the smallest rectangle around both."""
        return Rectangle(min(self.y0, other.y0), min(self.x0, other.x0), max(self.y1, other.y1), max(self.x1, other.x1))


def false_boxes(
    false: Mask, voxel_size_nm: FloatZYX, *, min_nm2: float = MIN_NM2, margin_nm: float = MARGIN_NM
) -> list[Rectangle]:
    """Box the false regions of one section.

    Args:
        false: Wrong pixels y x, of one kind.
        voxel_size_nm: z y x.
        min_nm2: Regions (8-connected) of a smaller area get no box.
        margin_nm: How far a box reaches beyond its region, inside the section.

    Returns:
        Boxes that do not overlap, by their first row.

    Raises:
        InputError: when `false` is no section, or a length is negative.

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
    """Join rectangles that overlap until none do.

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
        kind: Which way it is wrong.
        box: What it reaches through, in voxels of the scene.
        centre: z y x: the section that holds most of it, and the middle of what lies there.
        voxels: How many.
        alone: True for a predicted cleft where there is none at all, or a cleft of which nothing was found; False for a part of
            one that was found, such as its rim.
    """

    kind: MistakeKind
    box: Box
    centre: tuple[int, int, int]
    voxels: int
    alone: bool


def largest_mistakes(predicted: Mask, truth: npt.NDArray[np.uint8], count: int) -> list[Mistake]:
    """Find the largest regions of false positives and of false negatives.

    Args:
        predicted: Voxels called cleft, z y x.
        truth: Their classes (`volumes.volume.classes`), the same shape.
        count: How many of each kind, at most.

    Returns:
        Both kinds, the largest (26-connected) first.

    Example:
        >>> predicted, truth = np.zeros((1, 4, 9), bool), np.zeros((1, 4, 9), np.uint8)
        >>> truth[0, 0, :4] = predicted[0, 0, :2] = predicted[0, 3, 6:] = 1
        >>> [(m.kind.value, m.voxels, m.centre, m.alone) for m in largest_mistakes(predicted, truth, 3)]
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
            centre = (box.start[0] + z, box.start[1] + y, box.start[2] + x)
            alone = not np.isin(clefts[box.slices][inside], partly_right).any()
            found.append(Mistake(kind, box, centre, int(sizes[region]), alone))
    return sorted(found, key=lambda mistake: -mistake.voxels)


def _box(slices: tuple[slice, slice, slice]) -> Box:
    z, y, x = slices
    return Box((int(z.start), int(y.start), int(x.start)), (int(z.stop), int(y.stop), int(x.stop)))
