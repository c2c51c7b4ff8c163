"""The table of synapses: one row for each, with its place, size, direction and probability, as a pandas DataFrame or a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cleftnet.errors import InputError, nearest
from cleftnet.files import replacing
from cleftnet.geometry import Box
from cleftnet.metrics.voxels import Floats, Mask
from cleftnet.synapses.merging import SynapseSums
from cleftnet.synapses.parts import directions
from cleftnet.volumes import Volume

ROWS = 100_000  # rows turned into text at a time
SHOWN = ("synapse_id", "z_nm", "y_nm", "x_nm", "volume_nm3", "score")  # columns that a list of synapses shows


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: Name in the header.
        meaning: What it says, with the unit.
        decimals: Decimals written to a file; None for whole numbers and flags.
    """

    name: str
    meaning: str
    decimals: int | None = None


COLUMNS = (
    Column("synapse_id", "its id in the labels, from 1, by first voxel in z y x order"),
    Column("z_nm", "centroid, nm: the mean of its voxels' centers, including the volume's offset", 2),
    Column("y_nm", "centroid, nm", 2),
    Column("x_nm", "centroid, nm", 2),
    Column("z", "centroid, voxels of the prediction from 0; it need not lie in the synapse", 3),
    Column("y", "centroid, voxels", 3),
    Column("x", "centroid, voxels", 3),
    Column("z_start", "bounding box, voxels: its first section"),
    Column("y_start", "bounding box, voxels: its first row"),
    Column("x_start", "bounding box, voxels: its first column"),
    Column("z_stop", "bounding box, voxels: the section after its last"),
    Column("y_stop", "bounding box, voxels: the row after its last"),
    Column("x_stop", "bounding box, voxels: the column after its last"),
    Column("volume_nm3", "number of voxels times the volume of one, nm³", 1),
    Column("area_nm2", "area of the cleft's mid-surface, nm²", 1),
    Column("extent_nm", "longest extent of its voxels, nm", 2),
    Column("normal_z", "unit normal of the plate (physical axes), its largest component positive", 4),
    Column("normal_y", "unit normal of the plate", 4),
    Column("normal_x", "unit normal of the plate", 4),
    Column("mean_probability", "over its voxels, 0 to 1", 5),
    Column("max_probability", "over its voxels, 0 to 1", 5),
    Column("sum_probability", "over its voxels: the expected number of true cleft voxels", 3),
    Column("score", "confidence that it is a synapse, 0 to 1", 5),
    Column("sections", "number of sections it reaches through"),
    Column("touches_border", "1 where it reaches a face of the prediction, so that part of it may lie beyond"),
)
PARTNERS = (  # only where a segmentation of neurons is given
    Column("segment_a", "neuron with the largest contact on the side that the normal points away from; 0: none"),
    Column("segment_b", "neuron with the largest contact on the side that the normal points to; 0: none"),
    Column("contact_a", "share of segment_a in all contact on its side, 0 to 1", 4),
    Column("contact_b", "share of segment_b in all contact on its side", 4),
)


def tabulate(sums: SynapseSums, prediction: Volume) -> pd.DataFrame:
    """Return the table of synapses, with the columns of `COLUMNS`, unrounded.

    The normal is the direction of smallest variance in nm, with every voxel taken as a solid box. The longest extent is
    measured between voxel centers along 48 directions, plus the voxel itself; it comes out at most 5 % short. The score is the
    mean probability.

    Args:
        sums: Sums over the voxels of every synapse.
        prediction: The prediction that the synapses were found in.
    """
    size = np.array(prediction.voxel_size_nm)
    box = Box.of(prediction.shape)
    center_nm = np.array(prediction.offset_nm) + sums.center * size
    faces = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])  # of a voxel, across z, y, x
    extents = sums.extents + np.abs(directions()) @ size
    normal = _normals(sums.covariance, size)
    values: dict[str, npt.NDArray[Any]] = {"synapse_id": np.arange(1, len(sums) + 1)}
    for axis, name in enumerate("zyx"):
        values[f"{name}_nm"], values[name], values[f"normal_{name}"] = (
            center_nm[:, axis],
            sums.center[:, axis],
            normal[:, axis],
        )
        values[f"{name}_start"], values[f"{name}_stop"] = sums.bounds[:, axis], sums.bounds[:, 3 + axis]
    mean = sums.probability / sums.voxels
    values |= {
        "volume_nm3": sums.voxels * np.prod(size),
        "area_nm2": _areas(sums.columns * faces, sums.voxels * np.prod(size), normal),
        "extent_nm": extents.max(axis=1, initial=0),
        "mean_probability": mean,
        "max_probability": sums.maximum,
        "sum_probability": sums.probability,
        "score": mean,
        "sections": sums.bounds[:, 3] - sums.bounds[:, 0],
        "touches_border": ((sums.bounds[:, :3] == box.start) | (sums.bounds[:, 3:] == box.stop)).any(axis=1),
    }
    return pd.DataFrame({column.name: values[column.name] for column in COLUMNS})


