"""Estimates memory and time of a training from one step and one predicted tile; writes nothing."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from torch.utils.data import default_collate

from cleftnet.errors import InputError
from cleftnet.geometry import tile
from cleftnet.nets.costs import FLOAT32, cost
from cleftnet.nets.kernels import fast_kernels
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.prediction import overlap_in_voxels
from cleftnet.training.data import open_data, patches_at_once
from cleftnet.training.distributed import (
    HardwareSettings,
    keep_random_state,
    launch,
    make_fabric,
    number_of_processes,
)
from cleftnet.training.loop import learn
from cleftnet.training.recipe import Recipe, load_recipe
from cleftnet.training.schedule import initial_state

log = logging.getLogger(__name__)

T = TypeVar("T")
GIB = 2**30


@dataclass(frozen=True)
class TrainingEstimate:
    """Memory and time of a training, measured on one step and one predicted tile.

    Attributes:
        device: Where the step was run.
        processes: Number of processes that the recipe asks for.
        parameters: Learned numbers of the network.
        patches: Patches of one forward pass: the batch, split over processes and accumulation.
        data_seconds: Time to prepare the patches of one step of one process, in one loader.
        step_seconds: Time to learn from them.
        bytes: Peak memory of the step: that of the GPU, or on a CPU that of the whole process.
        tiles: Tiles of one validation.
        validation_seconds: Time of one validation, without scoring.
        steps: Steps of the recipe.
        seconds: Time of all steps and validations; loaders prepare data while the network learns.
        minutes: Time limit of the recipe.
    """

    device: str
    processes: int
    parameters: int
    patches: int
    data_seconds: float
    step_seconds: float
    bytes: int
    tiles: int
    validation_seconds: float
    steps: int
    seconds: float
    minutes: float | None

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values as text, for printing."""
        hours = self.seconds / 3600
        time = f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
        if self.minutes is not None and 60 * self.minutes < self.seconds:
            time += f", ended after {self.minutes:g} minutes"
        return [
            ("device", f"{self.device}, {self.processes} process{'es' if self.processes > 1 else ''}"),
            ("network", f"{self.parameters:,} parameters"),
            ("forward pass", f"{self.patches} patches in each process"),
            ("data", f"{self.data_seconds:.2f} s per step in one loader"),
            ("step", f"{self.step_seconds:.2f} s"),
            ("memory", f"{self.bytes / GIB:.2f} GiB"),
            ("validation", f"{self.validation_seconds:.1f} s ({self.tiles} tiles)"),
            ("total", f"{self.steps:,} steps in about {time}"),
        ]


def estimate_training(recipe: str | Path | Recipe, *, changes: Sequence[str] = ()) -> TrainingEstimate:
    """Run one step of a recipe in one process, and estimate memory and time of the whole training.

    Args:
        recipe: A recipe file, the name of a shipped recipe, or a `Recipe`.
        changes: Changes to a recipe file, each `KEY=VALUE`.

    Raises:
        InputError: when recipe or data are wrong, or the step would not fit into memory.
    """
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    alone = HardwareSettings(accelerator=settings.hardware.accelerator)
    return launch(make_fabric(alone, settings.training.precision), _estimate, settings)


def _estimate(fabric: Fabric, recipe: Recipe) -> TrainingEstimate:
    training, processes = recipe.training, number_of_processes(recipe.hardware)
    patches = patches_at_once(training, processes)
    _check_memory(recipe.net, patches, fabric, mixed=training.precision != 32)
    data = open_data(recipe)
    with keep_random_state(fabric):
        torch.manual_seed(recipe.seed)
        net = Network(recipe.net).channels_last().to(fabric.device).train()
    state = initial_state(net, training)
    model, optimizer = fabric.setup(state.net, state.optimizer)
    batch, data_seconds = _timed(fabric, lambda: default_collate([data.patches[i] for i in range(patches)]))
    part = fabric.to_device(batch)

    def step() -> None:
        learn(fabric, model, optimizer, [part], recipe.loss, training.clip_norm)
        state.average.update_parameters(state.net)

    with fast_kernels(fabric.device):
        if fabric.device.type == "cuda":
            step()  # the first one on a GPU loads and chooses kernels
        _, step_seconds = _timed(fabric, step)
    overlap = overlap_in_voxels(recipe.net.patch, training.validation_overlap)
    tiles = sum(len(list(tile(region.raw.box, recipe.net.patch, overlap))) for region in data.validation_regions)
    averaged = state.averaged.eval()
    with torch.inference_mode():
        _, tile_seconds = _timed(fabric, lambda: averaged(part[0][:1]))
    step_seconds, data_seconds = step_seconds * training.accumulate, data_seconds * training.accumulate
    loaded = max(step_seconds, data_seconds / training.loaders) if training.loaders else step_seconds + data_seconds
    validations = -(-training.steps // training.validate_every)
    cuda = fabric.device.type == "cuda"
    return TrainingEstimate(
        device=torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        processes=processes,
        parameters=sum(p.numel() for p in net.parameters()),
        patches=patches,
        data_seconds=data_seconds,
        step_seconds=step_seconds,
        bytes=_peak_bytes(fabric),
        tiles=tiles,
        validation_seconds=tiles * tile_seconds,
        steps=training.steps,
        seconds=training.steps * loaded + validations * tiles * tile_seconds,
        minutes=training.minutes,
    )


def _timed(fabric: Fabric, do: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a function, and the seconds it took on the device."""
    began = time.monotonic()
    result = do()
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return result, time.monotonic() - began


def _check_memory(spec: NetSpec, patches: int, fabric: Fabric, *, mixed: bool) -> None:
    """Raise when a step needs more memory than the device has, by an estimate that runs nothing."""
    costs = cost(spec)
    weights = FLOAT32 * costs.parameters
    activations = costs.training_bytes - 4 * weights  # of one patch, without weights, gradients and two moments
    needed = 5 * weights + patches * activations // (2 if mixed else 1)  # the fifth is the averaged weights
    if fabric.device.type == "cuda":
        available = torch.cuda.get_device_properties(fabric.device).total_memory
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    log.info(
        f"running one step: about {needed / GIB:.3g} GiB of {available / GIB:.3g} GiB, "
        f"{3 * patches * costs.flops / 1e12:.3g} TFLOP"
    )
    if needed > available:
        raise InputError(
            f"a step of {patches} patches needs about {needed / GIB:.3g} GiB and this device has {available / GIB:.3g} "
            f"GiB; raise training.accumulate or hardware.devices, set net.max_keys, or choose a smaller training.batch"
        )


def _peak_bytes(fabric: Fabric) -> int:
    """Return the peak memory of the GPU, or on a CPU of the whole process."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kilobytes on Linux
