"""Layers of one place in a browser or in napari: raw, probability, labels, truth, errors, and a list of synapses."""

from cleftnet.viewing.layers import LayerKind, ShownLayer, ShownLayers, open_layers
from cleftnet.viewing.showing import LayerViewer, view

__all__ = ["LayerKind", "LayerViewer", "ShownLayer", "ShownLayers", "open_layers", "view"]
