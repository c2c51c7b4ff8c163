"""Training loop: learns from batches by the loss of Eq. 10, validates whole regions at intervals, saves states.

Each pass of the loop is one step or one validation. A state saved after a pass resumes the training exactly.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from pydantic import JsonValue
from torch import Tensor, nn
from torch.optim import Optimizer

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import BEST, LAST, Model, ModelCard, save_model
from cleftnet.nets.kernels import fast_kernels
from cleftnet.training.averaging import BATCHES, measure_statistics
from cleftnet.training.data import Batch, TrainingData, load_batches
from cleftnet.training.distributed import Termination, WorkInterrupted, noticing_sigterm
from cleftnet.training.log import RunLog
from cleftnet.training.losses import ClassCounts, Losses, LossSettings, cleft_loss, tissue_loss
from cleftnet.training.schedule import (
    TrainingSettings,
    is_finished,
    is_over,
    learning_rate,
    set_learning_rate,
    validation_is_due,
)
from cleftnet.training.state import STATES, TrainingState
from cleftnet.training.validation import Scores, Validation, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """Result of a training.

    Attributes:
        directory: Run directory, usable as MODEL.
        best: Checkpoint with the best validation score.
        scores: Validation scores of that checkpoint.
    """

    directory: Path
    best: Path
    scores: Scores


def fit(
    fabric: Fabric,
    state: TrainingState,
    data: TrainingData,
    settings: TrainingSettings,
    loss: LossSettings,
    out: Path,
    provenance: Mapping[str, JsonValue],
) -> TrainingRun | None:
    """Train a network from its current step, and write checkpoints, states and logs to the run directory.

    Args:
        fabric: Processes and devices; this function runs in each process.
        state: Network, optimizer and progress, on the device of the fabric.
        data: Patches to learn from and regions to validate on.
        settings: Schedule and length of the training.
        loss: Weights and form of Eq. 10.
        out: Existing run directory.
        provenance: Versions, data and recipe, stored in the checkpoints.

    Returns:
        The run with its best checkpoint, or None when SIGTERM ended it after its state was saved.

    Raises:
        InputError: when the loss is not finite, or the disk is full; saved files stay.
    """
    model, optimizer = fabric.setup(state.net.train(), state.optimizer)
    if state.scaler:  # empty before the first save
        fabric.strategy.precision.load_state_dict(state.scaler)
    batches = load_batches(data.patches, settings, fabric, first=state.step)
    began = time.monotonic() - state.seconds
    with ExitStack() as stack:
        stack.enter_context(fast_kernels(fabric.device))
        sigterm, run_log = stack.enter_context(noticing_sigterm()), None
        if fabric.is_global_zero:  # only the first process validates and writes
            run_log = stack.enter_context(RunLog(out, state, steps=settings.steps, patches=settings.batch))
        while not is_finished(settings, state):
            if validation_is_due(settings, state):
                validation = _validate(fabric, state, data, settings, sigterm)
                is_best = validation is not None and state.record(validation.scores, settings.best_by)
                if run_log and validation is not None:
                    state.seconds = time.monotonic() - began
                    checkpoint = Model(state.averaged, _card(state, validation, data, provenance))
                    for name in (LAST, BEST) if is_best else (LAST,):
                        save_model(out / name, checkpoint)
                    rate = learning_rate(settings, state.step, state.seconds)
                    run_log.validation(rate, validation, is_best=is_best)
                if validation is not None:  # else the resumed training validates at this step
                    state.losses.clear()
            else:
                state.step += 1
                started = time.monotonic()
                parts = [fabric.to_device(next(batches)) for _ in range(settings.accumulate)]
                waited = time.monotonic() - started
                rate = set_learning_rate(optimizer, settings, state.step, state.seconds)
                losses = learn(fabric, model, optimizer, parts, loss, settings.clip_norm, state.net.spec.tissue_classes)
                if not losses.isfinite().all():
                    raise InputError(_diverged(state.step, losses, out))
                state.average.update_parameters(state.net)
                state.losses.append(losses)
                if run_log:
                    run_log.step(rate, time.monotonic() - started, waited)
            state.seconds = fabric.broadcast(time.monotonic() - began)  # all processes share one clock

            stop = sigterm.requested(fabric)
            if run_log and (stop or state.step % settings.save_every == 0 or is_finished(settings, state)):
                state.scaler = fabric.strategy.precision.state_dict()
                saved = state.save(out / STATES, settings.keep_states)
                if stop:
                    log.info(f"SIGTERM: step {state.step} is saved in {saved}")
            if stop:
                fabric.barrier()
                return None
    if fabric.is_global_zero and state.step < settings.steps:
        log.info(f"{_why_ended(settings, state)}: ended at step {state.step} of {settings.steps}")
    assert state.best is not None, "the last step always validates"
    return TrainingRun(out, out / BEST, state.best)


def _validate(
    fabric: Fabric, state: TrainingState, data: TrainingData, settings: TrainingSettings, sigterm: Termination
) -> Validation | None:
    """Validate the averaged weights in the first process; return the result in all, or None when SIGTERM ended it."""
    if settings.ema:  # in all processes, which share their statistics
        measure_statistics(state.averaged, _last_batches(data, settings, fabric, state.step))
    own = None
    if fabric.is_global_zero:
        with suppress(WorkInterrupted), sigterm.interrupting():
            own = validate(state.averaged, data.validation_regions, overlap=settings.validation_overlap)
    return fabric.broadcast(own)


def _last_batches(data: TrainingData, settings: TrainingSettings, fabric: Fabric, step: int) -> Iterator[Tensor]:
    """Yield raw of this process's parts of the last batches up to a step."""
    first = max(0, step - BATCHES)
    parts = load_batches(data.patches, settings, fabric, first)
    return (raw for raw, *_ in itertools.islice(parts, (step - first) * settings.accumulate))


