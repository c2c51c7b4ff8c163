"""Progress on stderr for everything longer than a second: bars where it is a terminal, plain lines of news always."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
