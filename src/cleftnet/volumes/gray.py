"""Gray values of a volume: their range on a fixed sample, whether they look inverted, and the volume with that range as 0-255.

Laboratories differ in contrast, bit depth and sign. A model may be trained on volumes whose percentiles were brought to one
range; every volume that it then sees is brought to the same range, once for the whole volume.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.settings import Settings
from cleftnet.volumes.volume import Array, Slices, Volume

SAMPLE_BLOCK: IntZYX = (8, 128, 128)
MATCHED = (5.0, 95.0)  # percentiles; those further out change more with blur and noise
SAMPLE_BLOCKS = 64  # at most, which is 8 million voxels


def _check_percentiles(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= values[0] < values[1] <= 100:
        raise ValueError("expected two ascending percentiles between 0 and 100, such as [0.5, 99.5]")
    return values


def _check_levels(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= values[0] < values[1] <= 255:
        raise ValueError("expected two ascending gray levels between 0 and 255, such as [30, 220]")
    return values


def _check_range(values: tuple[float, float]) -> tuple[float, float]:
    if not abs(values[0] - values[1]) > 0:  # also true of NaN
        raise ValueError("expected two different gray values, such as (1200, 3100)")
    return values


Percentiles = Annotated[tuple[float, float], AfterValidator(_check_percentiles)]
Levels = Annotated[tuple[float, float], AfterValidator(_check_levels)]
GrayRange = Annotated[tuple[float, float], AfterValidator(_check_range)]


class NormalizationSettings(Settings):
    """How the gray values of every volume are brought to one range; it belongs to the model that was trained with it.

    Attributes:
        percentiles: Two percentiles of the volume's gray values.
        levels: What they become, of 0 (black) to 255 (white). Where a model was trained without normalization, those that its
            training data have at these percentiles give every other volume the contrast that it knows (`matched_to`).
    """

    percentiles: Percentiles = (0.5, 99.5)
    levels: Levels = (0.0, 255.0)


def sample_boxes(box: Box) -> Iterator[Box]:
    """Yield at most `SAMPLE_BLOCKS` boxes spread evenly over a volume; they depend on its shape alone.

    Example:
        >>> [str(part) for part in sample_boxes(Box.of((8, 128, 300)))]
        ['0:8,0:128,0:128', '0:8,0:128,128:256', '0:8,0:128,256:300']
    """
    counts = [-(-n // side) for n, side in zip(box.shape, SAMPLE_BLOCK, strict=True)]
    everything = list(itertools.product(*map(range, counts))) if np.prod(counts) <= SAMPLE_BLOCKS else _lattice(counts)
    for place in everything:
        start = [b + n * side for b, n, side in zip(box.start, place, SAMPLE_BLOCK, strict=True)]
        yield Box.at(start, SAMPLE_BLOCK).intersect(box)


def _lattice(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Return at most `SAMPLE_BLOCKS` places of a grid, as evenly spread along each axis as its length allows."""
    kept = list(counts)
    while np.prod(kept) > SAMPLE_BLOCKS:  # thin out the axis with the most places
        kept[int(np.argmax(kept))] -= 1
    return list(
        itertools.product(*([(2 * n + 1) * c // (2 * k) for n in range(k)] for c, k in zip(counts, kept, strict=True)))
    )


def sampled_values(volume: Volume) -> Array:
    """Return the gray values of the sample, flat, without zeros, which are taken for padding.

    Raises:
        InputError: when the volume holds values that are no numbers.
    """
    values = np.concatenate([part[part != 0] for part in (volume[box].ravel() for box in sample_boxes(volume.box))])
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{volume.address} holds gray values that are not finite; replace them by 0")
    return values


def measured_range(volume: Volume, settings: NormalizationSettings) -> tuple[float, float]:
    """Return the gray values that become black and white, from a sample of a volume that depends on its shape alone.

    Args:
        volume: Gray values of any type.
        settings: The percentiles to measure, and the levels that they become.

    Raises:
        InputError: when the volume has no contrast.

    Example:
        >>> measured_range(Volume(np.arange(1, 202, dtype=np.uint16).reshape(1, 1, -1)), NormalizationSettings())
        (2.0, 200.0)
        >>> volume = Volume(np.arange(1, 202, dtype=np.uint16).reshape(1, 1, -1))
        >>> measured_range(volume, NormalizationSettings(levels=(51, 204)))  # 2 and 200 become a fifth and four fifths
        (-64.0, 266.0)
    """
    values = sampled_values(volume)
    low, high = np.percentile(values, settings.percentiles).tolist() if values.size else (0.0, 0.0)
    if not low < high:
        raise InputError(
            f"{volume.address} has no contrast: the percentiles {settings.percentiles} of its gray values are {low:g} and "
            f"{high:g}; check that it is the raw volume, or give the range: gray_range=(low, high)"
        )
    black, white = settings.levels
    slope = (high - low) / (white - black)
    return low - black * slope, low + (255 - black) * slope


def matched_to(volume: Volume, percentiles: tuple[float, float] = MATCHED) -> NormalizationSettings:
    """Return the settings that give every volume the contrast of this one, as 0-255; this one stays as it is.

    Args:
        volume: Gray values as a model sees them without normalization.
        percentiles: The percentiles to match.

    Raises:
        InputError: when the volume has no contrast.

    Example:
        >>> known = Volume(np.arange(1, 202, dtype=np.uint8).reshape(1, 1, -1))
        >>> brighter = replace(known, store=known.read() + np.uint8(50))
        >>> normalized(brighter, matched_to(known)).read()[0, 0, ::50].tolist()
        [1, 51, 101, 151, 201]
    """
    low, high = measured_range(volume, NormalizationSettings(percentiles=percentiles))
    to_255 = 255 / float(np.iinfo(volume.dtype).max) if volume.dtype.kind == "u" else 255.0
    return NormalizationSettings(percentiles=percentiles, levels=(low * to_255, high * to_255))


@dataclass(frozen=True)
class _RangedStore:
    """The store of a volume in a gray range."""

    parent: Volume
    low: float
    high: float

    @property
    def shape(self) -> IntZYX:
        return self.parent.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __getitem__(self, index: Slices) -> Array:
        values = self.parent[index]
        return np.where(values == 0, np.uint8(0), self._gray(values))

    def _gray(self, values: Array) -> npt.NDArray[np.uint8]:
        scaled = (values.astype(np.float32) - np.float32(self.low)) * np.float32(255 / (self.high - self.low))
        return np.asarray(np.rint(scaled.clip(1, 255)), np.uint8)


def in_gray_range(volume: Volume, gray_range: tuple[float, float]) -> Volume:
    """Show a volume lazily with a range of its gray values as 0-255 (uint8).

    Zeros stay 0, since they are taken for padding; everything else becomes 1 at least.

    Args:
        volume: Gray values of any type.
        gray_range: The values that become black and white; where the first is the larger one, the contrast is inverted.

    Example:
        >>> raw = Volume(np.array([[[0, 900, 1000, 1500, 2000, 9000]]], np.uint16))
        >>> in_gray_range(raw, (1000, 2000)).read().tolist()
        [[[0, 1, 1, 128, 255, 255]]]
    """
    low, high = gray_range
    return replace(
        volume,
        store=_RangedStore(volume, float(low), float(high)),
        address=f"{volume.address} from {low:g} to {high:g}",
    )


def normalized(volume: Volume, settings: NormalizationSettings | None) -> Volume:
    """Show a volume as a model that was trained with these settings sees it; the volume itself without settings.

    Raises:
        InputError: when the volume has no contrast.
    """
    return volume if settings is None else in_gray_range(volume, measured_range(volume, settings))
