"""Records a training: losses.csv (each step), metrics.csv (each validation), TensorBoard events, a progress bar.

A resumed training first removes rows after the step it resumes from, so that each step has one row.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.progress import training_bar
from cleftnet.training.losses import Losses
from cleftnet.training.state import TrainingState
from cleftnet.training.validation import Validation

log = logging.getLogger(__name__)

LOSSES, METRICS, TENSORBOARD = "losses.csv", "metrics.csv", "tensorboard"  # names in a run directory


class RunLog:
    """Context manager that writes tables and TensorBoard events of a training and shows its progress bar.

    Args:
        directory: Run directory.
        state: State of the training, read for every row.
        steps: Total number of steps.
        patches: Patches per step, in all processes together.
    """

    def __init__(self, directory: Path, state: TrainingState, *, steps: int, patches: int) -> None:
        self.state, self.steps, self.patches = state, steps, patches
        self.losses, self.metrics = directory / LOSSES, directory / METRICS
        self.events = directory / TENSORBOARD
        self._times: list[tuple[float, float]] = []  # seconds and seconds waited of each step since the last validation

    def __enter__(self) -> Self:
        cut_back(self.losses, self.state.step)
        cut_back(self.metrics, self.state.validated)
        self._open = ExitStack()
        self._progress = self._open.enter_context(training_bar(self.steps, self.state.step, self.patches))
        self._losses = _Table(self._open, self.losses)
        self._metrics = _Table(self._open, self.metrics)
        purge = self.state.step + 1 if self.state.step else None  # hides later events of an interrupted training
        self._writer = open_events(self.events, purge)
        if self._writer is not None:
            self._open.callback(self._writer.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def step(self, rate: float, seconds: float, waited: float) -> None:
        """Record the last step.

        Args:
            rate: Learning rate of the step.
            seconds: Duration of the step.
            waited: Part of the duration spent waiting for data.
        """
        parts = dict(zip(Losses._fields, self.state.losses[-1].tolist(), strict=True))
        self._losses.add({"step": self.state.step, "learning_rate": rate, **_prefixed("loss_", parts)})
        self._scalars(_prefixed("loss/", parts))
        self._scalars({"learning_rate": rate})
        self._times.append((seconds, waited))
        self._progress(self.state.step)

    def validation(self, rate: float, found: Validation, *, is_best: bool) -> None:
        """Write down a validation with the mean losses since the one before, and say the essentials on stderr.

        Args:
            rate: The learning rate of the last step.
            found: What the validation found.
            is_best: Whether it is the best so far.
        """
        losses, speed = torch.stack(self.state.losses).mean(0).tolist(), self._speed()
        row: dict[str, float | None] = {"step": self.state.step, "seconds": round(self.state.seconds, 1)}
        row["learning_rate"] = rate
        row |= _prefixed("loss_", dict(zip(Losses._fields, losses, strict=True))) | found.scores.model_dump() | speed
        self._metrics.add(row)
        self._scalars(_prefixed("validation/", found.scores.model_dump()) | _prefixed("speed/", speed))
        if self._writer is not None:
            if found.picture is not None:
                name = "validation/raw, truth, probability"
                self._writer.add_image(name, found.picture, self.state.step, dataformats="HW")
            self._writer.flush()
        scores = found.scores
        shown = {"loss": losses[0], "F1": scores.f1, "AUC": scores.auc, "CREMI score nm": scores.cremi_score}
        text = "  ".join(f"{name} {'undefined' if v is None else format(v, '.4g')}" for name, v in shown.items())
        log.info(f"step {self.state.step} ({self.state.seconds:.0f} s)  {text}{'  best so far' if is_best else ''}")
        self._times.clear()

    def _speed(self) -> dict[str, float | None]:
        """Return patches per second since the last validation, and the share of time spent waiting for data."""
        seconds, waited = (sum(times) for times in zip(*self._times, strict=True)) if self._times else (0.0, 0.0)
        if not seconds:  # a resumed training may start with a validation
            return {"patches_per_second": None, "data_wait": None}
        rate = len(self._times) * self.patches / seconds
        return {"patches_per_second": round(rate, 3), "data_wait": round(waited / seconds, 4)}

    def _scalars(self, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None and self._writer is not None:
                self._writer.add_scalar(name, value, self.state.step)


def open_events(folder: Path, purge_step: int | None) -> Any | None:
    """Open a writer of TensorBoard events, or return None where TensorBoard is not installed.

    Args:
        folder: Folder of the events.
        purge_step: Events from this step on are hidden, those of an interrupted training; None hides none.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("no TensorBoard events are written; pip install 'cleftnet[tensorboard]' for them")
        return None
    return SummaryWriter(folder, purge_step=purge_step)


class _Table:
    """CSV file that is appended to and flushed line by line."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.fresh = not path.exists() or not path.stat().st_size
        self.file = stack.enter_context(path.open("a", newline="", buffering=1))

    def add(self, row: Mapping[str, object]) -> None:
        table = csv.DictWriter(self.file, row)
        if self.fresh:
            table.writeheader()
            self.fresh = False
        table.writerow(row)


def cut_back(path: Path, step: int) -> None:
    r"""Remove the rows of a table whose `step` is above a given one, and a last line that is not whole.

    Raises:
        InputError: when another line is damaged; the file stays as it is.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder, "losses.csv")
        ...     _ = table.write_text("step,loss\n1,0.5\n2,0.4\n3,0.")
        ...     cut_back(table, 2)
        ...     table.read_text()
        'step,loss\n1,0.5\n2,0.4\n'
    """
    if not path.exists():
        return
    with (
        path.open(newline="", encoding="utf-8", errors="surrogateescape") as old,
        replacing(path, overwrite=True) as temporary,
        temporary.open("w", newline="") as new,
    ):
        for number, line in enumerate(old):
            row = line.split(",", 1)[0]
            if not line.endswith("\n"):
                break
            if not line.isascii() or (number and not row.isdigit()):
                raise InputError(
                    f"line {number + 1} of {path} is damaged; correct or delete the line, or move the file away to go on "
                    f"without its earlier rows"
                )
            if number == 0 or int(row) <= step:
                new.write(line)


def _prefixed(prefix: str, values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {prefix + name: value for name, value in values.items()}
