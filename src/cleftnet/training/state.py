"""State of a training and its files, from which a training resumes exactly as if it had not been interrupted.

Patches need no state: patch i is a pure function of (seed, i), so the step decides which one is next. Files are safetensors
with a JSON card and the SHA-256 of both; reading them executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import write_tensors
from cleftnet.nets.skeleton import Network
from cleftnet.training.averaging import averaged_model
from cleftnet.training.validation import Score, Scores

log = logging.getLogger(__name__)

STATES = "states"  # folder in a run directory
_CARD, _DIGEST = "cleftnet-state", "sha256"


class StateCard(BaseModel):
    """Part of a training state that is not tensors.

    Attributes:
        step: Optimizer steps taken.
        validated: The step of the last validation; 0 before the first.
        stale: Validations since the best one.
        best: Scores of the best validation.
        seconds: Duration of the training so far, without interruptions.
        scaler: State of the loss scaling of 16-mixed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    validated: int
    stale: int
    best: Scores | None
    seconds: float
    scaler: dict[str, JsonValue]


@dataclass
class TrainingState:
    """Network, optimizer, averaged weights and progress of a training.

    Attributes:
        net: Network that learns.
        optimizer: Optimizer of its parameters.
        average: Moving average of its weights.
        step: Optimizer steps taken.
        validated: The step of the last validation; 0 before the first.
        stale: Validations since the best one.
        best: Scores of the best validation.
        seconds: Duration of the training so far, without interruptions.
        losses: Total loss and its terms for each step since the last validation.
        scaler: State of the loss scaling of 16-mixed.
    """

    net: Network
    optimizer: Optimizer
    average: AveragedModel
    step: int = 0
    validated: int = 0
    stale: int = 0
    best: Scores | None = None
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)
    scaler: dict[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def start(cls, net: Network, optimizer: Optimizer, ema: float) -> TrainingState:
        """Return the state before the first step.

        Args:
            net: Network on its device.
            optimizer: Optimizer of its parameters.
            ema: Decay of the moving average of the weights; with 0 the average equals the last weights.
        """
        return cls(net, optimizer, averaged_model(net, ema))

    @property
    def averaged(self) -> Network:
        """Network with the averaged weights, which is validated and saved."""
        return cast(Network, self.average.module)

    def record(self, scores: Scores, best_by: Score) -> bool:
        """Record a validation of the current step; return True when it is the best so far."""
        self.validated = self.step
        is_best = self.best is None or scores.better_than(self.best, best_by)
        self.stale = 0 if is_best else self.stale + 1
        self.best = scores if is_best else self.best
        return is_best

    def save(self, folder: Path, keep: int) -> Path:
        """Write the state to a file named by its step, then remove all but the newest `keep` files.

        Raises:
            InputError: when the disk is full; earlier files stay.
        """
        card = StateCard(
            step=self.step,
            validated=self.validated,
            stale=self.stale,
            best=self.best,
            seconds=self.seconds,
            scaler=self.scaler,
        ).model_dump_json()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()}
        path = folder / f"step-{self.step:09d}.safetensors"
        write_tensors(path, tensors, {_CARD: card, _DIGEST: _digest(card, tensors)})
        for old in _files(folder)[:-keep]:
            old.unlink()
        return path

    def restore(self, path: Path) -> None:
        """Replace this state by that of a file.

        Raises:
            InputError: when the file is damaged, or belongs to another network.
        """
        card, tensors = _read(path)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts.setdefault(part, {})[key] = tensor
        try:
            self.net.load_state_dict(parts["net"])
            self.average.load_state_dict(parts["average"])
            self._restore_optimizer(parts.get("optimizer", {}))
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{path} does not fit this recipe's network ({str(error).splitlines()[0]})") from None
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        self.losses = list(parts["losses"][""]) if "losses" in parts else []
        self.step, self.validated, self.stale = card.step, card.validated, card.stale
        self.best, self.seconds, self.scaler = card.best, card.seconds, card.scaler

    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state; each name begins with its part of the state."""
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if next(self.net.parameters()).is_cuda:
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        if self.losses:
            tensors["losses."] = torch.stack(self.losses)
        return tensors

    def _restore_optimizer(self, flat: Mapping[str, Tensor]) -> None:
        """Restore moments with the memory layout of their parameters: other strides may change the order of sums."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            number, _, name = key.partition(".")
            like = parameters[int(number)]
            own = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape and tensor.dim() else tensor
            moments.setdefault(int(number), {})[name] = own.detach()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def newest_state(folder: Path) -> Path | None:
    """Return the newest intact state of a folder, or None when it holds no states.

    Damaged files are logged and renamed, so that they are neither used nor counted among those to keep.

    Raises:
        InputError: when there are states, but none of them is intact.
    """
    for unfinished in folder.glob(".step-*.part"):  # left by a process that was killed while writing
        unfinished.unlink()
    files = _files(folder)
    for path in reversed(files):
        try:
            _read(path)
        except InputError as error:
            log.warning(f"{error}; using the state before it")
            path.rename(path.with_suffix(".damaged"))
        else:
            return path
    if files:
        raise InputError(f"no training state in {folder} is intact; train anew with overwrite=True")
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _read(path: Path) -> tuple[StateCard, dict[str, Tensor]]:
    """Read a file and verify its checksum.

    Raises:
        InputError: when the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
        tensors = safetensors.torch.load_file(path)
        card = StateCard.model_validate(json.loads(texts[_CARD]))
    except (safetensors.SafetensorError, OSError, KeyError, ValidationError, ValueError) as error:
        raise InputError(f"training state {path} is damaged ({str(error).splitlines()[0]})") from None
    if _digest(texts[_CARD], tensors) != texts.get(_DIGEST):
        raise InputError(f"training state {path} is damaged (its SHA-256 is not the one it was written with)")
    return card, tensors


def _digest(card: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the card and of every tensor's name, shape and bytes."""
    sha = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        sha.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        sha.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
