"""Keeps the decisions of a review: a file of JSON lines that is only appended to, and survives a crash at any byte."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cleftnet.errors import InputError, nearest

log = logging.getLogger(__name__)

Verdict = Literal["accept", "reject", "redraw", "skip"]
VERDICTS: tuple[str, ...] = get_args(Verdict)


class ReviewDecision(BaseModel):
    """What one person decided about one candidate, and when.

    Attributes:
        review: Identity of the review set, so that decisions of another one are noticed.
        id: The candidate.
        verdict: "accept" (a synapse as it is), "reject" (none), "redraw" (a synapse of another shape) or "skip".
        by: Name of the person.
        time: When it was decided, with its time zone.
        redrawn: File of the redrawn labels, relative to the folder of the review; None otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    review: str
    id: int
    verdict: Verdict
    by: str = Field(min_length=1)
    time: AwareDatetime
    redrawn: str | None = None

    @classmethod
    def now(cls, review: str, candidate: int, verdict: str, by: str, redrawn: str | None) -> ReviewDecision:
        """Return a decision made at this moment.

        Raises:
            InputError: when there is no such verdict, or no name.
        """
        if verdict not in VERDICTS:
            raise InputError(f"verdict='{verdict}' is none; {nearest(verdict, list(VERDICTS))}")
        if not by.strip():
            raise InputError("a decision needs the name of the person who made it; give it, as in by='ada'")
        time = datetime.now(UTC)
        return cls.model_validate(
            {"review": review, "id": candidate, "verdict": verdict, "by": by.strip(), "time": time, "redrawn": redrawn}
        )


@dataclass(frozen=True)
class DecisionLog:
    """The decisions of one review, in the order in which they were made.

    Attributes:
        path: The file, one JSON object a line.
        review: Identity of the review set.
        known: Ids of its candidates.
    """

    path: Path
    review: str
    known: Collection[int]

    def read(self) -> list[ReviewDecision]:
        """Return all decisions; a last line that was not written to its end is left out, with a warning.

        Raises:
            InputError: when a line is no decision, belongs to another review, or decides an unknown candidate.
        """
        lines, torn = self._lines()
        if torn:
            log.warning(f"{self.path}: the last line was not written to its end and is left out; decide that one again")
        return [self._parsed(number, line) for number, line in enumerate(lines, start=1)]

    def append(self, decision: ReviewDecision) -> None:
        """Add a decision; after this returns, a crash cannot undo it. Torn bytes at the end of the file are cut off first."""
        _, torn = self._lines()
        with self.path.open("r+b") as file:
            file.seek(-len(torn), os.SEEK_END)
            file.truncate()
            file.write(decision.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> tuple[list[bytes], bytes]:
        """Return the complete lines, and the bytes after the last line end."""
        try:
            *lines, torn = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}; expected the folder of a review") from None
        return lines, torn

    def _parsed(self, number: int, line: bytes) -> ReviewDecision:
        try:
            decision = ReviewDecision.model_validate_json(line)
        except ValidationError:
            raise InputError(
                f"{self.path}: line {number} is no decision; correct or remove it ({line[:60].decode(errors='replace')})"
            ) from None
        if decision.review != self.review:
            raise InputError(
                f"{self.path}: line {number} decides candidate {decision.id} of another review ({decision.review}, not "
                f"{self.review}); remove it"
            )
        check_known(decision.id, self.known, f"{self.path}: line {number}: ")
        return decision


def check_known(candidate: int, known: Collection[int], where: str = "") -> None:
    """Raise `InputError` when there is no such candidate.

    Args:
        candidate: The id.
        known: Ids of the candidates.
        where: Beginning of the message.
    """
    if candidate not in known:
        expected = f"1 to {max(known)}" if known else "none, since the review is empty"
        raise InputError(f"{where}there is no candidate {candidate}; known are {expected}")


def conflicting(decisions: Sequence[ReviewDecision]) -> dict[int, dict[str, str]]:
    """Return the candidates on which people disagree, each with the last verdict of every person; skips disagree with none.

    Example:
        >>> one = ReviewDecision.now("r", 3, "accept", "ada", None)
        >>> conflicting([one, ReviewDecision.now("r", 3, "reject", "ben", None)])
        {3: {'ada': 'accept', 'ben': 'reject'}}
        >>> conflicting([one, ReviewDecision.now("r", 3, "reject", "ada", None)])
        {}
    """
    last: dict[int, dict[str, str]] = {}
    for decision in decisions:
        last.setdefault(decision.id, {})[decision.by] = decision.verdict
    held = {number: {by: v for by, v in people.items() if v != "skip"} for number, people in last.items()}
    return {number: people for number, people in sorted(held.items()) if len(set(people.values())) > 1}


def describe_conflicts(conflicts: dict[int, dict[str, str]]) -> str:
    """Return conflicts in one line.

    Example:
        >>> describe_conflicts({3: {"ada": "accept", "ben": "reject"}})
        'candidate 3 (ada: accept, ben: reject)'
    """
    people = (f"{number} ({', '.join(f'{by}: {v}' for by, v in each.items())})" for number, each in conflicts.items())
    return f"candidate{'s' if len(conflicts) > 1 else ''} {', '.join(people)}"
