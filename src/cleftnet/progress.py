"""Shows progress bars, in a terminal and in Jupyter, and writes log messages above them for the command line.

Bars go to standard error and vanish when they end. They are hidden where standard error is a pipe or a file, after
`show_bars(False)`, and where the environment variable `CLEFTNET_PROGRESS` is `0`. Jupyter needs `ipywidgets` for them.
The package reports what it does through `logging`; only a program that calls `log_to_stderr` shows these messages.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

SWITCH = "CLEFTNET_PROGRESS"  # an environment variable
_wanted = True
_report: ContextVar[Callable[[str, float], None] | None] = ContextVar("report", default=None)


def show_bars(shown: bool) -> None:
    """Show or hide the progress bars of every later call in this process.

    Example:
        >>> show_bars(False)
        >>> bars_are_shown()
        False
        >>> show_bars(True)
    """
    global _wanted
    _wanted = shown


def bars_are_shown() -> bool:
    """Return whether bars are wanted and standard error can show them: in a terminal, or in Jupyter with ipywidgets."""
    if not _wanted or os.environ.get(SWITCH) == "0":
        return False
    console = _console()
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def log_to_stderr() -> None:
    """Write the package's log messages to standard error as plain lines, above any progress bar.

    This changes the logging of the whole process, so only programs and the processes that they start call it.
    """
    logger = logging.getLogger("cleftnet")
    if not _logs_to_stderr():
        logger.addHandler(_ConsoleHandler())
        logger.setLevel(logging.INFO)


def same_display() -> Callable[[], None]:
    """Return a function that gives another process the bars and log messages of this one; it can be pickled.

    Example:
        >>> set_up = same_display()
        >>> set_up()
    """
    return functools.partial(_set_up, _wanted, _logs_to_stderr())


def _set_up(bars: bool, log: bool) -> None:
    show_bars(bars)
    if log:
        log_to_stderr()


def _logs_to_stderr() -> bool:
    return any(isinstance(handler, _ConsoleHandler) for handler in logging.getLogger("cleftnet").handlers)


class _ConsoleHandler(logging.Handler):
    """Writes log messages through the console that draws the bars, so that neither garbles the other."""

    def emit(self, record: logging.LogRecord) -> None:
        _console().print(self.format(record), soft_wrap=True, markup=False)


@functools.cache
def _console() -> Console:
    return Console(stderr=True, highlight=False)


@contextmanager
def reporting_to(report: Callable[[str, float], None]) -> Iterator[None]:
    """Also report the bars of this thread to a function while the body runs, shown or not: for windows of other programs.

    Args:
        report: Called with the label of a bar and the share that is done, 0 to 1. What it raises ends the work;
            KeyboardInterrupt ends it as Ctrl-C does.

    Example:
        >>> seen = []
        >>> with reporting_to(lambda what, share: seen.append((what, share))):
        ...     _ = list(track([1, 2], "counting", 2))
        >>> seen
        [('counting', 0.0), ('counting', 0.5), ('counting', 1.0)]
    """
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


class _ReportedProgress(Progress):
    """Progress that is reported to a function as well, and that writes nothing where it is hidden."""

    def stop(self) -> None:
        if not self.disable:  # rich 14.1 ends a hidden bar with an empty line
            super().stop()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if (report := _report.get()) is not None:
            task = self._tasks[task_id]
            report(task.description, task.completed / task.total if task.total else 0.0)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items while a bar shows how many of `total` are done, and the time left.

    Example:
        >>> list(track([1, 2], "counting", 2))
        [1, 2]
    """
    with _bar(what, MofNCompleteColumn(), total=total) as (progress, task):
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def bar(what: str, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the body runs; yields a function that takes the amount done and the total amount.

    Example:
        >>> with bar("copying") as progress:
        ...     progress(1, 2)
    """
    with _bar(what, DownloadColumn() if in_bytes else TaskProgressColumn()) as (progress, task):
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training_bar(steps: int, done: int, patches: int) -> Iterator[Callable[[int], None]]:
    """Show steps, patches per second and the time left while the body runs; yields a function that takes the step done.

    Args:
        steps: How many steps the training has.
        done: How many of them an earlier run took.
        patches: How many patches a step takes.

    Example:
        >>> with training_bar(10, done=4, patches=16) as progress:
        ...     progress(5)
    """
    columns = MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with _bar("training", *columns, total=steps, done=done) as (progress, task):

        def show(step: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=step, rate="" if speed is None else f"{speed * patches:.3g} patches/s")

        yield show


class BlockProgress:
    """Updates a bar over blocks: counts finished blocks, and shows the share of the block in progress."""

    def __init__(self, progress: Progress, task: TaskID, done: int) -> None:
        self._progress, self._task, self._done = progress, task, done
        self._begun, self._blocks, self._voxels = time.monotonic(), 0, 0

    def block(self, voxels: int) -> None:
        """Count a finished block of this many voxels."""
        self._blocks += 1
        self._voxels += voxels
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = f"{self._blocks / seconds:.3g} blocks/s, {self._voxels / seconds / 1e6:.3g} Mvoxel/s"
        self._progress.update(self._task, completed=self._done + self._blocks, rate=rate)

    def share(self, share: float) -> None:
        """Show the finished share, 0 to 1, of the block in progress."""
        self._progress.update(self._task, completed=self._done + self._blocks + share)


@contextmanager
def block_bar(what: str, blocks: int, done: int) -> Iterator[BlockProgress]:
    """Show blocks, blocks and voxels per second, and the time left while the body runs.

    Args:
        what: The bar's label.
        blocks: How many blocks there are.
        done: How many of them an earlier run finished.

    Example:
        >>> with block_bar("predicting", 10, done=4) as progress:
        ...     progress.share(0.5)
        ...     progress.block(64 * 512 * 512)
    """
    count = TextColumn("{task.completed:.4g}/{task.total} blocks {task.fields[rate]}")
    day = 24 * 3600.0  # a block may take long, so its speed is the mean over all blocks, not over the last half minute
    with _bar(what, count, total=blocks, done=done, speed_estimate_period=day) as (progress, task):
        yield BlockProgress(progress, task, done)


@contextmanager
def _bar(
    what: str, *amount: ProgressColumn, total: float | None = None, done: float = 0, speed_estimate_period: float = 30.0
) -> Iterator[tuple[Progress, TaskID]]:
    """Draw a bar with the given columns for the amount done, the time passed and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *amount,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    hidden = not bars_are_shown()
    with _ReportedProgress(
        *columns, console=_console(), transient=True, disable=hidden, speed_estimate_period=speed_estimate_period
    ) as progress:
        task = progress.add_task(what, total=total, completed=int(done), rate="")
        progress.update(task)  # also reports it
        yield progress, task
