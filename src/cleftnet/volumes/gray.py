"""Gray values of a volume: their range on a fixed sample, whether they look inverted, and the volume with that range as 0-255.

Laboratories differ in contrast, bit depth and sign. A model may be trained on volumes whose percentiles were brought to one
range; every volume that it then sees is brought to the same range, once for the whole volume or section by section.
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
MATCHED = (5.0, 95.0)  # percentiles by which the contrast of two volumes is matched
SAMPLE_BLOCKS = 64  # at most, which is 8 million voxels
SECTION_BLOCKS = 16  # at most, of a section
LEAST_OF_SECTION = 4096  # gray values that are not 0, else a section is not measured by itself
LEAST_CONTRAST = 0.5  # of that of the volume


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


Floats = npt.NDArray[np.float64]
Percentiles = Annotated[tuple[float, float], AfterValidator(_check_percentiles)]
Levels = Annotated[tuple[float, float], AfterValidator(_check_levels)]
GrayRange = Annotated[tuple[float, float], AfterValidator(_check_range)]


class NormalizationSettings(Settings):
    """How the gray values of every volume are brought to one range; it belongs to the model that was trained with it.

    Attributes:
        percentiles: Two percentiles of the volume's gray values.
        levels: What they become, of 0 (black) to 255 (white). Where a model was trained without normalization, those that its
            training data have at these percentiles give every other volume the contrast that it knows (`matched_to`).
        sections: Measure every section by itself, since sections of one volume differ too. A section without much to measure,
            or with less than half the contrast of the volume, which has hardly any tissue, is taken as the volume is.
    """

    percentiles: Percentiles = (0.5, 99.5)
    levels: Levels = (0.0, 255.0)
    sections: bool = False


def sample_boxes(box: Box) -> Iterator[Box]:
    """Yield at most `SAMPLE_BLOCKS` boxes spread evenly over a volume; they depend on its shape alone.

    Example:
        >>> [str(part) for part in sample_boxes(Box.of((8, 128, 300)))]
        ['0:8,0:128,0:128', '0:8,0:128,128:256', '0:8,0:128,256:300']
    """
    counts = [-(-n // side) for n, side in zip(box.shape, SAMPLE_BLOCK, strict=True)]
    for place in _lattice(counts, SAMPLE_BLOCKS):
        start = [b + n * side for b, n, side in zip(box.start, place, SAMPLE_BLOCK, strict=True)]
        yield Box.at(start, SAMPLE_BLOCK).intersect(box)


def _lattice(counts: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Return all places of a grid, or as many as may be, as evenly spread along each axis as its length allows."""
    kept = list(counts)
    while np.prod(kept) > most:  # thin out the axis with the most places
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
    return _black_and_white(low, high, settings.levels)


def _black_and_white(low: float, high: float, levels: tuple[float, float]) -> tuple[float, float]:
    """Return the gray values that become 0 and 255 where these two become levels."""
    slope = (high - low) / (levels[1] - levels[0])
    return low - levels[0] * slope, low + (255 - levels[0]) * slope


def _section_ranges(volume: Volume, sections: range, settings: NormalizationSettings, whole: GrayRange) -> Floats:
    """Return the range of every section, `z 2`, from a sample of each; that of the volume where a section has no own."""
    ranges = np.tile(np.array(whole), (len(sections), 1))
    (_, height, width), (depth, *sides) = volume.shape, SAMPLE_BLOCK
    counts = [-(-n // side) for n, side in zip((height, width), sides, strict=True)]
    places = [(y * sides[0], x * sides[1]) for y, x in _lattice(counts, SECTION_BLOCKS)]
    for first in sections[::depth]:
        shape = (min(depth, sections.stop - first), *sides)
        boxes = [Box.at((first, *place), shape).intersect(volume.box) for place in places]
        sample = np.concatenate([volume[box].reshape(box.shape[0], -1) for box in boxes], axis=1)
        for z, values in enumerate(sample, first - sections.start):
            kept = values[values != 0]
            if kept.size < LEAST_OF_SECTION or not np.isfinite(kept).all():
                continue
            low, high = np.percentile(kept, settings.percentiles).tolist()
            black, white = _black_and_white(low, high, settings.levels)
            if white - black >= LEAST_CONTRAST * (whole[1] - whole[0]):
                ranges[z] = black, white
    return ranges


def matched_to(volume: Volume, *, sections: bool = False) -> NormalizationSettings:
    """Return the settings that give every volume the contrast of this one; without `sections` this one stays as it is.

    Args:
        volume: Gray values as a model sees them without normalization.
        sections: Give every section this contrast.

    Raises:
        InputError: when the volume has no contrast.

    Example:
        >>> known = Volume(np.arange(1, 202, dtype=np.uint8).reshape(1, 1, -1))
        >>> brighter = replace(known, store=known.read() + np.uint8(50))
        >>> normalized(brighter, matched_to(known)).read()[0, 0, ::50].tolist()
        [1, 51, 101, 151, 201]
    """
    low, high = measured_range(volume, NormalizationSettings(percentiles=MATCHED))
    to_255 = 255 / float(np.iinfo(volume.dtype).max) if volume.dtype.kind == "u" else 255.0
    return NormalizationSettings(percentiles=MATCHED, levels=(low * to_255, high * to_255), sections=sections)


@dataclass(frozen=True, eq=False)
class _RangedStore:
    """The store of a volume in a gray range, which may be another one in every section: arrays `z 1 1`."""

    parent: Volume
    low: Floats
    high: Floats

    @property
    def shape(self) -> IntZYX:
        return self.parent.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __getitem__(self, index: Slices) -> Array:
        values, sections = self.parent[index], index[0]
        low, high = self.low[sections], self.high[sections]
        scaled = (values.astype(np.float32) - low.astype(np.float32)) * (255 / (high - low)).astype(np.float32)
        return np.where(values == 0, np.uint8(0), np.rint(scaled.clip(1, 255)).astype(np.uint8))


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
    return _ranged(volume, np.tile(np.array(gray_range, np.float64), (volume.shape[0], 1)), gray_range)


def _ranged(volume: Volume, ranges: Floats, whole: GrayRange) -> Volume:
    """Show a volume in a range for every section, `z 2`."""
    low, high = ranges.T[..., None, None]
    return replace(
        volume,
        store=_RangedStore(volume, low, high),
        address=f"{volume.address} from {whole[0]:g} to {whole[1]:g}",
    )


def normalized(volume: Volume, settings: NormalizationSettings | None) -> Volume:
    """Show a volume as a model that was trained with these settings sees it; the volume itself without settings.

    A part that was cropped from a volume is seen as it is in the whole.

    Raises:
        InputError: when the volume has no contrast.
    """
    return volume if settings is None else normalized_from(volume, settings)[0]


def normalized_from(volume: Volume, settings: NormalizationSettings) -> tuple[Volume, tuple[float, float]]:
    """Return `normalized`, and the gray values of the whole volume that become black and white.

    Raises:
        InputError: when the volume has no contrast.
    """
    whole, box = volume.uncropped()
    found = measured_range(whole, settings)
    if not settings.sections:
        return in_gray_range(volume, found), found
    return _ranged(volume, _section_ranges(whole, range(box.start[0], box.stop[0]), settings, found), found), found
