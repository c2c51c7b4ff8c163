"""A network as a torch.export program (`.pt2`), for PyTorch in Python and, compiled by AOTInductor, in C++.

The description lies in the extra file `cleftnet.json`.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from cleftnet.exporting.source import ExportSource
from cleftnet.models.checkpoint import Float32

EXTRA_FILE = "cleftnet.json"


def write_pt2(path: Path, source: ExportSource) -> None:
    """Write the program with its description."""
    with path.open("wb") as file, warnings.catch_warnings():  # torch refuses names that do not end in .pt2
        warnings.simplefilter("ignore")  # of torch about its own internals
        torch.export.save(source.program, file, extra_files={EXTRA_FILE: json.dumps(source.description, indent=2)})


def run_pt2(path: Path, raw: Float32) -> list[Float32]:
    """Run a program that was read from disk, and return its outputs `b 1 z y x`.

    Args:
        path: The file.
        raw: Gray values `b 1 z y x` in 0-1.
    """
    with path.open("rb") as file, torch.no_grad():
        outputs = torch.export.load(file).module()(torch.from_numpy(raw))
    return [output.numpy() for output in outputs]
