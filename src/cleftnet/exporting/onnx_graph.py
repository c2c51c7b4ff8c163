"""A network as an ONNX graph (`.onnx`), for ONNX Runtime in C++, Java, C#, JavaScript and Python.

The description lies in the graph's `metadata_props`, one property for each name; what is no text is written as JSON. The
translation and the check need the extra `export`.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from cleftnet.errors import InputError
from cleftnet.exporting.graph import INPUT
from cleftnet.models.checkpoint import Float32

if TYPE_CHECKING:
    from cleftnet.exporting.source import ExportSource

OPSET = 18  # version of the operators: the oldest that the translation offers, for old runtimes
LARGEST_MAP_BYTES = 2**32  # of the attention map, which ONNX forms and PyTorch does not

log = logging.getLogger(__name__)


def write_onnx(path: Path, source: ExportSource) -> None:
    """Write the graph with its description.

    Raises:
        InputError: when the network's attention map is too large to be formed.
    """
    import onnx

    _check_map(source)
    onnx.helper.set_model_props(source.onnx, {name: _text(value) for name, value in source.description.items()})
    onnx.checker.check_model(source.onnx)
    onnx.save(source.onnx, path)


def translate(program: ExportedProgram, outputs: Sequence[str]) -> Any:
    """Return the graph of a program in ONNX, an `onnx.ModelProto`, without paths of this machine in it.

    Args:
        program: The program; its input is the raw patch.
        outputs: Names of its outputs.
    """
    log.info("translating the network to ONNX, which can take minutes")
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs,
            external_data=False,
            verbose=False,
        )
    assert found is not None, "an export by dynamo returns a program"
    graph = found.model_proto
    for node in graph.graph.node:  # where torch notes from which line of which file each came
        del node.metadata_props[:]
    return graph


def run_onnx(path: Path, raw: Float32) -> list[Float32]:
    """Run an ONNX file by ONNX Runtime on the CPU, and return its outputs `b 1 z y x`.

    Args:
        path: The file.
        raw: Gray values `b 1 z y x` in 0-1.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {INPUT: raw}))


def _check_map(source: ExportSource) -> None:
    size = source.network.attention_map_bytes
    if size > LARGEST_MAP_BYTES:
        raise InputError(
            f"the attention map of one patch of this network takes {size / 2**30:.0f} GiB, and ONNX forms it; choose a "
            f"smaller patch=(8, 128, 128), a network with max_keys or query_grid, or an output ending in .pt2"
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of torch about its own internals and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
