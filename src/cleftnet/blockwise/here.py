"""Blocks done in this process: one is computed while a thread reads the next and another writes the last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cleftnet.blockwise.work import Finish, Outcome, Tick, Todo, Work, attempt
from cleftnet.geometry import Block


def in_this_process(work: Work, todo: Todo, tries: int, finish: Finish, tick: Tick) -> None:
    """Do the blocks in turn; at any time there are at most three in memory.

    Args:
        work: What is done with each.
        todo: The blocks and their numbers.
        tries: How often a step is tried.
        finish: Told of every block; what it raises ends everything.
        tick: Told which share of the block under way is done.
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
    """Yield every block with what is being read for it, the next block's reading having begun."""
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
