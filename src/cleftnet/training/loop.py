"""One training loop, read from top to bottom: patches in, the loss of Eq. 10, a step; now and then whole-region validation.

A pass of the loop is one step or one validation. After each, the state may be saved; from there a training goes on exactly.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from pydantic import JsonValue
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import BEST, LAST, Model, ModelCard, save_model
from cleftnet.training.distributed import noticing_sigterm
from cleftnet.training.log import RunLog
from cleftnet.training.losses import ClassCounts, Losses, LossSettings, cleft_loss
from cleftnet.training.settings import TrainingSettings
from cleftnet.training.state import STATES, TrainingState
from cleftnet.training.validation import Region, Scores, Validation, validate

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]  # raw `b 1 z y x`, classes `b z y x`, distance `b z y x`


class TrainingData(NamedTuple):
    """What a network learns from, and what it is validated on.

    Attributes:
        patches: Training patches by number, used in order: step s takes those from (s − 1) · batch on.
        regions: What is validated on.
    """

    patches: Dataset[Batch]
    regions: Sequence[Region]


@dataclass(frozen=True)
class TrainingRun:
    """What a training left behind.

    Attributes:
        directory: The run directory, usable as MODEL.
        best: The checkpoint with the best validation score.
        scores: Its validation scores.
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
    """Train a network from the step that its state is at, writing checkpoints, states and logs into the run directory.

    Args:
        fabric: The processes and devices; this function runs in each of the processes.
        state: The network and what drives it, on the fabric's device.
        data: What is learned from and validated on.
        settings: How long and how fast.
        loss: The weights and form of Eq. 10.
        out: The run directory, which exists.
        provenance: What else a reader needs to do it again; goes into the checkpoints.

    Returns:
        The run with its best checkpoint, or None when a SIGTERM ended it, its state saved.

    Raises:
        InputError: when the loss is no longer a finite number, or the disk is full; what was saved before stays.
    """
    model, optimizer = fabric.setup(state.net.train(), state.optimizer)
    fabric.strategy.precision.load_state_dict(state.scaler)
    batches = load(data.patches, settings, fabric, first=state.step)
    began = time.monotonic() - state.seconds
    with ExitStack() as stack:
        sigterm, run_log = stack.enter_context(noticing_sigterm()), None
        if fabric.is_global_zero:  # the first process alone validates and writes
            run_log = stack.enter_context(RunLog(out, state, steps=settings.steps, patches=settings.batch))
        while not settings.finished(state):
            if settings.validation_due(state):
                overlap = settings.validation_overlap
                mine = validate(state.averaged, data.regions, overlap=overlap) if run_log else None
                found = cast(Validation, fabric.broadcast(mine))
                is_best = state.record(found.scores, settings.best_by)
                if run_log:
                    state.seconds = time.monotonic() - began
                    model_now = Model(state.averaged, _card(state, found, data.regions[0], provenance))
                    for name in (LAST, BEST) if is_best else (LAST,):
                        save_model(out / name, model_now)
                    run_log.validation(settings.rate(state.step, state.seconds), found, is_best=is_best)
                state.losses.clear()
            else:
                state.step += 1
                started = time.monotonic()
                parts = [fabric.to_device(next(batches)) for _ in range(settings.accumulate)]
                waited = time.monotonic() - started
                rate = settings.rate(state.step, state.seconds)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses = learn(fabric, model, optimizer, parts, loss, settings.clip_norm)
                if not losses.isfinite().all():
                    raise InputError(_diverged(state.step, losses, out))
                state.average.update_parameters(state.net)
                state.losses.append(losses)
                if run_log:
                    run_log.step(rate, time.monotonic() - started, waited)
            state.seconds = fabric.broadcast(time.monotonic() - began)  # one clock for all processes

            stop = sigterm.requested(fabric)
            if run_log and (stop or state.step % settings.save_every == 0 or settings.finished(state)):
                state.scaler = fabric.strategy.precision.state_dict()
                saved = state.save(out / STATES, settings.keep_states)
                if stop:
                    log.info(
                        f"SIGTERM: step {state.step} is saved in {saved}; the same command with --resume goes on from it"
                    )
            if stop:
                fabric.barrier()
                return None
    if fabric.is_global_zero and state.step < settings.steps:
        over = settings.spent(state)
        reason = (
            f"{settings.minutes:g} minutes are over"
            if over
            else f"no better {settings.best_by} in {state.stale} validations"
        )
        log.info(f"{reason}: ended at step {state.step} of {settings.steps}")
    assert state.best is not None, "the last step always validates"
    return TrainingRun(out, out / BEST, state.best)


