"""Runs the work on every unfinished block, in the calling process or on a cluster, and records finished blocks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from cleftnet.blockwise.work import (
    ExecutionSettings,
    Finish,
    Outcome,
    Tick,
    Todo,
    UnfinishedError,
    Work,
    attempt,
)
from cleftnet.errors import InputError
from cleftnet.files import disk_full, full_disk
from cleftnet.geometry import Block
from cleftnet.progress import block_bar

log = logging.getLogger(__name__)

GIVE_UP = 20  # failed blocks in a row after which the cause cannot be these blocks alone


class FinishedBlocks(Protocol):
    """The numbers of the finished blocks: a `Journal`, or a set where nothing is to be resumed."""

    def add(self, index: int, /) -> None:
        """Record a finished block."""

    def __contains__(self, index: object, /) -> bool: ...
    def __len__(self) -> int: ...


def map_blocks(
    work: Work,
    blocks: Sequence[Block],
    finished: FinishedBlocks,
    execution: ExecutionSettings,
    *,
    what: str = "blocks",
    environments: Sequence[dict[str, str]] = (),
    give_up: int | None = None,
) -> None:
    """Run the work on every block that is not finished, and record each block as soon as it is on disk.

    A block that still fails after several tries is reported in the log, while the others go on.

    Args:
        work: The three steps for a block.
        blocks: All blocks; no two of them write into one chunk.
        finished: The blocks that need no work; finished blocks are added to it.
        execution: Which processes compute the blocks.
        what: Label of the progress bar.
        environments: Environment variables of the worker processes on this machine, assigned in turn.
        give_up: Number of failed blocks in a row after which the others are left; None leaves them after `GIVE_UP`.

    Raises:
        InputError: when blocks failed, all of them because of the input, or when the disk is full; finished blocks are kept.
        UnfinishedError: when blocks failed, or the scheduler was lost; finished blocks are kept.
    """
    if len(finished):
        log.info(f"{len(finished):,} of {len(blocks):,} blocks were finished before; computing the others")
    todo = ((index, blocks[index]) for index in range(len(blocks)) if index not in finished)
    with block_bar(what, len(blocks), len(finished)) as progress:
        tally = _Tally(finished, progress.block, give_up or GIVE_UP)
        if execution.uses_workers:
            from cleftnet.blockwise.cluster import on_cluster  # Dask takes a second to import

            on_cluster(work, todo, execution, tally.count, environments)
        else:
            _in_this_process(work, todo, execution.tries, tally.count, progress.share)
    if tally.failed:
        raise tally.error(f"{len(tally.failed):,} of {len(blocks):,} blocks failed")


def _in_this_process(work: Work, todo: Todo, tries: int, finish: Finish, tick: Tick) -> None:
    """Compute the blocks in turn, while one thread reads the next and another writes the previous block.

    At most three blocks are in memory at a time. Whatever `finish` raises ends the map.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        writing: Future[None] | None = None
        for index, block, data in _reading_ahead(reader, work, todo, tries):
            try:
                result = attempt(tries, work.compute, block, data.result(), tick)
            except Exception as error:
                finish(Outcome(index, block, error))
                continue
            if writing is not None:
                writing.result()
            writing = writer.submit(_write, work, Outcome(index, block), result, tries, finish)
        if writing is not None:
            writing.result()


def _reading_ahead(
    reader: ThreadPoolExecutor, work: Work, todo: Todo, tries: int
) -> Iterator[tuple[int, Block, Future[Any]]]:
    """Yield every block with its input, after the thread has begun to read the next block."""
    ahead: tuple[int, Block, Future[Any]] | None = None
    for index, block in todo:
        behind, ahead = ahead, (index, block, reader.submit(attempt, tries, work.read, block))
        if behind is not None:
            yield behind
    if ahead is not None:
        yield ahead


def _write(work: Work, done: Outcome, result: Any, tries: int, finish: Finish) -> None:
    try:
        attempt(tries, work.write, done.block, result)
    except Exception as error:
        done = Outcome(done.index, done.block, error)
    finish(done)


class _Tally:
    """Counts finished and failed blocks."""

    def __init__(self, finished: FinishedBlocks, progress: Callable[[int], None], give_up: int) -> None:
        self.finished, self.progress, self.give_up = finished, progress, give_up
        self.failed: list[Outcome] = []
        self.in_a_row = 0
        self.turn = threading.Lock()

    def count(self, outcome: Outcome) -> None:
        """Record a finished block; report one that failed.

        Raises:
            InputError: when the disk is full, or so many blocks failed in a row that the others would too.
            UnfinishedError: when as many failed in a row for another reason than the input.
        """
        with self.turn:
            error = outcome.error
            try:
                if error is None:
                    self.finished.add(outcome.index)
            except OSError as failure:
                error = failure
            if (full := disk_full(error)) is not None:
                raise full_disk(full, full.filename, "finished blocks") from error
            if error is None:
                self.in_a_row = 0
                self.progress(outcome.block.write.voxels)
                return
            self.failed.append(outcome)
            self.in_a_row += 1
            log.warning(f"block {outcome.block.write} failed: {_one_line(error)}")
            if self.in_a_row == self.give_up:
                raise self.error(f"{self.give_up} blocks in a row failed, and the others were left")

    def error(self, what: str) -> InputError | UnfinishedError:
        """Return the error to raise: an `InputError` if every failure was one."""
        causes = [outcome.error for outcome in self.failed]
        kind = InputError if all(isinstance(cause, InputError) for cause in causes) else UnfinishedError
        error = kind(
            f"{what}, the first at {self.failed[0].block.write}: {_one_line(causes[0])}; finished blocks are kept: when "
            f"that is mended, run the same command again"
        )
        error.__cause__ = causes[0]
        return error


def _one_line(error: BaseException | None) -> str:
    text = str(error).splitlines()
    return text[0] if text and text[0] else type(error).__name__