def _why_ended(settings: TrainingSettings, state: TrainingState) -> str:
    """Return why a training ended before its last step."""
    if is_over(settings, state):
        return f"{settings.minutes:g} minutes are over"
    return f"no better {settings.best_by} in {state.stale} validations"


def learn(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    parts: Sequence[Batch],
    settings: LossSettings,
    clip_norm: float | None,
    tissue_classes: int = 0,
) -> Tensor:
    """Take one optimizer step; a loss that is not finite changes no weight.

    Args:
        fabric: Processes and devices.
        model: Network as `fabric.setup` returned it.
        optimizer: Optimizer as `fabric.setup` returned it.
        parts: Parts of the batch for this process; their gradients are accumulated.
        settings: Weights and form of Eq. 10.
        clip_norm: Largest norm of the gradient; None does not clip.
        tissue_classes: Number of the network's last outputs that learn tissue classes.

    Returns:
        Total loss and its four terms, float32 on the CPU, as means over all parts and processes.
    """
    counts, seen = _count_voxels(parts, fabric), []
    optimizer.zero_grad(set_to_none=True)
    for number, (raw, classes, distance, tissue) in enumerate(parts, start=1):
        with fabric.no_backward_sync(cast(Any, model), enabled=number < len(parts)):
            logits = model(raw.contiguous(memory_format=torch.channels_last_3d))
            heads = logits.shape[1] - tissue_classes
            losses = cleft_loss(logits[:, :heads], classes, distance, settings, counts)
            if tissue_classes:
                losses = losses.with_tissue(tissue_loss(logits[:, heads:], tissue), settings.tissue_weight)
            fabric.backward(losses.total / len(parts))
        seen.append(torch.stack(losses).detach())
    mean = cast(Tensor, fabric.all_reduce(torch.stack(seen).mean(0))).cpu()
    if mean.isfinite().all():
        if clip_norm is not None:
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        optimizer.step()
    return mean


def _count_voxels(parts: Sequence[Batch], fabric: Fabric) -> ClassCounts:
    """Count the voxels of a whole batch, over its parts and all processes."""
    own = [torch.stack(ClassCounts.of(classes, distance)[:3]) for _, classes, distance, _ in parts]
    labelled, cleft, inside = fabric.all_reduce(torch.stack(own).sum(0), reduce_op="sum")
    return ClassCounts(labelled, cleft, inside, parts=len(parts) * fabric.world_size)


def _card(
    state: TrainingState, validation: Validation, data: TrainingData, provenance: Mapping[str, JsonValue]
) -> ModelCard:
    return ModelCard(
        spec=state.net.spec,
        calibration=validation.calibration,
        threshold=validation.scores.threshold,
        voxel_size_nm=data.voxel_size_nm,
        normalize=data.normalize,
        step=state.step,
        scores=validation.scores.model_dump(),
        provenance=provenance,
    )


def _diverged(step: int, losses: Tensor, out: Path) -> str:
    """Return the error message for a loss that is not finite."""
    parts = ", ".join(f"{name} {value:g}" for name, value in zip(Losses._fields, losses.tolist(), strict=True))
    kept = (
        f"the weights of the last validation are in {out / LAST}" if (out / LAST).exists() else "nothing was saved yet"
    )
    return f"the loss is not a finite number at step {step} ({parts}); {kept}; try a lower training.learning_rate"
