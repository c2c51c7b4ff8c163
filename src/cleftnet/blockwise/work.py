"""The work on one block in three steps, the settings that decide where it runs, and retries of failed steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from cleftnet.files import disk_full
from cleftnet.geometry import Block
from cleftnet.settings import Settings, Sides

P = ParamSpec("P")
T = TypeVar("T")

PAUSE_S = 0.2  # before the second try of a step, doubled before each further one

Tick = Callable[[float], None]  # takes the finished share, 0 to 1, of the block in progress


class Work(Protocol):
    """What `map_blocks` does with every block. It can be pickled, and the same block always gives the same result.

    The three steps of one block follow each other. While one block is computed, other threads may read the next block and
    write the previous one. A process computes only one block at a time.
    """

    def start(self, threads: int) -> None:
        """Prepare a worker process that may use this many threads; not called where blocks run in the calling process."""

    def read(self, block: Block) -> Any:
        """Return the input of `compute`."""

    def compute(self, block: Block, data: Any, tick: Tick) -> Any:
        """Return the input of `write`; may call `tick` with the finished share of the block."""

    def write(self, block: Block, result: Any) -> None:
        """Write the block's write box and nothing else; the voxels are on disk when this returns."""


class ExecutionSettings(Settings):
    """How a volume is cut into blocks, which processes compute them, and how an interrupted run is completed.

    Attributes:
        block: Sides of a block in voxels, z y x, rounded up to whole chunks; None chooses them by the memory of a block.
        workers: Number of worker processes on this machine; 0 computes the blocks in the calling process.
        scheduler: Dask scheduler whose workers compute the blocks: its address, such as `tcp://10.0.0.1:8786`, or the JSON
            file that `dask scheduler --scheduler-file` wrote.
        tries: How often a step of a block is tried before the block counts as failed.
        accept_changed_input: Complete an output although the voxels of its input have changed since it was begun; it then
            holds blocks of both. By default that is an error. Nothing else here changes the result.

    Raises:
        InputError: when a number is out of range, or both workers and a scheduler are given.
    """

    block: Sides | None = None
    workers: int = Field(0, ge=0)
    scheduler: str | None = None
    tries: int = Field(3, ge=1)
    accept_changed_input: bool = False

    @property
    def uses_workers(self) -> bool:
        """Whether other processes compute the blocks."""
        return bool(self.workers or self.scheduler)

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
    """The result of a block: finished, or failed with the error of its last try."""

    index: int
    block: Block
    error: Exception | None = None


Todo = Iterable[tuple[int, Block]]
Finish = Callable[[Outcome], None]  # called from any thread as soon as a block is on disk or has failed


class UnfinishedError(RuntimeError):
    """Raised when blocks failed or the workers were lost for another reason than the input; finished blocks are kept."""


def attempt(tries: int, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a step up to `tries` times and return its result, or raise its last error; a full disk is not tried again.

    Example:
        >>> attempt(3, divmod, 7, 2)
        (3, 1)
    """
    for further in range(tries - 1):
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if disk_full(error) is not None:
                raise
            time.sleep(PAUSE_S * 2**further)
    return step(*args, **kwargs)


def ignore_progress(share: float) -> None:
    """Progress callback that does nothing."""
