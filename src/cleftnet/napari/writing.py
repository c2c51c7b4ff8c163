"""Writer of napari: labels, with the raw volume where it is selected too, as one CREMI file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from cleftnet.errors import InputError
from cleftnet.napari.layer_data import LayerData, as_volume_of
from cleftnet.volumes import Volume, write_cremi


def write_cremi_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Write a labels layer, and an image layer where there is one, as a CREMI file; napari has asked before it replaces one.

    Args:
        path: The file.
        layers: One labels layer and at most one image layer, as napari hands them to writers.

    Returns:
        The path.

    Raises:
        InputError: when a layer has no voxel size in a unit of length, labels are negative, or raw is not uint8.
    """
    volumes: dict[str, Volume] = {}
    for data, attributes, layer_type in layers:
        if layer_type in volumes or layer_type not in ("image", "labels"):
            raise InputError("a CREMI file holds one volume of labels and at most one of raw; select just these layers")
        volumes[layer_type] = as_volume_of(_stand_in(data, attributes))
    write_cremi(path, raw=volumes.get("image"), clefts=volumes.get("labels"), overwrite=True)
    return [path]


def _stand_in(data: Any, attributes: dict[str, Any]) -> Any:
    """Return what a writer gets of a layer in the form of a layer."""
    plain = {"multiscale": False, "rotate": np.eye(3), "shear": np.zeros(3), "metadata": {}, "units": ("pixel",) * 3}
    return SimpleNamespace(**{**plain, **attributes, "data": data})
