"""What the page shows of a scene and of a prediction: the slices to browse, and Figure 3 of the paper for one section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cleftnet.errors import InputError
from cleftnet.metrics.predictions import predicted_mask
from cleftnet.metrics.voxels import Mask
from cleftnet.report import pictures
from cleftnet.report.contents import Entry, Prediction, Scene
from cleftnet.report.mistakes import Errors, MistakeKind, Rectangle, false_boxes
from cleftnet.report.pictures import Reduction, UInt8
from cleftnet.volumes import CLEFT, classes

SCALE_BARS_NM = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)


class MarkedBox(NamedTuple):
    """A box of false voxels in a section, in voxels of the scene."""

    kind: MistakeKind
    place: Rectangle

    def to_json(self) -> list[str | int]:
        """Return what page.js draws: the kind's CSS class, then y0, x0, y1, x1."""
        return [self.css, *self.place]

    @property
    def css(self) -> str:
        """The class that gives its colour and line style."""
        return "fp" if self.kind is MistakeKind.POSITIVE else "fn"


@dataclass(frozen=True)
class View:
    """A scene in memory, ready to be drawn.

    Attributes:
        scene: What it is.
        gray: Gray values for the screen, z y x.
        truth: Classes of its voxels (`volumes.volume.classes`), the same shape.
        reduction: How much of it is shown.
    """

    scene: Scene
    gray: UInt8
    truth: UInt8
    reduction: Reduction

    @classmethod
    def of(cls, scene: Scene, reduction: Reduction) -> View:
        """Read a scene.

        Raises:
            InputError: when raw and truth differ in shape.
        """
        if scene.raw.shape != scene.truth.shape:
            raise InputError(
                f"raw of {scene.raw.shape} voxels and truth of {scene.truth.shape} (z y x); expected one shape"
            )
        return cls(scene, pictures.gray_values(scene.raw.read()), classes(scene.truth.read()), reduction)

    @property
    def sections(self) -> list[int]:
        """The sections that are shown."""
        return list(range(0, self.gray.shape[0], self.reduction.step))

    @property
    def busiest(self) -> int:
        """The section with most true cleft."""
        return int((self.truth == CLEFT).sum(axis=(1, 2)).argmax())

    @property
    def scale_bar_nm(self) -> int:
        """A round length of at most a fifth of the width."""
        width_nm = self.gray.shape[2] * self.scene.raw.voxel_size_nm[2]
        return max((length for length in SCALE_BARS_NM if length <= width_nm / 5), default=SCALE_BARS_NM[0])

    def frame(self) -> dict[str, Any]:
        """Return sizes and places, for the template and for page.js."""
        depth, height, width = self.gray.shape
        size, offset = self.scene.raw.voxel_size_nm, self.scene.raw.offset_nm
        return {
            "name": self.scene.name,
            "depth": depth,
            "height": height,
            "width": width,
            "voxel_nm": list(size),
            "offset_nm": list(offset),
            "origin": list(self.scene.origin),
            "aspect": round(width * size[2] / (height * size[1]), 4),
            "bar_nm": self.scale_bar_nm,
            "bar_percent": round(100 * self.scale_bar_nm / (width * size[2]), 3),
        }

    def raw_picture(self, z: int) -> str:
        """Return a section of raw as a data URI."""
        return pictures.gray_picture(self.gray[z], self.reduction.factor)

    def truth_tint(self, z: int) -> str:
        """Return a section's clefts as a data URI."""
        return pictures.tint_of_truth(self.truth[z], self.reduction.factor)

    def marked(self, predicted: Mask, z: int) -> list[MarkedBox]:
        """Box what is wrong in a section of a predicted mask z y x."""
        return [
            MarkedBox(kind, place)
            for kind, false in Errors.of(predicted[z], self.truth[z]).kinds()
            for place in false_boxes(false, self.scene.raw.voxel_size_nm)
        ]

    def error_tint(self, predicted: Mask, z: int) -> str:
        """Return what is right and wrong in a section of a predicted mask z y x as a data URI."""
        return pictures.tint_of_errors(predicted[z], self.truth[z], self.reduction.factor)


def read_mask(entry: Entry, prediction: Prediction) -> Mask:
    """Return what an entry calls cleft in one of its predictions."""
    return predicted_mask(prediction.probability.read(), entry.threshold)


def slices_of_scene(view: View) -> dict[str, Any]:
    """Return what page.js shows of a scene itself: its frame, and raw and truth of each section."""
    return {
        **view.frame(),
        "sections": [z + view.scene.origin[0] for z in view.sections],
        "first": view.sections.index(min(view.sections, key=lambda z: abs(z - view.busiest))),
        "raw": [view.raw_picture(z) for z in view.sections],
        "truth": [view.truth_tint(z) for z in view.sections],
        "entries": {},
    }


def slices_of_prediction(view: View, entry: Entry, prediction: Prediction) -> dict[str, Any]:
    """Return what page.js lays over a scene: probability, distance, errors and their boxes, for each section."""
    probability, mask = prediction.probability.read(), read_mask(entry, prediction)
    distance = None if prediction.distance is None else prediction.distance.read()
    factor = view.reduction.factor
    return {
        "probability": [pictures.tint_by_value(probability[z], pictures.PROBABILITY, factor) for z in view.sections],
        "distance": distance is not None
        and [pictures.tint_by_value(distance[z], pictures.DISTANCE, factor) for z in view.sections],
        "errors": [view.error_tint(mask, z) for z in view.sections],
        "boxes": [[box.to_json() for box in view.marked(mask, z)] for z in view.sections],
    }


class Panel(NamedTuple):
    """One picture of Figure 3: a tint over raw, boxes, and what stands below."""

    label: str
    caption: str
    tint: str
    boxes: Sequence[MarkedBox] = ()


class Figure(NamedTuple):
    """Figure 3 for one scene: the truth, then every entry on the same section."""

    frame: dict[str, Any]
    section: int
    raw: str
    panels: Sequence[Panel]


def figure3(view: View, predicted: Iterator[tuple[str, Mask]]) -> Figure:
    """Lay the predictions of one section side by side: the one with most true cleft.

    Args:
        view: The scene.
        predicted: Label and mask z y x of each entry.

    Returns:
        The figure; pictures as data URIs.
    """
    z = view.busiest
    panels = [Panel("Truth", f"{np.count_nonzero(view.truth[z] == CLEFT):,} cleft pixels", view.truth_tint(z))]
    for label, mask in predicted:
        boxes = view.marked(mask, z)
        counts = [sum(box.kind is kind for box in boxes) for kind in MistakeKind]
        caption = "boxed: " + ", ".join(f"{n} {kind.value}" for n, kind in zip(counts, MistakeKind, strict=True))
        panels.append(Panel(label, caption, view.error_tint(mask, z), boxes))
    return Figure(view.frame(), z + view.scene.origin[0], view.raw_picture(z), panels)
