"""From addresses to layers: what each one holds, its name, and the table of synapses that lies beside labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX
from cleftnet.synapses.table import read_synapse_table
from cleftnet.volumes import (
    DISTANCE_NAME,
    LABELS,
    PREDICTION,
    PROBABILITY_NAME,
    RAW,
    Address,
    Array,
    Volume,
    as_volume,
    list_arrays,
    open_volume,
)
from cleftnet.volumes.labels import holds_labels

TABLE_NAMES = ("synapses.csv", "synapses.parquet")  # what `find_synapses` writes into its output folder
LABELS_NAMES = ("labels.zarr", "labels.hdf")

LayerSource = Volume | Address | Array


class LayerKind(StrEnum):
    """What a layer holds, which decides how it is drawn."""

    RAW = "raw"
    PROBABILITY = "probability"
    DISTANCE = "distance"
    LABELS = "labels"  # cleft ids that were predicted
    TRUTH = "truth"  # cleft ids that are compared with them


_DEFAULTS = {
    LayerKind.RAW: RAW,
    LayerKind.PROBABILITY: PREDICTION,
    LayerKind.DISTANCE: (DISTANCE_NAME,),
    LayerKind.LABELS: LABELS,
    LayerKind.TRUTH: LABELS,
}


@dataclass(frozen=True)
class ShownLayer:
    """One layer.

    Attributes:
        name: Its name, unique in a viewer.
        kind: What it holds.
        volume: Its voxels and their place; the voxel size is known.
    """

    name: str
    kind: LayerKind
    volume: Volume


@dataclass(frozen=True)
class ShownLayers:
    """All layers of a viewer.

    Attributes:
        layers: The layers, raw first.
        table: The table of synapses; None where no layer came with one.
    """

    layers: tuple[ShownLayer, ...]
    table: pd.DataFrame | None = None

    @property
    def raw(self) -> ShownLayer:
        """The first layer, whose voxels the positions are counted in."""
        return self.layers[0]

    def first(self, kind: LayerKind) -> ShownLayer | None:
        """Return the first layer of a kind; None where there is none."""
        return next((layer for layer in self.layers if layer.kind is kind), None)


def open_layers(
    volume: LayerSource,
    layers: Sequence[LayerSource] | Mapping[str, LayerSource] | LayerSource = (),
    *,
    voxel_size_nm: FloatZYX | None = None,
    kinds: Mapping[str, str] | None = None,
) -> ShownLayers:
    """Open the layers of a viewer; only shapes are read, and the table of synapses.

    Args:
        volume: The raw volume.
        layers: More layers, by name or in a sequence, where each is named after what it holds unless its address is written
            `NAME=ADDRESS`. A prediction file gives its probability and, where it has one, its distance. An output folder of
            `find_synapses` gives labels and table.
        voxel_size_nm: Voxel size, z y x, of sources that carry none; by default that of the raw volume.
        kinds: What layers hold (a name of `LayerKind`), by their names, where neither name nor data shows it.

    Raises:
        InputError: when a source cannot be opened, no voxel size is known, or names or kinds make no sense.
    """
    given = {name: _kind(kind, name) for name, kind in (kinds or {}).items()}
    raw = as_volume(volume, voxel_size_nm=voxel_size_nm)
    size = raw.voxel_size_nm
    shown = [ShownLayer("raw", given.get("raw", LayerKind.RAW), raw)]
    table: pd.DataFrame | None = None
    for name, source in _named(layers):
        voxels: LayerSource | None = source
        if isinstance(source, str | os.PathLike) and (path := _table_path(source)) is not None:
            table = read_synapse_table(path) if table is None else _refuse_table(path)
            voxels = synapse_labels(source)
        if voxels is not None:
            shown += _opened(name, voxels, given, size)
    return ShownLayers(tuple(_uniquely_named(shown, given)), table)


def _named(
    layers: Sequence[LayerSource] | Mapping[str, LayerSource] | LayerSource,
) -> list[tuple[str | None, LayerSource]]:
    if isinstance(layers, Mapping):
        return list(layers.items())
    if isinstance(layers, str | os.PathLike | Volume | np.ndarray):
        layers = [layers]
    return [split_name(source) if isinstance(source, str) else (None, source) for source in layers]


def split_name(text: str) -> tuple[str | None, str]:
    """Take `NAME=ADDRESS` apart; an address alone, or one that exists as it is, has no name.

    Example:
        >>> split_name("truth=A.hdf/volumes/labels/clefts"), split_name("out.hdf")
        (('truth', 'A.hdf/volumes/labels/clefts'), (None, 'out.hdf'))
    """
    name, sign, address = text.partition("=")
    exists = any("=" in str(path) and path.exists() for path in (Path(text), *Path(text).parents))
    if not (sign and name and address) or re.search(r"[/\\:]", name) or exists:
        return None, text
    return name, address


def _kind(kind: str, name: str) -> LayerKind:
    if kind not in list(LayerKind):
        raise InputError(f"'{kind}' is no kind of layer, for {name}; {nearest(kind, list(LayerKind))}")
    return LayerKind(kind)


def _opened(
    name: str | None, source: LayerSource, given: Mapping[str, LayerKind], size: FloatZYX
) -> Iterator[ShownLayer]:
    """Yield the layer of a source; for a prediction file also its distance."""
    wanted = given.get(name or "") or (LayerKind(name) if name in list(LayerKind) else None)
    volume = as_volume(source, default=PREDICTION if wanted is None else _DEFAULTS[wanted])
    kind = wanted or kind_of_data(volume)
    yield ShownLayer(name or kind.value, kind, _with_size(volume, size))
    alone = isinstance(source, str | os.PathLike) and not str(source).rstrip("/").endswith(PROBABILITY_NAME)
    if name is None and alone and volume.address.endswith(f"/{PROBABILITY_NAME}"):
        file = volume.address.removesuffix(f"/{PROBABILITY_NAME}")
        if f"{file}/{DISTANCE_NAME}" in list_arrays(file):
            distance = open_volume(f"{file}/{DISTANCE_NAME}")
            yield ShownLayer(LayerKind.DISTANCE.value, LayerKind.DISTANCE, _with_size(distance, size))


def kind_of_data(volume: Volume) -> LayerKind:
    """Return what a volume holds, by the name of its array, its type, and what a prediction stores with itself."""
    if volume.address.endswith(DISTANCE_NAME):
        return LayerKind.DISTANCE
    if volume.address.endswith(PROBABILITY_NAME):
        return LayerKind.PROBABILITY
    if holds_labels(volume.dtype, volume.address.rpartition("/")[0]):
        return LayerKind.LABELS
    if volume.threshold is not None or volume.provenance or volume.dtype.kind == "f":
        return LayerKind.PROBABILITY
    return LayerKind.RAW


def _with_size(volume: Volume, size: FloatZYX) -> Volume:
    return volume if volume.voxel_size is not None else replace(volume, voxel_size=size)


def _uniquely_named(shown: Sequence[ShownLayer], given: Mapping[str, LayerKind]) -> Iterator[ShownLayer]:
    """Yield the layers, with a number behind a name that was taken before.

    Raises:
        InputError: when a kind was given for a layer that is not there.
    """
    names: set[str] = set()
    for layer in shown:
        name, number = layer.name, 1
        while name in names:
            number += 1
            name = f"{layer.name} {number}"
        names.add(name)
        yield replace(layer, name=name)
    if unknown := sorted(set(given) - names):
        raise InputError(f"there is no layer named '{unknown[0]}' to give a kind; the layers are {', '.join(names)}")


def _table_path(source: Address) -> Path | None:
    """Return the table of synapses that an address names, itself or by its folder; None for an array."""
    if "://" in os.fspath(source):
        return None
    path = Path(source)
    if path.suffix in (".csv", ".parquet"):
        return path
    return next((path / name for name in TABLE_NAMES if (path / name).is_file()), None)


def synapse_labels(folder: Address) -> str | None:
    """Return the address of the labels in an output folder of `find_synapses`; None where a path is no such folder."""
    return next((str(Path(folder, name)) for name in LABELS_NAMES if Path(folder, name).exists()), None)


def _refuse_table(path: Path) -> pd.DataFrame:
    raise InputError(f"{path} is a second table of synapses; give one, and its labels alone for the others")
