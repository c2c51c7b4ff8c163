"""Pictures of sections as WebP data URIs: gray values, and transparent tints to lay over them.

Colors are those of Okabe & Ito, which color-blind readers can tell apart.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from cleftnet.geometry import IntZYX
from cleftnet.metrics.voxels import Mask
from cleftnet.reporting.mistakes import Errors
from cleftnet.volumes import CLEFT, UNLABELLED, Array, intensity

UInt8 = npt.NDArray[np.uint8]

# The colors of captions and boxes in page.css.
TRUTH, PROBABILITY, DISTANCE, RIGHT = (86, 180, 233), (230, 159, 0), (204, 121, 167), (86, 180, 233)
FALSE_POSITIVE, FALSE_NEGATIVE, UNKNOWN = (213, 94, 0), (0, 158, 115), (128, 128, 128)
OPACITY = 160  # of 255: raw stays visible beneath
LEVELS = 16  # of a tint by value; more are invisible over raw, and larger
QUALITY = 72  # of raw as WebP; 100 is best
MAX_PIXELS = 24_000_000  # of raw on a page, over all scenes: about 9 MB
MAX_WIDTH = 1600  # pixels of a section


@dataclass(frozen=True)
class Reduction:
    """Resolution and number of the sections that are shown.

    Attributes:
        factor: Number of pixels along y and x that become one.
        step: Every step-th section is shown.
    """

    factor: int = 1
    step: int = 1

    @classmethod
    def fitting(cls, shapes: Sequence[IntZYX], max_pixels: int = MAX_PIXELS) -> Reduction:
        """Choose the smallest reduction with which all sections fit: first lower resolution, to a quarter, then fewer sections.

        Example:
            >>> Reduction.fitting([(20, 256, 768)]), Reduction.fitting([(125, 1250, 1250)] * 3)
            (Reduction(factor=1, step=1), Reduction(factor=4, step=2))
        """
        pixels = sum(math.prod(shape) for shape in shapes)
        factor = max(1, -(-max(width for _, _, width in shapes) // MAX_WIDTH))
        while factor < 4 and pixels > max_pixels * factor**2:
            factor += 1
        return cls(factor, max(1, math.ceil(pixels / (max_pixels * factor**2))))

    def __str__(self) -> str:
        parts = []
        if self.factor > 1:
            parts.append(f"1/{self.factor} of the resolution along y and x")
        if self.step > 1:
            parts.append(f"every {self.step}th section")
        return ", ".join(parts) or "full resolution, every section"


def gray_values(raw: Array) -> UInt8:
    """Return raw as gray values 0-255, stretched so that the darkest and brightest thousandth are black and white."""
    values = intensity(raw)
    low, high = np.quantile(values[:, ::4, ::4], [0.001, 0.999])
    gray: UInt8 = ((values - low) / max(high - low, 1e-6) * 255).clip(0, 255).round().astype(np.uint8)
    return gray


def gray_picture(section: UInt8, factor: int = 1) -> str:
    """Return gray values y x as a data URI, averaged over `factor` by `factor` pixels."""
    if factor > 1:
        section = _tiles(section, factor).mean(axis=(1, 3)).round().astype(np.uint8)
    return _uri(Image.fromarray(section), quality=QUALITY, method=4)


def tint_by_value(section: Array, color: tuple[int, int, int], factor: int = 1) -> str:
    """Return a probability or distance y x (uint8, or float 0-1) as a tint that is more opaque for higher values."""
    strength = section if section.dtype == np.uint8 else (section * 255).round().astype(np.uint8)
    strength = _largest(strength, factor)
    level = (strength.astype(np.uint16) * (LEVELS - 1) + 127) // 255
    palette = [(*color, 200 * n // (LEVELS - 1)) for n in range(LEVELS)]
    return _tint(level.astype(np.uint8), palette)


def tint_of_truth(section: UInt8, factor: int = 1) -> str:
    """Return the classes of the truth y x as a tint: clefts blue, unlabelled voxels gray."""
    return _tint(_largest(section, factor), {CLEFT: (*TRUTH, OPACITY), UNLABELLED: (*UNKNOWN, OPACITY)})


def tint_of_errors(predicted: Mask, truth: UInt8, factor: int = 1) -> str:
    """Return right and wrong voxels y x as a tint: right blue, false positives vermilion, false negatives green."""
    wrong = Errors.of(predicted, truth)
    shown = np.where(predicted & (truth == CLEFT), 1, 0).astype(np.uint8)
    shown[wrong.negative], shown[wrong.positive] = 2, 3
    colors = {1: (*RIGHT, 140), 2: (*FALSE_NEGATIVE, 210), 3: (*FALSE_POSITIVE, 210)}
    return _tint(_largest(shown, factor), colors)


def _tint(level: UInt8, colors: dict[int, tuple[int, int, int, int]] | list[tuple[int, int, int, int]]) -> str:
    table = np.zeros((256, 4), np.uint8)
    for index, color in enumerate(colors) if isinstance(colors, list) else colors.items():
        table[index] = color
    return _uri(Image.fromarray(table[level]), lossless=True, method=2)


def _largest(section: UInt8, factor: int) -> UInt8:
    """Return the largest of `factor` by `factor` pixels, so that small objects stay visible."""
    return np.asarray(_tiles(section, factor).max(axis=(1, 3))) if factor > 1 else section


def _tiles(section: UInt8, factor: int) -> UInt8:
    height, width = (-(-side // factor) for side in section.shape)
    padded = np.pad(
        section, [(0, height * factor - section.shape[0]), (0, width * factor - section.shape[1])], mode="edge"
    )
    return padded.reshape(height, factor, width, factor)


def _uri(image: Image.Image, **options: bool | int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
