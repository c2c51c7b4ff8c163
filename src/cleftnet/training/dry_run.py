"""A training rehearsed: the data opened, one batch made, one step taken; what it needs and how long all of it will take.

Nothing is written. The time is that of one process; several share the batch.
"""

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
from torch import Tensor
from torch.utils.data import default_collate

from cleftnet.errors import InputError
from cleftnet.geometry import tile
from cleftnet.nets.costs import FLOAT32, cost
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.prediction import overlap_in_voxels
from cleftnet.training.distributed import HardwareSettings, launch, make_fabric, number_of_processes
from cleftnet.training.loop import learn
from cleftnet.training.recipe import Recipe, load_recipe
from cleftnet.training.runs import open_data

log = logging.getLogger(__name__)

T = TypeVar("T")
GIB = 2**30


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training will need, measured on one step and one predicted tile.

    Attributes:
        device: Where the step was taken.
        processes: How many the recipe wants.
        parameters: Learned numbers of the network.
        patches: Patches of one forward pass: the batch, cut by processes and accumulation.
        data_seconds: To make the patches of one step of one process, in one loader.
        step_seconds: To learn from them.
        bytes: Peak memory of the step: the GPU's, or on a CPU the whole process's.
        tiles: Tiles of one validation.
        validation_seconds: Of one validation, prediction alone.
        steps: Steps of the recipe.
        seconds: Of all steps and validations, data prepared beside the steps where there are loaders.
        minutes: After which the recipe ends before that.
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
        """Return names and values for people."""
        hours = self.seconds / 3600
        time = f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
        if self.minutes is not None and 60 * self.minutes < self.seconds:
            time += f", ended after {self.minutes:g} minutes"
        return [
            ("device", f"{self.device}, {self.processes} process{'es' if self.processes > 1 else ''}"),
            ("network", f"{self.parameters:,} parameters"),
            ("at once", f"{self.patches} patches in each process"),
            ("data", f"{self.data_seconds:.2f} s a step in one loader"),
            ("step", f"{self.step_seconds:.2f} s"),
            ("memory", f"{self.bytes / GIB:.2f} GiB"),
            ("validation", f"{self.validation_seconds:.1f} s ({self.tiles} tiles)"),
            ("all of it", f"{self.steps:,} steps in about {time}"),
        ]


def estimate_training(recipe: str | Path | Recipe, *, changes: Sequence[str] = ()) -> TrainingEstimate:
    """Take one step of a recipe, in one process, and tell what all of it will need.

    Args:
        recipe: A recipe file, or a recipe.
        changes: `KEY=VALUE` changes to a recipe file.

    Raises:
        InputError: for anything wrong with recipe or data, or when the step would not fit into memory.
    """
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    alone = HardwareSettings(accelerator=settings.hardware.accelerator)
    return launch(make_fabric(alone, settings.training.precision), _estimate, settings)


def _estimate(fabric: Fabric, recipe: Recipe) -> TrainingEstimate:
    training, processes = recipe.training, number_of_processes(recipe.hardware)
    at_once, rest = divmod(training.batch, training.accumulate * processes)
    if rest:
        raise InputError(
            f"a batch of {training.batch} patches cannot be cut into {training.accumulate * processes} equal parts; choose "
            f"training.batch, training.accumulate and hardware.devices accordingly"
        )
    _must_fit(recipe.net, at_once, fabric, mixed=training.precision != 32)
    data, _ = open_data(recipe)
    torch.manual_seed(recipe.seed)
    net = Network(recipe.net).channels_last().to(fabric.device).train()
    state = training.begin(net)
    model, optimizer = fabric.setup(state.net, state.optimizer)
    batch, data_seconds = _timed(fabric, lambda: default_collate([data.patches[i] for i in range(at_once)]))
    part = fabric.to_device(batch)

    def step() -> None:
        learn(fabric, model, optimizer, [part], recipe.loss, training.clip_norm)
        state.average.update_parameters(state.net)

    if fabric.device.type == "cuda":
        step()  # the first one on a GPU loads and chooses kernels
    _, part_seconds = _timed(fabric, step)
    overlap = overlap_in_voxels(recipe.net.patch, training.validation_overlap)
    tiles = sum(len(list(tile(region.raw.box, recipe.net.patch, overlap))) for region in data.regions)
    _, tile_seconds = _timed(fabric, lambda: _predict(state.averaged, part[0][:1]))
    step_seconds, data_seconds = part_seconds * training.accumulate, data_seconds * training.accumulate
    loaded = max(step_seconds, data_seconds / training.loaders) if training.loaders else step_seconds + data_seconds
    validations = -(-training.steps // training.validate_every)
    seconds = training.steps * loaded + validations * tiles * tile_seconds
    return TrainingEstimate(
        device=_name(fabric),
        processes=processes,
        parameters=sum(p.numel() for p in net.parameters()),
        patches=at_once,
        data_seconds=data_seconds,
        step_seconds=step_seconds,
        bytes=_peak(fabric),
        tiles=tiles,
        validation_seconds=tiles * tile_seconds,
        steps=training.steps,
        seconds=seconds,
        minutes=training.minutes,
    )


def _name(fabric: Fabric) -> str:
    return torch.cuda.get_device_name() if fabric.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _timed(fabric: Fabric, do: Callable[[], T]) -> tuple[T, float]:
    """What it returned, and the seconds it took on the device."""
    began = time.monotonic()
    result = do()
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return result, time.monotonic() - began


@torch.inference_mode()
def _predict(net: Network, raw: Tensor) -> Tensor:
    return net.eval()(raw)  # type: ignore[no-any-return]  # nn.Module calls are Any


def _must_fit(spec: NetSpec, patches: int, fabric: Fabric, *, mixed: bool) -> None:
    """Say what a step will need, counted without running it, and raise when that is more than there is."""
    found = cost(spec)
    weights = FLOAT32 * found.parameters
    one = found.training_bytes - 4 * weights  # but for weights, gradients and two moments
    needed = 5 * weights + patches * one // (2 if mixed else 1)  # the fifth is the average
    if fabric.device.type == "cuda":
        there = torch.cuda.get_device_properties(fabric.device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    log.info(
        f"taking one step: about {needed / GIB:.3g} GiB of the {there / GIB:.3g} GiB here, "
        f"{3 * patches * found.flops / 1e12:.3g} TFLOP"
    )
    if needed > there:
        raise InputError(
            f"a step of {patches} patches needs about {needed / GIB:.3g} GiB and there are {there / GIB:.3g} GiB here; raise "
            f"training.accumulate or hardware.devices, set net.max_keys, or choose a smaller training.batch"
        )


def _peak(fabric: Fabric) -> int:
    """Peak memory in bytes: the GPU's, or of the whole process."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else 1024 * kilobytes  # bytes there
