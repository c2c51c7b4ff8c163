"""Settings of a training, and what they decide at each step: learning rate, validation, end."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from cleftnet.geometry import OVERLAP
from cleftnet.nets.skeleton import Network
from cleftnet.settings import Settings
from cleftnet.training.distributed import Precision
from cleftnet.training.state import TrainingState
from cleftnet.training.validation import Score


class TrainingSettings(Settings):
    """How long and how fast to learn; defaults are the paper's (§IV-C) except for the steps, which have none.

    Attributes:
        steps: Optimizer steps.
        minutes: Time limit, validations included; None sets no limit. With a cosine schedule the learning rate then
            reaches 0 when the time is over. The result depends on the machine's speed.
        batch: Patches per step, in all processes together.
        accumulate: Number of parts into which each process splits its share of the batch to save memory; batch norm
            sees one part at a time.
        optimizer: `adam`, or `adamw` with weight decay.
        weight_decay: Weight decay of AdamW, for convolution kernels only.
        learning_rate: Highest learning rate of the schedule.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule: `constant`, or `cosine` down to 0 at the end.
        clip_norm: Larger gradients are scaled down to this norm; None does not clip.
        ema: Decay of the exponential moving average of the weights, which is validated and saved with batch-norm
            statistics of its own; 0 turns it off.
        precision: 32, or on GPUs `bf16-mixed` or `16-mixed`.
        loaders: Extra processes that prepare patches for each training process; 0 prepares them in the process itself.
        validate_every: Steps between validations.
        validation_overlap: Share of the patch that neighboring tiles have in common in validation.
        best_by: Validation score that chooses the best checkpoint.
        patience: Number of validations without improvement after which training stops; None never stops early.
        save_every: Steps between saved states, from which a training can be resumed.
        keep_states: Number of newest states to keep.
    """

    steps: int = Field(ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
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
    def _only_adamw_decays(self) -> Self:
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("weight_decay needs optimizer: adamw")
        return self


def initial_state(net: Network, settings: TrainingSettings) -> TrainingState:
    """Return the state before the first step: optimizer and averaged weights for a network on its device."""
    optimizer: torch.optim.Optimizer
    # One kernel for all weights on a GPU. Fabric cannot clip gradients of 16-mixed before a fused step.
    fused = (next(net.parameters()).is_cuda and settings.precision != "16-mixed") or None  # None: PyTorch's default
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, fused=fused)
    else:
        kernels = [p for p in net.parameters() if p.dim() == 5]  # of convolutions
        others = [p for p in net.parameters() if p.dim() != 5]  # queries, norms and biases do not decay
        groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)
    return TrainingState.start(net, optimizer, settings.ema)


def learning_rate(settings: TrainingSettings, step: int, seconds: float = 0.0) -> float:
    """Return the learning rate of a step.

    Args:
        settings: Schedule and length of the training.
        step: Counted from 1.
        seconds: Duration of the training before this step; used where `minutes` are set.

    Example:
        >>> learning_rate(TrainingSettings(steps=100, learning_rate=0.1, schedule="cosine"), 51)
        0.05
    """
    rise = min(1.0, step / (settings.warmup_steps + 1))
    done = max((step - 1) / settings.steps, min(1.0, _share_of_minutes(settings, seconds)))
    fall = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0
    return settings.learning_rate * rise * fall


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, seconds: float) -> float:
    """Give an optimizer the learning rate of a step, and return it."""
    rate = learning_rate(settings, step, seconds)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def validation_is_due(settings: TrainingSettings, state: TrainingState) -> bool:
    """Return True when the last step has to be validated and has not been."""
    return state.step > state.validated and (state.step % settings.validate_every == 0 or is_over(settings, state))


def is_finished(settings: TrainingSettings, state: TrainingState) -> bool:
    """Return True when no step and no validation remain, or patience is exhausted."""
    if settings.patience is not None and state.stale >= settings.patience:
        return True
    return is_over(settings, state) and not validation_is_due(settings, state)


def is_over(settings: TrainingSettings, state: TrainingState) -> bool:
    """Return True when all steps are done or, after at least one step, the time limit is reached."""
    return state.step >= settings.steps or (state.step > 0 and _share_of_minutes(settings, state.seconds) >= 1)


def _share_of_minutes(settings: TrainingSettings, seconds: float) -> float:
    """Return the share of the time limit that has passed; 0 without a limit."""
    return 0.0 if settings.minutes is None else seconds / (60 * settings.minutes)
