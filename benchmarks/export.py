"""Exported models on one thread of a CPU: PyTorch, the exported program and ONNX Runtime, one patch and a small volume."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit

from benchmarks.measure import machine, write_rows
from cleftnet.exporting import export
from cleftnet.exporting.forms import TOLERANCE
from cleftnet.exporting.graph import calibrated_network
from cleftnet.geometry import Box, IntZYX, TileGrid
from cleftnet.models.checkpoint import Float32, load_model
from cleftnet.prediction import PredictionSettings, overlap_in_voxels, predict
from cleftnet.prediction.blending import Blending
from cleftnet.volumes import Volume, intensity, open_volume

VOLUME, ROI = "$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf", "0:12,384:576,256:448"
EXACT = PredictionSettings(dtype="float32")

Run = Callable[[Float32], Sequence[Any]]


def opened(path: Path) -> Run:
    """Return a function that runs an exported file, opened once, on one thread."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda raw: session.run(None, {"raw": raw})
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(file).module()

    def run(raw: Float32) -> list[Any]:
        with torch.no_grad():
            return [output.numpy() for output in program(torch.from_numpy(raw))]

    return run


def blended_from_tiles(run: Run, raw: Volume, patch: IntZYX, overlap: float) -> Float32:
    """Predict a volume tile by tile as docs/export.md says: the weighted mean of log odds, as a probability."""
    tiles = TileGrid(raw.box, patch, overlap_in_voxels(patch, overlap))
    blending = Blending(tiles, raw.box, 1, torch.device("cpu"))
    for tile in tiles.touching(raw.box):
        probability = run(intensity(raw[tile.read])[None, None])[0][0].astype(np.float64)
        blending.add(tile, logit(probability.clip(1e-7, 1 - 1e-7)).astype(np.float32))
    return np.asarray(expit(blending.logits[0]), np.float32)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks export", description=__doc__)
    parser.add_argument("--model", default="vnc-l3-cleftnet", help="a model of networks only")
    parser.add_argument("--volume", default=VOLUME)
    parser.add_argument("--roi", default=ROI, help="part to predict, in voxels")
    parser.add_argument("--repeats", type=int, default=5, help="of the patch; the volume is predicted once")
    parser.add_argument("--json", type=Path, help="file for the rows, for tools.check_results")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = load_model(chosen.model)
    raw = open_volume(chosen.volume).crop(Box.parse(chosen.roi))
    patch = model.card.spec.patch
    print(machine("torch", "onnxruntime", "onnx"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = [export(model, Path(folder) / f"net{ending}") for ending in (".pt2", ".onnx")]
        ways = {"PyTorch": calibrated_network(model, model.net).run} | dict(
            zip(("torch.export", "ONNX Runtime"), map(opened, files), strict=True)
        )
    one = intensity(raw[Box.at(raw.box.start, patch)])[None, None]
    expected = ways["PyTorch"](one)[0]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    different = {name: float(np.abs(run(one)[0] - expected).max()) for name, run in ways.items()}  # also warms up
    for _ in range(chosen.repeats):  # in turns, so that another load of the machine meets all of them
        for name, run in ways.items():
            seconds[name].append(timed(lambda run=run: run(one))[0])
    reference = statistics.median(seconds["PyTorch"])
    print(f"one patch of {'×'.join(map(str, patch))}, median of {chosen.repeats}")
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"  {name:14s} {median:7.3f} s {median / reference:6.2f}   difference {different[name]:.1e}", flush=True)
    print(f"a volume of {'×'.join(map(str, raw.box.shape))}, overlap {EXACT.overlap:g}, once")
    reference, whole = timed(lambda: predict(model, raw, settings=EXACT).read())
    print(f"  {'predict':14s} {reference:7.1f} s {1:6.2f}", flush=True)
    rows: list[dict[str, Any]] = [{"name": "predict", "speed": 1.0}]
    for name in ("torch.export", "ONNX Runtime"):
        took, tiled = timed(lambda name=name: blended_from_tiles(ways[name], raw, patch, EXACT.overlap))
        difference = float(np.abs(tiled - whole).max())
        print(f"  {name:14s} {took:7.1f} s {took / reference:6.2f}   difference {difference:.1e}", flush=True)
        rows.append({"name": name, "speed": reference / took, "difference": difference})
        if difference > TOLERANCE:
            raise SystemExit(f"{name} differs from predict by {difference:.1e}, more than {TOLERANCE:g}")
    write_rows(chosen.json, rows)
