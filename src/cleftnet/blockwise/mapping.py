"""The map itself: every block that the journal lacks is done once, here or on a cluster, and recorded when it is on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from cleftnet.blockwise.here import in_this_process
from cleftnet.blockwise.journal import Journal
from cleftnet.blockwise.work import ExecutionSettings, Outcome, UnfinishedError, Work, is_disk_full
from cleftnet.errors import InputError
from cleftnet.geometry import Block
from cleftnet.progress import block_bar

log = logging.getLogger(__name__)

GIVE_UP = 20  # blocks failed in a row: whatever it is, it is not these blocks


def map_blocks(
    work: Work,
    blocks: Sequence[Block],
    journal: Journal,
    execution: ExecutionSettings,
    *,
    what: str = "blocks",
    environments: Sequence[dict[str, str]] = (),
) -> None:
    """Do every block that the journal does not have, and record each as soon as it is on disk.

    A block that fails, after several tries, is reported with its box while the others go on.

    Args:
        work: What is done with a block.
        blocks: All blocks; no two of them write into one chunk.
        journal: Which of them are finished, by their number.
        execution: Who does them.
        what: For the progress bar.
        environments: Variables of the environment for the worker processes of this machine, taken in turn.

    Raises:
        InputError: when blocks failed, all through the input, or when the disk is full; what is finished is kept.
        UnfinishedError: when blocks failed, or the scheduler was lost; what is finished is kept.
    """
    if journal:
        log.info(f"{len(journal):,} of {len(blocks):,} blocks were finished before; going on with the others")
    todo = ((index, blocks[index]) for index in range(len(blocks)) if index not in journal)
    with block_bar(what, len(blocks), len(journal)) as progress:
        tally = _Tally(journal, progress.block)
        if execution.workers or execution.scheduler:
            from cleftnet.blockwise.cluster import on_cluster  # Dask takes a second to import

            on_cluster(work, todo, execution, tally.count, environments)
        else:
            in_this_process(work, todo, execution.tries, tally.count, progress.share)
    if tally.failed:
        raise tally.error(f"{len(tally.failed):,} of {len(blocks):,} blocks failed")


class _Tally:
    """What became of the blocks so far."""

    def __init__(self, journal: Journal, progress: Callable[[int], None]) -> None:
        self.journal, self.progress = journal, progress
        self.failed: list[Outcome] = []
        self.in_a_row = 0
        self.turn = threading.Lock()

    def count(self, outcome: Outcome) -> None:
        """Record a finished block; report one that failed.

        Raises:
            InputError: when the disk is full, or so many blocks failed in a row that the others would too.
            UnfinishedError: the same, where the failures are not the input's.
        """
        with self.turn:
            error = outcome.error
            try:
                if error is None:
                    self.journal.add(outcome.index)
            except OSError as failure:
                error = failure
            if is_disk_full(error):
                assert isinstance(error, OSError)
                raise InputError(
                    f"the disk is full ({error.strerror}); free some space and run the same command again: "
                    f"finished blocks are kept"
                ) from error
            if error is None:
                self.in_a_row = 0
                self.progress(outcome.block.write.voxels)
                return
            self.failed.append(outcome)
            self.in_a_row += 1
            log.warning(f"block {outcome.block.write} failed: {_one_line(error)}")
            if self.in_a_row == GIVE_UP:
                raise self.error(f"{GIVE_UP} blocks in a row failed, and the others were left")

    def error(self, what: str) -> InputError | UnfinishedError:
        """Return what to raise: the input's fault where every failure was."""
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
