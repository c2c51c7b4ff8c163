"""What is unusual about the gray values of a raw volume: nearly empty contrast, or contrast that looks inverted.

Membranes are thin and dark in electron micrographs. At the scale of a membrane (a Gaussian of 12 nm) dark ridges are therefore
sharper than bright ones, and in an inverted volume it is the other way around; docs/data.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cleftnet.volumes.gray import NormalizationSettings, sample_boxes, sampled_values
from cleftnet.volumes.volume import Array, Volume

MEMBRANE_NM = 12.0  # standard deviation of the Gaussian
MEMBRANE_VOX = 2.0  # in its place, where the voxel size is unknown
INVERTED = -0.1  # dark ridges less sharp than bright ones by a factor of 2 to this power, in the median over the sample
EMPTY = 0.1  # share of the range of the type below which the contrast counts as nearly empty


@dataclass(frozen=True)
class GrayStatistics:
    """The gray values of a volume, from a sample of its blocks.

    Attributes:
        low: The 0.5th percentile, without zeros.
        high: The 99.5th percentile, without zeros.
        share: Share of the range of the type (of 0 to 1 for floats) that lies between them.
        dark_ridges: Sharpness of dark ridges in proportion to bright ones, as a power of 2; negative in an inverted volume.
    """

    low: float
    high: float
    share: float
    dark_ridges: float

    def warnings(self) -> list[str]:
        """Return what a network that expects dark membranes and the whole range would stumble over."""
        found = []
        low, high = f"{self.low:g}", f"{self.high:g}"
        if self.share < EMPTY:
            found.append(
                f"gray values use {self.share:.1%} of the range of their type; predict with gray_range=({low}, {high}), or "
                f"with a model that was trained with data.normalize"
            )
        if self.dark_ridges < INVERTED:
            found.append(
                f"contrast looks inverted (bright membranes); look at it, and if so predict with gray_range=({high}, {low})"
            )
        return found


def gray_statistics(volume: Volume) -> GrayStatistics:
    """Measure the gray values of a volume on a sample of its blocks.

    Example:
        >>> raw = np.random.default_rng(0).normal(2000, 100, (8, 64, 64)).astype(np.uint16)
        >>> statistics = gray_statistics(Volume(raw, (40, 4, 4)))
        >>> len(statistics.warnings()), round(statistics.share, 3)
        (1, 0.008)
    """
    values = sampled_values(volume)
    low, high = np.percentile(values, NormalizationSettings().percentiles).tolist() if values.size else (0.0, 0.0)
    full = 1.0
    if volume.dtype.kind in "iu":
        full = float(np.iinfo(volume.dtype).max) - float(np.iinfo(volume.dtype).min)
    sides = (MEMBRANE_VOX,) * 2 if volume.voxel_size is None else [MEMBRANE_NM / side for side in volume.voxel_size[1:]]
    sharpness = [_dark_ridges(volume[box][::4], (0.0, sides[0], sides[1])) for box in sample_boxes(volume.box)]
    known = [value for value in sharpness if np.isfinite(value)]
    return GrayStatistics(low, high, (high - low) / full, float(np.median(known)) if known else 0.0)


def _dark_ridges(block: Array, sigmas: tuple[float, float, float]) -> float:
    """Return log2 of the 99th percentile of the curvature across dark ridges, divided by that across bright ones."""
    gray = block.astype(np.float32)
    yy, xx, yx = (ndimage.gaussian_filter(gray, sigmas, order=order) for order in ((0, 2, 0), (0, 0, 2), (0, 1, 1)))
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)  # the eigenvalues are middle ± half
    dark, bright = np.percentile(middle + half, 99), np.percentile(half - middle, 99)
    return float(np.log2(dark / bright)) if dark > 0 and bright > 0 else float("nan")
