"""How long and how fast a network learns: steps or minutes, optimizer, learning rate, when to validate and when to end."""

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
    """How long and how fast to learn; the defaults are the paper's (§IV-C) but for the steps, which a recipe must say.

    Attributes:
        steps: Optimizer steps.
        minutes: The training ends after so many minutes too, its validations included, if it has not taken all steps by then;
            a cosine then falls to 0 with the time. None sets no limit. What is learned in them depends on the machine.
        batch: Patches a step, in all processes together.
        accumulate: Parts that each process takes its share of the batch in, to save memory; batch norm sees one part at a time.
        optimizer: `adam`, or `adamw` with weight decay.
        weight_decay: AdamW's, of convolution kernels only.
        learning_rate: At its highest.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule: `constant`, or `cosine` down to 0 at the end.
        clip_norm: Largest norm of the gradient, to which a larger one is scaled down; None never does.
        ema: Decay of the exponential moving average of the weights, which is then what is validated and saved; 0 is off.
        precision: 32, or on GPUs `bf16-mixed` or `16-mixed`.
        loaders: Processes that prepare patches beside each process of the training; 0 prepares them within it.
        validate_every: Steps between validations.
        validation_overlap: Share of the patch that neighboring tiles have in common in validation.
        best_by: The validation score by which the best checkpoint is kept.
        patience: Validations without a better score after which the training ends early; None never does.
        save_every: Steps between the states that a training can be resumed from.
        keep_states: How many of the newest states are kept.
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
    def _decay_is_decoupled(self) -> Self:
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("weight_decay needs optimizer: adamw")
        return self

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """Return the learning rate of a step.

        Args:
            step: Counted from 1.
            seconds: How long the training has run before it; matters where `minutes` are set.
        """
        rise = min(1.0, step / (self.warmup_steps + 1))
        done = max((step - 1) / self.steps, min(1.0, self._elapsed(seconds)))
        fall = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall

    def begin(self, net: Network) -> TrainingState:
        """Return the state before the first step, for a network on its device."""
        kernels = [
            p for p in net.parameters() if p.dim() == 5
        ]  # of convolutions; queries, norms and biases do not decay
        others = [p for p in net.parameters() if p.dim() != 5]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "adam":
            optimizer = torch.optim.Adam(net.parameters(), lr=self.learning_rate)
        else:
            groups = [{"params": kernels, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        return TrainingState.start(net, optimizer, self.ema)

    def validation_due(self, state: TrainingState) -> bool:
        """True when the state's last step is to be validated and has not been."""
        return state.step > state.validated and (state.step % self.validate_every == 0 or self.spent(state))

    def finished(self, state: TrainingState) -> bool:
        """True when there is neither a step nor a validation left, or patience is exhausted."""
        if self.patience is not None and state.stale >= self.patience:
            return True
        return self.spent(state) and not self.validation_due(state)

    def spent(self, state: TrainingState) -> bool:
        """True when all steps are taken or all minutes are over (never before the first step)."""
        return state.step >= self.steps or (state.step > 0 and self._elapsed(state.seconds) >= 1)

    def _elapsed(self, seconds: float) -> float:
        """The share of the minutes that is over; 0 where there is no limit."""
        return 0.0 if self.minutes is None else seconds / (60 * self.minutes)
