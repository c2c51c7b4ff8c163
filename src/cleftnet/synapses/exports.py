"""The table of synapses for other programs: neuroglancer's annotations, a CAVE-style table, CATMAID-style connectors."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import FloatZYX
from cleftnet.synapses.annotations import write_annotations
from cleftnet.synapses.table import Column
from cleftnet.volumes import Volume

ANNOTATIONS, CAVE, CATMAID = "annotations", "cave", "catmaid"

CAVE_COLUMNS = (
    Column("id", "id of the synapse, as in the labels and in `synapse_id`"),
    Column("ctr_pt_position", "voxel that holds the centroid, `[x, y, z]` at the resolution of the table"),
    Column("size", "voxels at the resolution of the table"),
    Column("score", "confidence that it is a synapse, 0 to 1", 5),
)
CATMAID_COLUMNS = (
    Column("connector_id", "id of the synapse, as in the labels and in `synapse_id`"),
    Column("x", "centroid, nm", 1),
    Column("y", "centroid, nm", 1),
    Column("z", "centroid, nm", 1),
    Column("confidence", "score in CATMAID's steps: 1 below 0.2, 2 below 0.4, ... 5 from 0.8"),
    Column("score", "confidence that it is a synapse, 0 to 1", 5),
)
NEURON_COLUMNS = (  # in both, where a segmentation of neurons is given
    Column("segment_a", "neuron on one side, a candidate; 0: none"),
    Column("segment_b", "neuron on the other side; 0: none"),
)


class ExportWriter(Protocol):
    """Writes a table for another program."""

    def __call__(self, table: pd.DataFrame, like: Volume, path: Path, overwrite: bool = False) -> None:
        """Write the table of synapses of a prediction to a path."""


@dataclass(frozen=True)
class Export:
    """A form of the table for another program.

    Attributes:
        files: Names of its files or folders, the one to write first.
        writer: Writes it.
    """

    files: tuple[str, ...]
    writer: ExportWriter

    def write(self, table: pd.DataFrame, like: Volume, folder: Path, overwrite: bool = False) -> None:
        """Write the table of the synapses of the prediction `like` into a folder."""
        self.writer(table, like, folder / self.files[0], overwrite)


def find_export(name: str) -> Export | None:
    """Return the export of a name; None where there is none of that name.

    Args:
        name: "annotations", "catmaid", "cave", or "cave:Z,Y,X" with the voxel size of its positions in nm.

    Raises:
        InputError: when the voxel size behind "cave:" is not three positive lengths.

    Example:
        >>> find_export("cave:40,4,4").files
        ('synapses_cave.csv', 'synapses_cave.json')
    """
    kind, _, resolution = name.partition(":")
    if kind == CAVE and ":" in name:
        return Export(EXPORTS[CAVE].files, functools.partial(write_cave, resolution_nm=_lengths(name, resolution)))
    return EXPORTS.get(name)


def _lengths(name: str, text: str) -> FloatZYX:
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        z = y = x = 0.0
    if not (min(z, y, x) > 0 and np.isfinite(z + y + x)):
        raise InputError(f"'{name}' does not say a voxel size; expected three lengths in nm, z y x, as in cave:40,4,4")
    return z, y, x


def write_cave(
    table: pd.DataFrame, like: Volume, path: Path, overwrite: bool = False, *, resolution_nm: FloatZYX | None = None
) -> None:
    """Write a CSV with the columns of a synapse table of CAVE, and its resolution as JSON beside it.

    Args:
        table: The synapses.
        like: The prediction, which gives voxel size and offset.
        path: The CSV; the JSON has the same name with another ending.
        overwrite: Whether existing files are replaced.
        resolution_nm: Voxel size of the positions, z y x; that of the prediction, when None.
    """
    size = np.array(resolution_nm or like.voxel_size_nm, float)
    half = np.array(like.voxel_size_nm) / 2  # nm are counted from the center of a voxel, voxels from their corner
    centers = table[["z_nm", "y_nm", "x_nm"]].to_numpy(float)
    voxels = np.floor((centers + half) / size + 1e-9).astype(np.int64)
    columns: dict[str, Any] = {
        "id": table["synapse_id"].to_numpy(),
        "ctr_pt_position": [f"[{x}, {y}, {z}]" for z, y, x in voxels.tolist()],
        "size": np.maximum(1, np.rint(table["volume_nm3"].to_numpy() / size.prod())).astype(np.int64),
        "score": _decimals(table["score"], 5),
    }
    about = {"schema_type": "synapse", "voxel_resolution": size[::-1].tolist(), "voxel_resolution_axes": "x y z, nm"}
    with replacing(path.with_suffix(".json"), overwrite) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
    _write(columns, table, path, overwrite)


def write_catmaid(table: pd.DataFrame, like: Volume, path: Path, overwrite: bool = False) -> None:
    """Write a CSV of connectors, as CATMAID and its Python client list them, positions in nm.

    Args:
        table: The synapses.
        like: The prediction; its offset is part of the positions.
        path: The CSV.
        overwrite: Whether an existing file is replaced.
    """
    columns: dict[str, Any] = {
        "connector_id": table["synapse_id"].to_numpy(),
        **{axis: _decimals(table[f"{axis}_nm"], 1) for axis in "xyz"},
        "confidence": np.clip(np.floor(table["score"].to_numpy() * 5 + 1e-9).astype(np.int64) + 1, 1, 5),
        "score": _decimals(table["score"], 5),
    }
    _write(columns, table, path, overwrite)


def _write(columns: dict[str, Any], table: pd.DataFrame, path: Path, overwrite: bool) -> None:
    neurons = {column.name: table[column.name] for column in NEURON_COLUMNS if column.name in table}
    with replacing(path, overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        pd.DataFrame({**columns, **neurons}).to_csv(file, index=False, lineterminator="\n")


def _decimals(values: pd.Series, decimals: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.round(values.to_numpy(float), decimals) + 0.0)  # no -0


EXPORTS: dict[str, Export] = {
    ANNOTATIONS: Export(("annotations",), write_annotations),
    CAVE: Export(("synapses_cave.csv", "synapses_cave.json"), write_cave),
    CATMAID: Export(("connectors.csv",), write_catmaid),
}
