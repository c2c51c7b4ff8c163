"""What is done with a block, in three steps, and how often a step that fails is tried again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

from cleftnet.errors import InputError
from cleftnet.geometry import Block, IntZYX

P = ParamSpec("P")
T = TypeVar("T")

PAUSE_S = 0.2  # before the second try of a step, doubled before each further one

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


Tick = Callable[[float], None]


class Work(Protocol):
    """What is done with every block. It can be pickled, and the same block always gives the same result.

    The three steps of one block follow each other; while one block is computed, the next may be read and the last one
    written by other threads. Only one block of a process is computed at a time.
    """

    def start(self, threads: int) -> None:
        """Prepare a worker process, which has this many threads for itself; not called where the blocks are done at home."""

    def read(self, block: Block) -> Any:
        """Return what `compute` needs."""

    def compute(self, block: Block, data: Any, tick: Tick) -> Any:
        """Return what `write` shall write; `tick` may be told now and then which share of the block is done."""

    def write(self, block: Block, result: Any) -> None:
        """Write the block's write box and nothing else; when this returns, it is on disk."""


@dataclass(frozen=True)
class Division:
    """How a volume is cut into blocks and who does them; none of this changes the result.

    Attributes:
        block: Sides of a block in voxels, z y x, rounded up to whole chunks; None chooses by the work's memory.
        workers: Worker processes on this machine; 0 does the blocks in this process.
        scheduler: A Dask scheduler whose workers do the blocks: its address, such as `tcp://10.0.0.1:8786`, or the JSON file
            that `dask scheduler --scheduler-file` wrote.
        tries: How often a step is tried before its block is given up.

    Raises:
        InputError: when a number is out of range, or both workers and a scheduler are asked for.
    """

    block: IntZYX | None = None
    workers: int = 0
    scheduler: str | None = None
    tries: int = 3

    def __post_init__(self) -> None:
        if self.workers < 0 or self.tries < 1:
            raise InputError(f"workers {self.workers} must be at least 0, and tries {self.tries} at least 1")
        if self.workers and self.scheduler:
            raise InputError("both --workers and --scheduler are given; a scheduler has its own workers: choose one")
        if self.block is not None and min(self.block) < 1:
            raise InputError(f"block {self.block} needs three positive sides z,y,x in voxels; try --block 64,512,512")


@dataclass(frozen=True)
class Outcome:
    """What became of a block: finished, or given up with the last error."""

    index: int
    block: Block
    error: Exception | None = None


Todo = Iterable[tuple[int, Block]]
Finish = Callable[[Outcome], None]  # called from any thread, as soon as a block is on disk or given up


class UnfinishedError(RuntimeError):
    """Raised when blocks failed, or the workers were lost, through no fault of the input; what was finished is kept."""


def is_disk_full(error: BaseException | None) -> bool:
    """True for the operating system's errors that every further write would meet as well."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def attempt(tries: int, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a step returns, trying it several times before its last error is raised; a full disk is not tried again.

    Example:
        >>> attempt(3, divmod, 7, 2)
        (3, 1)
    """
    for further in range(tries - 1):
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if is_disk_full(error):
                raise
            time.sleep(PAUSE_S * 2**further)
    return step(*args, **kwargs)


def in_silence(share: float) -> None:
    """Be told which share of a block is done where nobody watches."""
