"""Checks an installation: versions, devices, and a run of the main steps on a tiny volume."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from cleftnet.metrics.evaluation import evaluate
from cleftnet.models.checkpoint import Model, ModelCard, load_model, save_model
from cleftnet.nets.zoo import build
from cleftnet.patches.targets import distance_map
from cleftnet.prediction import best_device, predict
from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import CLEFT, LABELS, classes, open_volume, write_cremi

PATCH = (4, 16, 16)  # voxels z y x: small, so that the checks take seconds
PACKAGES = ("cleftnet", "torch", "numpy", "scipy", "h5py", "tifffile", "edt", "connected-components-3d", "safetensors")


@dataclass(frozen=True)
class Examination:
    """The results of the checks.

    Attributes:
        facts: Names and values: versions, processor, devices.
        checks: Name of each check, and what went wrong; None if nothing did.
    """

    facts: list[tuple[str, str]]
    checks: list[tuple[str, str | None]]

    @property
    def healthy(self) -> bool:
        """Whether every check passed."""
        return all(problem is None for _, problem in self.checks)

    def to_json(self) -> dict[str, object]:
        """Return facts and checks under their names; a check that passed is null."""
        return {"healthy": self.healthy, "facts": dict(self.facts), "checks": dict(self.checks)}


def examine() -> Examination:
    """Collect versions and devices, and run the main steps on a tiny volume.

    Example:
        >>> examine().healthy
        True
    """
    facts = [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    facts += [("processor", f"{platform.machine()}, {torch.get_num_threads()} threads"), ("device", str(best_device()))]
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        facts.append(("GPU", f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        steps: dict[str, Callable[[], object]] = {
            "make and write a volume": lambda: _make(place),
            "augment its labels": lambda: _augment(place),
            "one training step on the best device": _step,
            "save, load and predict": lambda: _predict(place),
            "evaluate": lambda: evaluate(place / "prediction.hdf", place / "volume.hdf"),
        }
        checks = [(name, _problem(step)) for name, step in steps.items()]
    return Examination(facts, checks)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _problem(step: Callable[[], object]) -> str | None:
    """Run one check, and return any error as text, so that the next checks still run."""
    try:
        step()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _make(place: Path) -> None:
    raw, labels = synthetic_volume((8, 64, 64), seed=0)
    write_cremi(place / "volume.hdf", raw=raw, clefts=labels)


def _augment(place: Path) -> None:
    labels = open_volume(place / "volume.hdf", default=LABELS).read()
    inside = distance_map(labels) > 0
    if not np.array_equal(inside, classes(labels) == CLEFT):
        raise RuntimeError("the distance map is not positive exactly on clefts")


def _step() -> None:
    net = build("cleftnet", widths=(2, 4), patch=PATCH).to(best_device())
    net(torch.rand(1, 1, *PATCH, device=best_device())).square().mean().backward()
    if not all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters()):
        raise RuntimeError("gradients are missing or not finite")


def _predict(place: Path) -> None:
    net = build("cleftnet", widths=(2, 4), patch=PATCH)
    save_model(place / "model.safetensors", Model(net, ModelCard(spec=net.spec)))
    predict(load_model(place / "model.safetensors", best_device()), place / "volume.hdf", place / "prediction.hdf")
