"""How sure a number is: the same sample drawn anew many times, and the range that the middle of the draws falls into.

The percentile bootstrap (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13). A draw says how often each item
is taken, so that sums over items are a matrix product, and two methods that are given the same draws are compared
in pairs: what makes an item hard for both falls out of their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cleftnet.errors import InputError
from cleftnet.metrics.voxels import Floats, Integers

DRAWS, LEVEL = 10_000, 0.95


class Interval(NamedTuple):
    """A range of values.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """True when the value lies in the range, ends included."""
        return self.low <= value <= self.high


def draw(sizes: Sequence[int], draws: int = DRAWS, seed: int = 0) -> Integers:
    """Return how often each item is taken in each draw: as many of each group, with replacement, as it has.

    Args:
        sizes: How many items each group (such as a volume) has.
        draws: How many times.
        seed: The same seed gives the same draws.

    Returns:
        Counts `draws items`, the groups one after the other.

    Raises:
        InputError: when a group is empty or there is no draw.

    Example:
        >>> taken = draw([3, 2], draws=4)
        >>> taken.shape, taken[:, :3].sum(1).tolist(), taken[:, 3:].sum(1).tolist()
        ((4, 5), [3, 3, 3, 3], [2, 2, 2, 2])
    """
    if draws < 1 or not sizes or min(sizes) < 1:
        raise InputError(f"{draws} draws from groups of {list(sizes)} items; expected at least one of each")
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in sizes], axis=1).astype(np.int64)


def interval(values: Floats, level: float = LEVEL) -> Interval | None:
    """Return the range of the middle share of the values; None when more than that share's rest is undefined (NaN).

    Example:
        >>> interval(np.arange(5.0), level=0.5)
        Interval(low=1.0, high=3.0)
    """
    defined = values[np.isfinite(values)]
    if not defined.size or defined.size < level * values.size:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
