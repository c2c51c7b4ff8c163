"""What is done with a block, in three steps, and how often a step that fails is tried again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from cleftnet.geometry import Block
from cleftnet.settings import Settings, Sides

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


class ExecutionSettings(Settings):
    """How a volume is cut into blocks and which processes compute them; none of this changes the result.

    Attributes:
        block: Sides of a block in voxels, z y x, rounded up to whole chunks; None chooses them by the memory of a block.
        workers: Number of worker processes on this machine; 0 computes the blocks in the calling process.
        scheduler: Dask scheduler whose workers compute the blocks: its address, such as `tcp://10.0.0.1:8786`, or the JSON
            file that `dask scheduler --scheduler-file` wrote.
        tries: How often a step of a block is tried before the block counts as failed.

    Raises:
        InputError: when a number is out of range, or both workers and a scheduler are given.
    """

    block: Sides | None = None
    workers: int = Field(0, ge=0)
    scheduler: str | None = None
    tries: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _check_one_kind_of_workers(self) -> Self:
        if self.workers and self.scheduler:
            raise ValueError(
                f"workers={self.workers} and scheduler={self.scheduler} exclude each other, since a scheduler has its own "
                f"workers; choose one"
            )
        return self


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
