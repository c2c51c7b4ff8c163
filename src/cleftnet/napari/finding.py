"""Widget "Find synapses": predicts the volume of a layer, finds its synapses, and adds both as layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, FloatSpinBox
from napari.layers import Image

import cleftnet
from cleftnet.napari.layer_data import as_layer, as_volume_of
from cleftnet.napari.working import BackgroundWork, follow_layers, layers_of
from cleftnet.synapses import Synapses
from cleftnet.viewing import LayerKind

if TYPE_CHECKING:
    import napari


class FindSynapses(Container):
    """Predicts a volume and finds its synapses.

    Args:
        napari_viewer: The viewer that layers are taken from and added to.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:  # napari passes it by this name
        self._viewer = napari_viewer
        self.volume = ComboBox(label="volume", choices=layers_of(napari_viewer, Image))
        self.model = ComboBox(label="model", choices=cleftnet.list_models())
        self.own_model = FileEdit(label="or a file", mode="r", value="", tooltip="A checkpoint of your own.")
        self.as_model = CheckBox(
            label="threshold and size of the model", value=True, tooltip="The operating point stored with the model."
        )
        self.threshold = FloatSpinBox(label="threshold", value=0.5, min=0, max=1, step=0.01, enabled=False)
        self.min_size = FloatSpinBox(label="minimum size (10⁶ nm³)", value=1, min=0, max=1e6, step=0.1, enabled=False)
        self.work = BackgroundWork("Find synapses", self._prepare, self._show)
        chosen = [self.volume, self.model, self.own_model, self.as_model, self.threshold, self.min_size]
        super().__init__(widgets=[*chosen, *self.work.rows])
        self.as_model.changed.connect(self._enable)
        follow_layers(napari_viewer, self)

    def _enable(self, as_model: bool) -> None:
        self.threshold.enabled = self.min_size.enabled = not as_model

    def _prepare(self) -> Callable[[], tuple[cleftnet.Volume, Synapses]]:
        if self.volume.value is None:
            raise cleftnet.InputError("there is no image layer; open a volume first")
        raw = as_volume_of(self.volume.value)
        own = Path(self.own_model.value)
        model = str(own) if own.is_file() else str(self.model.value)
        settings = cleftnet.SynapseSettings()
        if not self.as_model.value:
            settings = settings.changed(threshold=self.threshold.value, min_size_nm3=self.min_size.value * 1e6)

        def work() -> tuple[cleftnet.Volume, Synapses]:
            probability = cleftnet.predict(model, raw)
            return probability, cleftnet.find_synapses(probability, settings=settings)

        return work

    def _show(self, result: tuple[cleftnet.Volume, Synapses]) -> str:
        probability, found = result
        data, arguments, _ = as_layer(probability, "probability", LayerKind.PROBABILITY)
        self._viewer.add_image(data, **arguments)
        data, arguments, _ = as_layer(found.labels, "synapses", LayerKind.LABELS)
        features: Any = found.table.rename(columns={"synapse_id": "index"})
        self._viewer.add_labels(data, **arguments, features=features)
        return f"{len(found.table)} synapses ({found.used.origin})"
