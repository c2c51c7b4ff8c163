"""Widget "Score against labels": the scores of a prediction or labels layer against a layer of true labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, TextEdit
from napari.layers import Image, Labels

import cleftnet
from cleftnet.metrics.scores import Evaluation
from cleftnet.napari.layer_data import as_volume_of
from cleftnet.napari.working import BackgroundWork, follow_layers, layers_of

if TYPE_CHECKING:
    import napari


class ScoreAgainstLabels(Container):
    """Scores one layer against another.

    Args:
        napari_viewer: The viewer that layers are taken from.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:  # napari passes it by this name
        self.prediction = ComboBox(label="prediction", choices=layers_of(napari_viewer, Image, Labels))
        self.truth = ComboBox(label="truth", choices=layers_of(napari_viewer, Labels))
        self.work = BackgroundWork("Score", self._prepare, self._show)
        self.scores = TextEdit(value="")
        self.scores.read_only = True
        super().__init__(widgets=[self.prediction, self.truth, *self.work.rows, self.scores])
        follow_layers(napari_viewer, self)

    def _prepare(self) -> Callable[[], Evaluation]:
        if self.prediction.value is None or self.truth.value is None:
            raise cleftnet.InputError("choose a prediction and a labels layer of the truth")
        prediction, truth = as_volume_of(self.prediction.value), as_volume_of(self.truth.value)
        kind = "labels" if isinstance(self.prediction.value, Labels) else None
        return lambda: cleftnet.evaluate(prediction, truth, kind=kind)

    def _show(self, found: Evaluation) -> str:
        self.scores.value = "\n".join(" ".join(part for part in row if part) for row in found.rows())
        return "; ".join(found.warnings)
