"""The table of synapses as a file: CSV, which everything reads, or Parquet."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cleftnet.errors import InputError, nearest
from cleftnet.files import replacing
from cleftnet.synapses.table import FLAGS, SynapseTable

ROWS = 100_000  # written at a time


def write_table(table: SynapseTable, path: Path, overwrite: bool = False) -> None:
    """Write a table in the format of its ending, whole or not at all, rounded as its columns say.

    Args:
        table: What to write.
        path: A name ending in `.csv` or `.parquet`.
        overwrite: Whether a file already there may be replaced.

    Raises:
        InputError: when the ending is another one, the file exists, or Parquet is asked for and pyarrow is not installed.
    """
    write = TABLE_FORMATS.get(path.suffix[1:])
    if write is None:
        raise InputError(f"{path} is no table format; choose a name ending in .csv or .parquet")
    with replacing(path, overwrite) as temporary:
        write(table, temporary)


def check_table_format(name: str) -> None:
    """Refuse a format that cannot be written here, before anything is computed.

    Raises:
        InputError: when there is no such format, or pyarrow is missing for Parquet.
    """
    if name not in TABLE_FORMATS:
        raise InputError(f"'{name}' is no table format; {nearest(name, list(TABLE_FORMATS))}")
    if name == "parquet":
        _pyarrow()


def _write_csv(table: SynapseTable, path: Path) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([column.name for column in table.described])
        for start in range(0, len(table), ROWS):
            texts = []
            for column in table.described:
                values = table[column.name][start : start + ROWS]
                if column.decimals is None:
                    texts.append([str(int(value)) for value in values])
                else:
                    rounded = np.round(values, column.decimals) + 0.0  # no -0
                    texts.append([f"{value:.{column.decimals}f}" for value in rounded])
            rows.writerows(zip(*texts, strict=True))


def _write_parquet(table: SynapseTable, path: Path) -> None:
    arrow, parquet = _pyarrow()
    rounded = {
        c.name: table[c.name].astype(_whole_type(c.name))
        if c.decimals is None
        else np.round(table[c.name], c.decimals) + 0.0
        for c in table.described
    }
    parquet.write_table(arrow.table(rounded), path)


def _whole_type(name: str) -> type[np.integer[Any]]:
    if name in FLAGS:
        return np.uint8
    return np.uint64 if name in ("segment_a", "segment_b") else np.int64


def _pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet: an optional package, and a large one."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            "Parquet needs pyarrow, which is not installed; pip install 'cleftnet[parquet]', or choose csv"
        ) from None


TABLE_FORMATS: dict[str, Callable[[SynapseTable, Path], None]] = {"csv": _write_csv, "parquet": _write_parquet}
