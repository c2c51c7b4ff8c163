"""Progress on stderr for everything longer than a second: bars where it is a terminal, plain lines of news always."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


@functools.cache
def _console() -> Console:
    return Console(stderr=True, highlight=False)


def note(line: str) -> None:
    """Print one line of news to stderr, above any bar."""
    _console().print(line, soft_wrap=True, markup=False)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items while a bar shows how many of `total` are done, and the time left.

    Example:
        >>> list(track([1, 2], "counting", 2))
        [1, 2]
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console(), transient=True, disable=not _console().is_terminal) as bar:
        yield from bar.track(items, total=total, description=what)


@contextmanager
def bar(what: str, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the body runs; what is yielded takes the amount done and the amount in all.

    Example:
        >>> with bar("copying") as progress:
        ...     progress(1, 2)
    """
    amount = DownloadColumn() if in_bytes else TaskProgressColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=_console(), transient=True, disable=not _console().is_terminal) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def training_bar(steps: int, done: int, patches: int) -> Iterator[Callable[[int], None]]:
    """Show steps, patches a second and the time left while the body runs; what is yielded takes the step that is done.

    Args:
        steps: How many steps there are.
        done: How many an earlier leg of the training took.
        patches: How many patches a step takes.

    Example:
        >>> with training_bar(10, done=4, patches=16) as progress:
        ...     progress(5)
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console(), transient=True, disable=not _console().is_terminal) as shown:
        task = shown.add_task("training", total=steps, completed=done, rate="")

        def progress(step: int) -> None:
            speed = shown.tasks[0].speed
            shown.update(task, completed=step, rate="" if speed is None else f"{speed * patches:.3g} patches/s")

        yield progress


class Blocks:
    """A bar over blocks; told of every block, and in between of the share of the one under way."""

    def __init__(self, bar: Progress, task: TaskID, done: int) -> None:
        self._bar, self._task, self._done = bar, task, done
        self._begun, self._blocks, self._voxels = time.monotonic(), 0, 0

    def block(self, voxels: int) -> None:
        """Count a block of so many voxels."""
        self._blocks += 1
        self._voxels += voxels
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = f"{self._blocks / seconds:.3g} blocks/s, {self._voxels / seconds / 1e6:.3g} Mvoxel/s"
        self._bar.update(self._task, completed=self._done + self._blocks, rate=rate)

    def share(self, share: float) -> None:
        """Show a share, 0 to 1, of one more block."""
        self._bar.update(self._task, completed=self._done + self._blocks + share)


@contextmanager
def block_bar(what: str, blocks: int, done: int) -> Iterator[Blocks]:
    """Show blocks, blocks and voxels a second, and the time left while the body runs.

    Args:
        what: What is being done.
        blocks: How many blocks there are.
        done: How many an earlier run finished.

    Example:
        >>> with block_bar("predicting", 10, done=4) as progress:
        ...     progress.share(0.5)
        ...     progress.block(64 * 512 * 512)
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.4g}/{task.total} blocks {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    day = 24 * 3600.0  # a block may take long: the speed is that of all blocks, not of the last half minute
    off = not _console().is_terminal
    with Progress(*columns, console=_console(), transient=True, disable=off, speed_estimate_period=day) as shown:
        yield Blocks(shown, shown.add_task(what, total=blocks, completed=done, rate=""), done)
