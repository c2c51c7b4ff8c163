"""Random changes to a patch that keep raw and labels aligned: flips, in-plane rotation, grayscale (paper §IV-C).

Pure functions of a patch and a seeded generator. Rotations are multiples of 90°, exact on the voxel grid, and only in the
plane, because sections are ten times thicker than pixels are wide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cleftnet.volumes.volume import Array


class Patch(NamedTuple):
    """One training example, axes z y x.

    Attributes:
        raw: float32 in [0, 1].
        classes: uint8: 0 not cleft, 1 cleft, 2 unlabelled.
        distance: float32 in [0, 1], the tanh distance map.
    """

    raw: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint8]
    distance: npt.NDArray[np.float32]

    def each(self, change: Callable[[Array], Array]) -> Patch:
        """Return the patch with the same change made to all of its arrays."""
        return Patch(change(self.raw), change(self.classes), change(self.distance))


class AugmentSettings(BaseModel):
    """How often each change happens; the defaults are the paper's.

    Attributes:
        rotate: Probability of a rotation by 90°, 180° or 270° in the plane (180° where the patch is not square).
        flip: Probability of a flip, along a random non-empty choice of the three axes.
        grayscale: Probability of a change of brightness, contrast and gamma.
        brightness: Largest shift of raw, of its range 0-1.
        contrast: Largest relative change of raw's distance from its mean.
        gamma: Largest change of the exponent's logarithm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotate: float = Field(0.5, ge=0, le=1)
    flip: float = Field(0.5, ge=0, le=1)
    grayscale: float = Field(0.2, ge=0, le=1)
    brightness: float = Field(0.1, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    gamma: float = Field(0.3, ge=0)


def flip(patch: Patch, axes: tuple[int, ...]) -> Patch:
    """Return the patch mirrored along the given axes."""
    return patch.each(lambda a: np.flip(a, axes))


def rotate(patch: Patch, quarter_turns: int) -> Patch:
    """Return the patch turned in the y x plane by a number of quarter turns."""
    return patch.each(lambda a: np.rot90(a, quarter_turns, axes=(1, 2)))


def grayscale(patch: Patch, brightness: float, contrast: float, gamma: float) -> Patch:
    """Return the patch with other gray values: `(contrast · (raw − mean) + mean + brightness) ** gamma`, cut to 0-1."""
    mean = patch.raw.mean()
    raw = np.clip(contrast * (patch.raw - mean) + mean + brightness, 0, 1) ** gamma
    return patch._replace(raw=raw.astype(np.float32))


def augment(patch: Patch, settings: AugmentSettings, rng: np.random.Generator) -> Patch:
    """Return the patch after the random changes of the paper; the same generator state gives the same result.

    Example:
        >>> zeros = np.zeros((2, 4, 4), np.float32)
        >>> out = augment(Patch(zeros, zeros.astype(np.uint8), zeros), AugmentSettings(), np.random.default_rng(0))
        >>> out.raw.shape
        (2, 4, 4)
    """
    if rng.random() < settings.rotate:
        _, y, x = patch.raw.shape
        patch = rotate(patch, int(rng.integers(1, 4)) if y == x else 2)
    if rng.random() < settings.flip:
        chosen = int(rng.integers(1, 8))  # a non-empty subset of three axes, as bits
        patch = flip(patch, tuple(axis for axis in range(3) if chosen >> axis & 1))
    if rng.random() < settings.grayscale:
        patch = grayscale(
            patch,
            brightness=rng.uniform(-settings.brightness, settings.brightness),
            contrast=1 + rng.uniform(-settings.contrast, settings.contrast),
            gamma=float(np.exp(rng.uniform(-settings.gamma, settings.gamma))),
        )
    return patch.each(np.ascontiguousarray)