def keep_rows(table: pd.DataFrame, kept: Mask) -> pd.DataFrame:
    """Return some rows of a table, numbered anew from 1."""
    rows = table[kept].reset_index(drop=True)
    return rows.assign(synapse_id=np.arange(1, len(rows) + 1))


def _areas(covered: Floats, volume: Floats, normal: Floats) -> Floats:
    """Return the areas A of mid-surfaces, nm².

    √(Pz² + Py² + Px²), where Pk is the area that a synapse covers seen along axis k, is the area of a flat, thin plate in any
    orientation. The rim of a plate of thickness V / A adds to it: on a disc of the same area, along axis k, thickness times
    diameter times √(1 - nk²). That is subtracted. A half sphere comes out up to 13 % low.

    Args:
        covered: P, nm², z y x: columns of voxels times the area of a column, counted as often as the synapse is entered.
        volume: V, nm³.
        normal: n, z y x.
    """
    whole = np.linalg.norm(covered, axis=1)
    rim = 2 / np.sqrt(np.pi) * volume * (np.abs(normal) * np.sqrt(np.clip(1 - normal**2, 0, 1))).sum(axis=1)
    area: Floats = whole
    for _ in range(8):
        area = np.maximum(whole - rim / np.sqrt(area), whole / 2)  # the floor is for blobs, which have no mid-surface
    return area


def _normals(covariance: Floats, size: Floats) -> Floats:
    """Return the directions of smallest variance in nm, z y x, with their largest components positive."""
    if not len(covariance):
        return np.zeros((0, 3))
    in_nm = covariance * np.outer(size, size) + np.diag(size**2 / 12)
    # shares of the whole, rounded: where directions vary equally, the last bits of a sum over blocks must not choose one
    shares = np.round(in_nm / np.trace(in_nm, axis1=1, axis2=2)[:, None, None], 9)
    normal = np.linalg.eigh(shares)[1][:, :, 0]
    largest = np.take_along_axis(normal, np.abs(normal).argmax(axis=1)[:, None], axis=1)
    turned: Floats = normal * np.where(largest < 0, -1.0, 1.0)
    return turned


def write_table(table: pd.DataFrame, path: Path, overwrite: bool = False) -> None:
    """Write a table in the format of its ending, whole or not at all, rounded to the decimals of its columns.

    Args:
        table: A table that `find_synapses` made.
        path: A name ending in `.csv` or `.parquet`.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: when the ending is another one, the file exists, or pyarrow is missing for Parquet.
    """
    check_table_format(path.suffix[1:])
    with replacing(path, overwrite) as temporary:
        TABLE_FORMATS[path.suffix[1:]](table, temporary)


def check_table_format(name: str) -> None:
    """Check that a table format can be written, before anything is computed.

    Raises:
        InputError: when there is no such format, or pyarrow is missing for Parquet.
    """
    if name not in TABLE_FORMATS:
        raise InputError(f"'{name}' is no table format; {nearest(name, list(TABLE_FORMATS))}")
    if name == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            "Parquet needs pyarrow, which is not installed; pip install 'cleftnet[parquet]', or choose csv"
        )


def read_synapse_table(path: Path, needed: Sequence[str] = SHOWN) -> pd.DataFrame:
    """Read a table of synapses, as CSV or Parquet.

    Args:
        path: The file, on this machine.
        needed: Columns that it must have.

    Raises:
        InputError: when it does not exist, is no such table, or pyarrow is missing for Parquet.
    """
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: Parquet needs pyarrow, which is not installed; pip install 'cleftnet[parquet]'")
    try:
        with path.open("rb") as file:  # pandas would fetch a path that reads like an address
            table = pd.read_parquet(file) if path.suffix == ".parquet" else pd.read_csv(file)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the name") from None
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read as a table ({reason}); expected what cleftnet synapses wrote"
        ) from None
    if missing := [name for name in needed if name not in table]:
        raise InputError(f"{path} has no column {', '.join(missing)}; expected the table that cleftnet synapses wrote")
    return table


def _rounded(table: pd.DataFrame, column: Column) -> npt.NDArray[Any]:
    """Return the values of a column as they are written: rounded, flags as 0 and 1."""
    values: npt.NDArray[Any] = table[column.name].to_numpy()
    if column.decimals is None:
        return values.astype(np.uint8) if values.dtype == np.bool_ else values
    return np.asarray(np.round(values, column.decimals) + 0.0)  # no -0


def _columns_of(table: pd.DataFrame) -> list[Column]:
    return [column for column in (*COLUMNS, *PARTNERS) if column.name in table]


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        for start in range(0, max(1, len(table)), ROWS):
            part = table.iloc[start : start + ROWS]
            text = {
                column.name: _rounded(part, column)
                if column.decimals is None
                else [f"{value:.{column.decimals}f}" for value in _rounded(part, column)]
                for column in _columns_of(table)
            }
            pd.DataFrame(text).to_csv(file, header=start == 0, index=False, lineterminator="\n")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    columns = {column.name: _rounded(table, column) for column in _columns_of(table)}
    with path.open("wb") as file:
        pd.DataFrame(columns).to_parquet(file, engine="pyarrow", index=False)


TABLE_FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {"csv": _write_csv, "parquet": _write_parquet}
