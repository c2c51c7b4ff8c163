"""Part 2: training steps, prediction and augmentors at the paper's size, each against its goal's rival."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.session import Session
from benchmarks.gpu.steps import timed, training_step
from benchmarks.prediction import make_volume, monais
from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.attention import FeatureAugmentor
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.nets.zoo import ZOO, spec
from cleftnet.prediction import PredictionSettings, predict
from cleftnet.prediction.job import PredictionJob
from cleftnet.volumes import open_volume

SHARE = 0.4  # of the time that is left
FORMS: dict[str, dict[str, Any]] = {  # of the feature augmentor, beside fewer keys
    "cleftnet, one query": {"max_keys": None, "query_grid": (1, 1, 1)},
    "cleftnet, 4×4 queries": {"max_keys": None, "query_grid": (1, 4, 4)},
}
Measure = Callable[[Session], dict[str, Any]]


def run(session: Session) -> None:
    """Measure what has not been measured, in the order of its weight, while time lasts."""
    ends, finished = time.monotonic() + SHARE * session.left_s(), session.file("speed").results
    for name, measure in measurements(session).items():
        if "error" not in finished.get(name, {"values": {"error": "not measured"}})["values"]:
            continue
        if time.monotonic() > ends:
            print(f"  no time is left for {name} and what follows it")
            return
        try:
            values = measure(session)
        except (RuntimeError, ValueError, InputError) as error:  # RuntimeError: out of memory, too
            values = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        session.add("speed", name, values)
        gc.collect()
        if session.device.type == "cuda":
            torch.cuda.empty_cache()


def measurements(session: Session) -> dict[str, Measure]:
    """Return all measurements by name."""
    first = ("resunet", "cleftnet", "cleftnet, one query")
    others = (name for name in (*ZOO, *FORMS) if name not in first)
    steps = {f"step, {name}": partial(_step_against_resunet, name=name) for name in (*first, *others)}
    early = len(first)
    queries: dict[str, dict[str, Any]] = {"all": {}, "fewer keys": {"max_keys": session.sizes.max_keys}}
    queries["4×4 queries"] = {"query_grid": (1, 4, 4)}
    return {
        **dict(list(steps.items())[:early]),
        "prediction, overlap 0": partial(_prediction, overlap=0.0),
        "prediction, overlap 0.5": partial(_prediction, overlap=0.5),
        "MONAI, overlap 0.5": partial(_monai, overlap=0.5),
        **dict(list(steps.items())[early:]),
        "step, cleftnet, all keys and queries, one patch": partial(_step_against_resunet, name="cleftnet", batch=1),
        "prediction, overlap 0, float32": partial(_prediction, overlap=0.0, precision="float32"),
        **{f"augmentor, {name}": partial(_augmentor, changes=changes) for name, changes in queries.items()},
    }


# -- training --


def _step_against_resunet(session: Session, name: str, batch: int | None = None) -> dict[str, Any]:
    """Time a training step of a network, and that of ResUnet in this same process."""
    zoo, _, _ = name.partition(",")
    changes = FORMS.get(name, {"max_keys": session.sizes.max_keys if batch is None else None})
    own = _step(session, spec(zoo, patch=session.sizes.patch, widths=session.sizes.widths, **changes), batch)
    per_patch = own["seconds"] / own["batch"]
    resunet = _resunet(session)
    return own | {
        "patches_per_second": 1 / per_patch,
        "against_resunet": per_patch * resunet["batch"] / resunet["seconds"],
    }


def _resunet(session: Session) -> dict[str, Any]:
    """Return ResUnet's step, measured once in this process."""
    if "resunet" not in session.baseline:
        net = spec("resunet", patch=session.sizes.patch, widths=session.sizes.widths)
        session.baseline["resunet"] = _step(session, net)
    return session.baseline["resunet"]


def _step(session: Session, net: NetSpec, batch: int | None = None) -> dict[str, Any]:
    size = batch or session.sizes.batch
    return {"batch": size} | timed(session, training_step(session, net, size))


def _augmentor(session: Session, changes: dict[str, Any]) -> dict[str, Any]:
    """Time the first feature augmentor of the encoder alone, forward and backward, one patch."""
    patch, channels = session.sizes.patch, session.sizes.widths[0]
    dtype = torch.bfloat16 if session.device.type == "cuda" else torch.float32
    below = (patch[0] // 2, patch[1] // 2, patch[2] // 2)
    fa = FeatureAugmentor(channels, patch, below, **changes).to(session.device).to(dtype)
    x = torch.randn(1, channels, *patch, device=session.device, dtype=dtype, requires_grad=True)
    return timed(session, lambda: fa(x).sum().backward())  # type: ignore[no-any-return]  # untyped in torch


# -- prediction --


def _prepared(session: Session, shape: IntZYX) -> tuple[Path, Path]:
    """Return an untrained model of full width, and a volume of this shape as Zarr."""
    model, raw = session.work / "model.safetensors", session.work / f"raw-{shape[1]}.zarr"
    if not model.exists():
        torch.manual_seed(0)
        net = Network(spec("cleftnet-no-fa", patch=session.sizes.patch, widths=session.sizes.widths))
        save_model(model, Model(net, ModelCard(spec=net.spec)))
    if not raw.exists():
        make_volume(None, shape, raw)
    return model, raw


def _shape(session: Session, overlap: float) -> IntZYX:
    """Return the shape to predict: a quarter of the volume where the tiles overlap, which is eight times the work."""
    z, y, x = session.sizes.volume
    return (z, y, x) if overlap == 0 else (z, y // 2, x // 2)


def _prediction(session: Session, overlap: float, **how: Any) -> dict[str, Any]:
    """Predict from Zarr to Zarr, after one batch that chooses the kernels; seconds of each part, which overlap."""
    model, raw = _prepared(session, _shape(session, overlap))
    settings, out = PredictionSettings(overlap=overlap, **how), session.work / "out.zarr"
    predict(model, raw, out, roi=Box.of(session.sizes.patch), settings=settings, overwrite=True)
    with _parts_timed() as parts:
        start = time.perf_counter()
        predict(model, raw, out, settings=settings, overwrite=True)
        seconds = time.perf_counter() - start
    return _speed(raw, seconds) | {f"{name}_seconds": round(value, 3) for name, value in parts.items()}


def _monai(session: Session, overlap: float) -> dict[str, Any]:
    """Predict the same volume with MONAI's sliding windows and the same network, with autocast, everything on the GPU."""
    if importlib.util.find_spec("monai") is None:
        return {"error": "MONAI is not installed"}
    model, raw = _prepared(session, _shape(session, overlap))
    start = time.perf_counter()
    monais(model, raw, session.work / "monai.zarr", overlap, folded=True, batch=session.sizes.batch)
    return _speed(raw, time.perf_counter() - start)


def _speed(raw: Path, seconds: float) -> dict[str, Any]:
    voxels = open_volume(raw).box.voxels
    return {"mvoxel": voxels / 1e6, "seconds": seconds, "mvoxel_per_second": voxels / seconds / 1e6}


@contextmanager
def _parts_timed() -> Iterator[dict[str, float]]:
    """Sum the seconds of the three steps of all blocks while the body runs."""
    seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
    with ExitStack() as stack:
        for name in seconds:
            stack.enter_context(mock.patch.object(PredictionJob, name, _counted(name, seconds)))
        yield seconds


def _counted(name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    original = getattr(PredictionJob, name)

    def step(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            seconds[name] += time.perf_counter() - start

    return step
