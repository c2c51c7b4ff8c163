"""Reader of napari: every array of a file becomes a layer, with its voxel size and position."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cleftnet.errors import InputError
from cleftnet.napari.layer_data import LayerData, as_layer
from cleftnet.synapses.table import read_synapse_table
from cleftnet.viewing import LayerKind
from cleftnet.viewing.layers import TABLE_NAMES, kind_of_data, synapse_labels
from cleftnet.volumes import Volume, list_arrays, open_volume

log = logging.getLogger(__name__)

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of a path; None where cleftnet finds no array of three axes there.

    Args:
        path: A file or a folder; of several, the first decides.
    """
    first = path if isinstance(path, str) else path[0]
    try:
        return read_layers if list_arrays(synapse_labels(first) or first) else None
    except InputError as error:
        log.info(str(error))  # napari asks every reader; another one may know the file
        return None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Open every array of a file, or of several: raw below, then predictions, labels on top.

    Gray values other than the first are switched off, since they would cover it.

    An output folder of `find_synapses` gives its labels, and its table gives each synapse its features.

    Raises:
        InputError: when an array cannot be opened.
    """
    paths = [path] if isinstance(path, str) else path
    volumes = [open_volume(address) for one in paths for address in list_arrays(synapse_labels(one) or one)]
    order = list(LayerKind)
    kinds = sorted(((order.index(kind_of_data(volume)), n) for n, volume in enumerate(volumes)))
    hidden = [n for kind, n in kinds if order[kind] is LayerKind.RAW][1:]  # such as classes of tissue
    return [_layer(volumes[n], order[kind], visible=n not in hidden) for kind, n in kinds]


def _layer(volume: Volume, kind: LayerKind, *, visible: bool) -> LayerData:
    parts = [part for part in volume.address.split("/") if part]
    name = " ".join(dict.fromkeys([next((Path(p).stem for p in parts[::-1] if Path(p).suffix), ""), parts[-1]]))
    data, arguments, layer_type = as_layer(volume, name.strip(), kind)
    if not visible:
        arguments["visible"] = False
    if layer_type == "labels" and (features := _features(volume)) is not None:
        arguments["features"] = features
    return data, arguments, layer_type


def _features(labels: Volume) -> pd.DataFrame | None:
    """Return the table of synapses that lies beside labels, with the ids in the column `index`, as napari wants them."""
    container = next((folder for folder in Path(labels.address).parents if folder.suffix), None)
    tables = [] if container is None else [container.parent / name for name in TABLE_NAMES]
    found = next((table for table in tables if table.is_file()), None)
    return None if found is None else read_synapse_table(found).rename(columns={"synapse_id": "index"})
