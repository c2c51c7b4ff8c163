"""Widget "Review": the candidates of a review one after the other, decided by buttons and keys, redrawn with napari's brush."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from magicgui.widgets import Container, FileEdit, Label, LineEdit, PushButton

import cleftnet
from cleftnet.napari.layer_data import as_layer
from cleftnet.viewing import LayerKind
from cleftnet.volumes import Volume

if TYPE_CHECKING:
    import napari

KEYS = {"a": "accept", "r": "reject", "d": "redraw", "s": "skip"}
CANDIDATE = "candidate"  # the layer that is looked at, and painted


class ReviewSynapses(Container):
    """Shows candidates and writes down decisions.

    The layer `candidate` holds the voxels of the candidate in its window. Paint in it, then choose "redraw".

    Args:
        napari_viewer: The viewer that shows the candidates.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:  # napari passes it by this name
        self._viewer = napari_viewer
        self.folder = FileEdit(label="review", mode="d", value="")
        self.by = LineEdit(label="decided by", value="")
        self.begin = PushButton(text="Open")
        self.buttons = {
            verdict: PushButton(text=f"{verdict.capitalize()} ({key})", enabled=False) for key, verdict in KEYS.items()
        }
        self.message = Label(value="")
        self.message.native.setWordWrap(True)
        rows = [
            Container(widgets=list(self.buttons.values())[first : first + 2], layout="horizontal", labels=False)
            for first in (0, 2)
        ]
        super().__init__(widgets=[self.folder, self.by, self.begin, *rows, self.message])
        self.review: cleftnet.ReviewSet | None = None
        self.candidate: int | None = None
        self.begin.changed.connect(self._open)
        for verdict, button in self.buttons.items():
            button.changed.connect(lambda _, verdict=verdict: self.decide(verdict))

    def _open(self) -> None:
        try:
            self.review = cleftnet.open_review(self.folder.value)
            layers = [
                (self.review.raw, "raw", LayerKind.RAW),
                (self.review.prediction, "probability", LayerKind.PROBABILITY),
            ]
            for volume, name, kind in layers:
                if volume is not None and name not in self._viewer.layers:
                    data, arguments, _ = as_layer(volume, name, kind)
                    self._viewer.add_image(data, **arguments)
        except cleftnet.InputError as error:
            self.message.value = str(error)
            return
        for key, verdict in KEYS.items():
            self._viewer.bind_key(key, lambda _, verdict=verdict: self.decide(verdict), overwrite=True)
        for button in self.buttons.values():
            button.enabled = True
        self._next()

    def decide(self, verdict: str) -> None:
        """Write down a decision about the candidate that is shown, and show the next one."""
        if self.review is None or self.candidate is None:
            return
        try:
            redrawn = np.asarray(self._viewer.layers[CANDIDATE].data) if verdict == "redraw" else None
            self.review.decide(self.candidate, verdict, by=self.by.value, redrawn=redrawn)
        except cleftnet.InputError as error:
            self.message.value = str(error)
            return
        self._next()

    def _next(self) -> None:
        assert self.review is not None
        undecided, progress = self.review.undecided(), self.review.progress
        left = "" if progress.seconds_left is None else f", about {max(1, round(progress.seconds_left / 60))} min left"
        self.message.value = f"{progress.done} of {progress.total} decided{left if undecided else ''}"
        self.candidate = undecided[0] if undecided else None
        if CANDIDATE in self._viewer.layers:
            del self._viewer.layers[CANDIDATE]
        if self.candidate is not None:
            self._show(self.review, self.candidate)

    def _show(self, review: cleftnet.ReviewSet, candidate: int) -> None:
        window, box = review.window(candidate), review.box(candidate)
        values = np.zeros(window.shape, np.uint32)
        values[box.relative_to(window.start).slices] = review.mask(candidate)
        size, origin = np.array(review.inputs.voxel_size_nm), np.array(review.inputs.offset_nm)
        z, y, x = (origin + np.array(window.start) * size).tolist()
        shown = Volume(values, review.inputs.voxel_size_nm, (z, y, x))
        data, arguments, _ = as_layer(shown, CANDIDATE, LayerKind.LABELS)
        layer = self._viewer.add_labels(data, **arguments, opacity=0.5)
        self._viewer.layers.selection.active = layer
        row = review.candidates.loc[candidate - 1]
        self._viewer.dims.set_point(range(3), [float(row[f"{axis}_nm"]) for axis in "zyx"])
        scene = getattr(self._viewer, "scene", self._viewer)  # before napari 0.9 the viewer had the camera
        scene.camera.center = tuple(float(row[f"{axis}_nm"]) for axis in "zyx")
        self.message.value += f"; candidate {candidate}: {row['kind']}, score {row['score']:.3f}"
