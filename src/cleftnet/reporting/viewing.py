"""Pictures of scenes and predictions: the slice browser, and a figure like Figure 3 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cleftnet.errors import InputError
from cleftnet.metrics.predictions import predicted_mask
from cleftnet.metrics.voxels import Mask
from cleftnet.reporting import pictures
from cleftnet.reporting.contents import Entry, Scene, ScenePrediction
from cleftnet.reporting.mistakes import Errors, MistakeKind, Rectangle, false_boxes
from cleftnet.reporting.pictures import Reduction, UInt8
from cleftnet.volumes import CLEFT, classes

SCALE_BARS_NM = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)


class MarkedBox(NamedTuple):
    """A box of false voxels in a section, in voxels of the scene."""

    kind: MistakeKind
    place: Rectangle

    def to_json(self) -> list[str | int]:
        """Return what page.js draws: the CSS class, then y0, x0, y1, x1."""
        return [self.css, *self.place]

    @property
    def css(self) -> str:
        """CSS class for color and line style."""
        return "fp" if self.kind is MistakeKind.POSITIVE else "fn"


@dataclass(frozen=True)
class View:
    """A scene in memory, ready to be drawn.

    Attributes:
        scene: The scene.
        gray: Gray values for the screen, z y x.
        truth: Classes of the voxels (`cleftnet.volumes.classes`), of the same shape.
        reduction: Resolution and number of the sections that are shown.
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
        """Sections that are shown."""
        return list(range(0, self.gray.shape[0], self.reduction.step))

    @property
    def busiest(self) -> int:
        """Section with the most true cleft."""
        return int((self.truth == CLEFT).sum(axis=(1, 2)).argmax())

    @property
    def scale_bar_nm(self) -> int:
        """Length of the scale bar: a round number, at most a fifth of the width."""
        width_nm = self.gray.shape[2] * self.scene.raw.voxel_size_nm[2]
        return max((length for length in SCALE_BARS_NM if length <= width_nm / 5), default=SCALE_BARS_NM[0])

    def frame(self) -> dict[str, Any]:
        """Return sizes and positions for the template and for page.js."""
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
        """Box the mistakes in a section of a predicted mask z y x."""
        return [
            MarkedBox(kind, place)
            for kind, false in Errors.of(predicted[z], self.truth[z]).kinds()
            for place in false_boxes(false, self.scene.raw.voxel_size_nm)
        ]

    def error_tint(self, predicted: Mask, z: int) -> str:
        """Return right and wrong voxels in a section of a predicted mask z y x as a data URI."""
        return pictures.tint_of_errors(predicted[z], self.truth[z], self.reduction.factor)


def read_mask(entry: Entry, prediction: ScenePrediction) -> Mask:
    """Return the mask of a prediction at the threshold of its entry."""
    return predicted_mask(prediction.probability.read(), entry.threshold)


def slices_of_scene(view: View) -> dict[str, Any]:
    """Return the data of a scene for page.js: its frame, and raw and truth of each section."""
    return {
        **view.frame(),
        "sections": [z + view.scene.origin[0] for z in view.sections],
        "first": view.sections.index(min(view.sections, key=lambda z: abs(z - view.busiest))),
        "raw": [view.raw_picture(z) for z in view.sections],
        "truth": [view.truth_tint(z) for z in view.sections],
        "entries": {},
    }


def slices_of_prediction(view: View, entry: Entry, prediction: ScenePrediction) -> dict[str, Any]:
    """Return the data of a prediction for page.js: probability, distance, errors and boxes of each section."""
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
    """One picture of a figure: a tint over raw, boxes, and a caption."""

    label: str
    caption: str
    tint: str
    boxes: Sequence[MarkedBox] = ()


class Figure(NamedTuple):
    """A figure like Figure 3 of the paper for one scene: the truth, then every entry on the same section."""

    frame: dict[str, Any]
    section: int
    raw: str
    panels: Sequence[Panel]


def figure3(view: View, predicted: Iterator[tuple[str, Mask]]) -> Figure:
    """Show all predictions of the section with the most true cleft side by side.

    Args:
        view: The scene.
        predicted: Label and mask z y x of each entry.

    Returns:
        The figure, with pictures as data URIs.
    """
    z = view.busiest
    panels = [Panel("Truth", f"{np.count_nonzero(view.truth[z] == CLEFT):,} cleft pixels", view.truth_tint(z))]
    for label, mask in predicted:
        boxes = view.marked(mask, z)
        counts = [sum(box.kind is kind for box in boxes) for kind in MistakeKind]
        caption = "boxed: " + ", ".join(f"{n} {kind.value}" for n, kind in zip(counts, MistakeKind, strict=True))
        panels.append(Panel(label, caption, view.error_tint(mask, z), boxes))
    return Figure(view.frame(), z + view.scene.origin[0], view.raw_picture(z), panels)