def learn(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    parts: Sequence[Batch],
    settings: LossSettings,
    clip_norm: float | None,
) -> Tensor:
    """Take one optimizer step, unless the loss is not finite.

    Args:
        fabric: The processes and devices.
        model: The network as the fabric set it up.
        optimizer: The same.
        parts: The batch, in the parts that this process takes one after the other.
        settings: The weights and form of Eq. 10.
        clip_norm: Largest norm of the gradient; None does not clip.

    Returns:
        The loss and its parts, on the CPU, the mean over all parts and processes.
    """
    counts, seen = count(parts, fabric), []
    optimizer.zero_grad(set_to_none=True)
    for number, (raw, classes, distance) in enumerate(parts, start=1):
        with fabric.no_backward_sync(cast(Any, model), enabled=number < len(parts)):
            logits = model(raw.contiguous(memory_format=torch.channels_last_3d))
            losses = cleft_loss(logits, classes, distance, settings, counts)
            fabric.backward(losses.total / len(parts))
        seen.append(torch.stack(losses).detach())
    mean = cast(Tensor, fabric.all_reduce(torch.stack(seen).mean(0))).cpu()
    if mean.isfinite().all():
        if clip_norm is not None:
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        optimizer.step()
    return mean


def _card(state: TrainingState, found: Validation, region: Region, provenance: Mapping[str, JsonValue]) -> ModelCard:
    return ModelCard(
        spec=state.net.spec,
        calibration=found.calibration,
        threshold=found.scores.threshold,
        voxel_size_nm=region.raw.voxel_size_nm,
        step=state.step,
        scores=found.scores.model_dump(),
        provenance=provenance,
    )


def load(patches: Dataset[Batch], settings: TrainingSettings, fabric: Fabric, first: int = 0) -> Iterator[Batch]:
    """Yield the parts of the batches that this process learns from, from the step after `first` on.

    A batch is cut into `accumulate` times as many equal parts as there are processes, so that all processes together see
    the patches that one would.

    Raises:
        InputError: when the batch cannot be cut so.
    """
    cuts = settings.accumulate * fabric.world_size
    size, rest = divmod(settings.batch, cuts)
    if rest:
        raise InputError(
            f"a batch of {settings.batch} patches cannot be cut into {cuts} equal parts ({fabric.world_size} processes × "
            f"{settings.accumulate} to accumulate); choose training.batch accordingly"
        )
    starts = (
        step * settings.batch + (part * fabric.world_size + fabric.global_rank) * size
        for step in range(first, settings.steps)
        for part in range(settings.accumulate)
    )
    numbers = (list(range(start, start + size)) for start in starts)
    loader = DataLoader(
        patches,
        batch_sampler=numbers,
        num_workers=settings.loaders,
        worker_init_fn=_ignore_sigterm,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),  # the loader draws from it; the global one stays as it is
    )
    return iter(loader)


def _ignore_sigterm(_: int) -> None:
    """Leave it to the training to end: a SIGTERM to all processes of a job must not take its patches away before that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def count(parts: Sequence[Batch], fabric: Fabric) -> ClassCounts:
    """Count the voxels of a whole batch, over its parts and over all processes."""
    own = [torch.stack(ClassCounts.of(classes, distance)[:3]) for _, classes, distance in parts]
    labelled, cleft, inside = fabric.all_reduce(torch.stack(own).sum(0), reduce_op="sum")
    return ClassCounts(labelled, cleft, inside, parts=len(parts) * fabric.world_size)


def _diverged(step: int, losses: Tensor, out: Path) -> str:
    """Say that the loss is no longer a number, where the last good weights are, and what to try."""
    parts = ", ".join(f"{name} {value:g}" for name, value in zip(Losses._fields, losses.tolist(), strict=True))
    kept = (
        f"the weights of the last validation are in {out / LAST}" if (out / LAST).exists() else "nothing was saved yet"
    )
    return f"the loss is not a finite number at step {step} ({parts}); {kept}; try a lower training.learning_rate"
