"""One training loop, read from top to bottom: patches in, the loss of Eq. 10, a step; now and then whole-region validation.

A pass of the loop is one step or one validation. After each, the state may be saved; from there a training goes on exactly.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self, cast

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cleftnet.checkpoint import BEST, LAST, Model, ModelCard, save_model
from cleftnet.errors import InputError
from cleftnet.geometry import OVERLAP
from cleftnet.losses import Counts, Losses, LossSettings, cleft_loss
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.nets.skeleton import Network
from cleftnet.progress import note
from cleftnet.training.distributed import Precision, noticing_sigterm
from cleftnet.training.log import RunLog
from cleftnet.training.state import STATES, TrainingState
from cleftnet.training.validation import Region, Score, Scores, Validation, validate

Batch = tuple[Tensor, Tensor, Tensor]  # raw `b 1 z y x`, classes `b z y x`, distance `b z y x`


class TrainingSettings(BaseModel):
    """How long and how fast to learn; the defaults are the paper's (§IV-C) but for the steps, which a recipe must say.

    Attributes:
        steps: Optimiser steps.
        batch: Patches a step, in all processes together.
        accumulate: Parts that each process takes its share of the batch in, to save memory; batch norm sees one part at a time.
        optimiser: `adam`, or `adamw` with weight decay.
        weight_decay: AdamW's, of convolution kernels only.
        learning_rate: At its highest.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule: `constant`, or `cosine` down to 0 at the last step.
        clip_norm: Largest norm of the gradient, to which a larger one is scaled down; None never does.
        ema: Decay of the exponential moving average of the weights, which is then what is validated and saved; 0 is off.
        precision: 32, or on GPUs `bf16-mixed` or `16-mixed`.
        loaders: Processes that prepare patches beside each process of the training; 0 prepares them within it.
        validate_every: Steps between validations.
        validation_overlap: Share of the patch that neighbouring tiles have in common in validation.
        best_by: The validation score by which the best checkpoint is kept.
        patience: Validations without a better score after which the training ends early; None never does.
        save_every: Steps between the states that a training can be resumed from.
        keep_states: How many of the newest states are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    batch: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    optimiser: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = Field(None, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Precision = 32
    loaders: int = Field(0, ge=0)
    validate_every: int = Field(100, ge=1)
    validation_overlap: float = Field(OVERLAP, ge=0, le=0.9)
    best_by: Score = "f1"
    patience: int | None = Field(None, ge=1)
    save_every: int = Field(500, ge=1)
    keep_states: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _decay_is_decoupled(self) -> Self:
        if self.weight_decay and self.optimiser == "adam":
            raise ValueError("weight_decay needs optimiser: adamw")
        return self

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1."""
        rise = min(1.0, step / (self.warmup_steps + 1))
        fall = 0.5 * (1 + math.cos(math.pi * (step - 1) / self.steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall

    def begin(self, net: Network) -> TrainingState:
        """Return the state before the first step, for a network on its device."""
        kernels = [
            p for p in net.parameters() if p.dim() == 5
        ]  # of convolutions; queries, norms and biases do not decay
        others = [p for p in net.parameters() if p.dim() != 5]
        optimiser: torch.optim.Optimizer
        if self.optimiser == "adam":
            optimiser = torch.optim.Adam(net.parameters(), lr=self.learning_rate)
        else:
            groups = [{"params": kernels, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
            optimiser = torch.optim.AdamW(groups, lr=self.learning_rate)
        return TrainingState.start(net, optimiser, self.ema)

    def validation_due(self, state: TrainingState) -> bool:
        """True when the state's last step is to be validated and has not been."""
        return state.step > state.validated and (state.step % self.validate_every == 0 or state.step >= self.steps)

    def finished(self, state: TrainingState) -> bool:
        """True when there is neither a step nor a validation left, or patience is exhausted."""
        if self.patience is not None and state.stale >= self.patience:
            return True
        return state.step >= self.steps and not self.validation_due(state)


class Data(NamedTuple):
    """What a network learns from, and what it is validated on.

    Attributes:
        patches: Training patches by number, used in order: step s takes those from (s − 1) · batch on.
        regions: What is validated on.
    """

    patches: Dataset[Batch]
    regions: Sequence[Region]


@dataclass(frozen=True)
class Run:
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
    data: Data,
    settings: TrainingSettings,
    loss: LossSettings,
    out: Path,
    provenance: Mapping[str, JsonValue],
) -> Run | None:
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
    keep_freed_memory()
    model, optimiser = fabric.setup(state.net.train(), state.optimiser)
    fabric.strategy.precision.load_state_dict(state.scaler)
    batches = load(data.patches, settings, fabric, first=state.step)
    began = time.monotonic() - state.seconds
    with ExitStack() as stack:
        sigterm, log = stack.enter_context(noticing_sigterm()), None
        if fabric.is_global_zero:  # the first process alone validates and writes
            log = stack.enter_context(RunLog(out, state, steps=settings.steps, patches=settings.batch))
        while not settings.finished(state):
            if settings.validation_due(state):
                overlap = settings.validation_overlap
                mine = validate(state.averaged, data.regions, overlap=overlap) if log else None
                found = cast(Validation, fabric.broadcast(mine))
                state.seconds = time.monotonic() - began
                is_best = state.record(found.scores, settings.best_by)
                if log:
                    card = ModelCard(
                        spec=state.net.spec,
                        calibration=found.calibration,
                        threshold=found.scores.threshold,
                        voxel_size_nm=data.regions[0].raw.voxel_size_nm,
                        step=state.step,
                        scores=asdict(found.scores),
                        provenance=provenance,
                    )
                    for name in (LAST, BEST) if is_best else (LAST,):
                        save_model(out / name, Model(state.averaged, card))
                    log.validation(settings.rate(state.step), found, is_best=is_best)
                state.losses.clear()
            else:
                state.step += 1
                started = time.monotonic()
                parts = [fabric.to_device(next(batches)) for _ in range(settings.accumulate)]
                waited = time.monotonic() - started
                counts, seen = count(parts, fabric), []
                for group in optimiser.param_groups:
                    group["lr"] = settings.rate(state.step)
                optimiser.zero_grad(set_to_none=True)
                for number, (raw, classes, distance) in enumerate(parts, start=1):
                    with fabric.no_backward_sync(model, enabled=number < len(parts)):
                        logits = model(raw.contiguous(memory_format=torch.channels_last_3d))
                        losses = cleft_loss(logits, classes, distance, loss, counts)
                        fabric.backward(losses.total / len(parts))
                    seen.append(torch.stack(losses).detach())
                mean = cast(Tensor, fabric.all_reduce(torch.stack(seen).mean(0))).cpu()
                if not mean.isfinite().all():
                    raise InputError(_diverged(state.step, mean, out))
                if settings.clip_norm is not None:
                    fabric.clip_gradients(model, optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)
                optimiser.step()
                state.average.update_parameters(state.net)
                state.losses.append(mean)
                state.seconds = time.monotonic() - began
                if log:
                    log.step(settings.rate(state.step), time.monotonic() - started, waited)

            stop = sigterm.requested(fabric)
            if log and (stop or state.step % settings.save_every == 0 or settings.finished(state)):
                state.scaler = fabric.strategy.precision.state_dict()
                saved = state.save(out / STATES, settings.keep_states)
                if stop:
                    note(
                        f"SIGTERM: step {state.step} is saved in {saved}; the same command with --resume goes on from it"
                    )
            if stop:
                fabric.barrier()
                return None
    if fabric.is_global_zero and state.step < settings.steps:
        note(
            f"no better {settings.best_by} in {state.stale} validations: ended at step {state.step} of {settings.steps}"
        )
    assert state.best is not None, "the last step always validates"
    return Run(out, out / BEST, state.best)


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


def count(parts: Sequence[Batch], fabric: Fabric) -> Counts:
    """Count the voxels of a whole batch, over its parts and over all processes."""
    own = [torch.stack(Counts.of(classes, distance)[:3]) for _, classes, distance in parts]
    labelled, cleft, inside = fabric.all_reduce(torch.stack(own).sum(0), reduce_op="sum")
    return Counts(labelled, cleft, inside, parts=len(parts) * fabric.world_size)


def _diverged(step: int, losses: Tensor, out: Path) -> str:
    """Say that the loss is no longer a number, where the last good weights are, and what to try."""
    parts = ", ".join(f"{name} {value:g}" for name, value in zip(Losses._fields, losses.tolist(), strict=True))
    kept = (
        f"the weights of the last validation are in {out / LAST}" if (out / LAST).exists() else "nothing was saved yet"
    )
    return f"the loss is not a finite number at step {step} ({parts}); {kept}; try a lower training.learning_rate"
