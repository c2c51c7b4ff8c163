"""Estimates precision and recall of all synapses from the decisions about the candidates of a review."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

LEVEL, Z = 0.95, 1.959964  # of the intervals, and the quantile of the normal distribution that belongs to it


class Estimate(BaseModel):
    """A share of synapses, from 0 to 1.

    Attributes:
        value: The estimate; None where too little is decided.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float
    high: float


class DecidedCounts(NamedTuple):
    """Decisions about the candidates of one kind; redrawn ones are right, skipped ones are not decided.

    Attributes:
        candidates: All candidates of the kind.
        decided: Those that are decided.
        right: Those that are synapses.
    """

    candidates: int
    decided: int
    right: int

    @property
    def undecided(self) -> int:
        """Those that are not decided."""
        return self.candidates - self.decided

    @property
    def share(self) -> float | None:
        """Share of the decided ones that are right."""
        return self.right / self.decided if self.decided else None


def wilson(right: int, decided: int, population: int) -> Estimate:
    """Return the share of a population that is right, from a random sample of it, with Wilson's score interval.

    The sample is enlarged by the finite population correction (Cochran, *Sampling Techniques*, 1977, ch. 3), so that a
    population that is decided completely has no interval. Source: Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.

    Args:
        right: Members of the sample that are right.
        decided: Size of the sample.
        population: Size of the population.

    Example:
        >>> wilson(8, 10, 10**9).model_dump()  # doctest: +ELLIPSIS
        {'value': 0.8, 'low': 0.490..., 'high': 0.943...}
        >>> wilson(8, 10, 10).low
        0.8
    """
    if not decided:
        return Estimate(value=None, low=0.0, high=1.0)
    share = right / decided
    if decided >= population:
        return Estimate(value=share, low=share, high=share)
    n = decided * (population - 1) / (population - decided)
    center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Estimate(value=share, low=max(0.0, center - half), high=min(1.0, center + half))


def estimate_precision(uncertain: DecidedCounts, random: DecidedCounts, synapses: int) -> Estimate:
    """Return which share of all synapses is right.

    The least certain ones are all candidates, and count for themselves. The random sample stands for all others, with Wilson's
    interval. At the lower end of the interval, uncertain ones that are not decided count as wrong, at the upper end as right.

    Args:
        uncertain: Decisions about the least certain synapses.
        random: Decisions about the random sample of the others.
        synapses: Number of all synapses.

    Example:
        >>> estimate_precision(DecidedCounts(10, 10, 4), DecidedCounts(10, 10, 10), 20)
        Estimate(value=0.7, low=0.7, high=0.7)
    """
    others = synapses - uncertain.candidates
    of_others = wilson(random.right, random.decided, others)
    if not synapses:
        return Estimate(value=None, low=0.0, high=1.0)
    value = None
    needed = [share for share, size in ((uncertain.share, uncertain.candidates), (of_others.value, others)) if size]
    if all(share is not None for share in needed):
        value = (uncertain.candidates * (uncertain.share or 0.0) + others * (of_others.value or 0.0)) / synapses
    low, high = uncertain.right, uncertain.right + uncertain.undecided
    ends = ((low, of_others.low), (high, of_others.high))
    return Estimate(
        value=value,
        low=(ends[0][0] + others * ends[0][1]) / synapses,
        high=(ends[1][0] + others * ends[1][1]) / synapses,
    )


def estimate_recall(precision: Estimate, missed: DecidedCounts, synapses: int) -> Estimate:
    """Return which share of the synapses that are there was found, if all missed ones are among the candidates.

    Args:
        precision: Precision of the synapses.
        missed: Decisions about the places where a synapse was probably missed.
        synapses: Number of all synapses that were found.

    Example:
        >>> estimate_recall(Estimate(value=0.9, low=0.9, high=0.9), DecidedCounts(10, 10, 1), 10).value
        0.9
    """

    def share(found: float, lost: float) -> float:
        return found / (found + lost) if found + lost else 0.0

    value = None
    if precision.value is not None and (missed.share is not None or not missed.candidates):
        value = share(synapses * precision.value, missed.candidates * (missed.share or 0.0))
    low = share(synapses * precision.low, missed.right + missed.undecided)
    return Estimate(value=value, low=low, high=share(synapses * precision.high, missed.right) if synapses else 1.0)


def count_by_kind(verdicts: Mapping[int, str], candidates: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """Return how many candidates of each kind there are, and how many have each verdict.

    Args:
        verdicts: The verdict on each candidate that is decided.
        candidates: The kind of each candidate.

    Example:
        >>> count_by_kind({1: "accept", 2: "skip"}, {1: "random", 2: "random", 3: "random"})
        {'random': {'candidates': 3, 'accept': 1, 'skip': 1}}
    """
    counts: dict[str, dict[str, int]] = {}
    for candidate, kind in candidates.items():
        own = counts.setdefault(kind, {"candidates": 0})
        own["candidates"] += 1
        if candidate in verdicts:
            own[verdicts[candidate]] = own.get(verdicts[candidate], 0) + 1
    return counts
