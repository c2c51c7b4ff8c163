"""Random augmentation that keeps raw and labels aligned: the paper's (§IV-C), and artifacts of serial sections.

The paper rotates, flips and changes gray values. Rotations are only in the plane, because sections are ten times
thicker than pixels are wide. A patch is a pure function of its place in a volume and of a seeded generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cleftnet.geometry import Box, IntZYX
from cleftnet.patches.artifacts import blurred, missing, noisy, uneven
from cleftnet.patches.deformation import UNFOLDED, Deformation, Shifts, elastic, rotation, scaled
from cleftnet.patches.patch import Patch
from cleftnet.settings import Settings


class AugmentSettings(Settings):
    """Probability and largest size of each change to a patch; the defaults are the paper's.

    Attributes:
        rotate: Probability of a rotation in the plane.
        rotation: `any` angle, cut from a larger crop, raw interpolated; or `quarter` turns, exact on the voxel grid
            (only 180° where the patch is not square).
        scale: Probability of a change of size in the plane.
        scale_factor: Largest factor by which tissue is enlarged or reduced.
        flip: Probability of a flip, along a random non-empty choice of the three axes.
        grayscale: Probability of a change of brightness, contrast and gamma.
        brightness: Largest shift of raw, of its range 0-1.
        contrast: Largest relative change of raw's distance from its mean.
        gamma: Largest change of the exponent's logarithm.
        misalign: Probability of a misalignment: in half the cases one section is shifted, otherwise all from one on.
        misalign_vox: Largest shift along y and x.
        elastic: Probability of a smooth deformation in the plane, the same for all sections.
        elastic_vox: Largest displacement of its control points.
        elastic_spacing_vox: Distance between its control points.
        grayscale_sections: Probability that brightness and contrast differ from section to section.
        blur: Probability that one section is blurred.
        blur_vox: Largest standard deviation of the blur, in pixels.
        noise: Probability of Gaussian noise.
        noise_sigma: Its largest standard deviation, of raw's range 0-1.
        missing: Probability that one section is lost: black, or in half the cases the mean gray of the patch.
    """

    rotate: float = Field(0.5, ge=0, le=1)
    rotation: Literal["any", "quarter"] = "any"
    scale: float = Field(0.0, ge=0, le=1)
    scale_factor: float = Field(1.15, ge=1, le=2)
    flip: float = Field(0.5, ge=0, le=1)
    grayscale: float = Field(0.2, ge=0, le=1)
    brightness: float = Field(0.1, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    gamma: float = Field(0.3, ge=0)
    misalign: float = Field(0.0, ge=0, le=1)
    misalign_vox: int = Field(10, ge=1)
    elastic: float = Field(0.0, ge=0, le=1)
    elastic_vox: float = Field(8.0, gt=0)
    elastic_spacing_vox: int = Field(64, ge=2)
    grayscale_sections: float = Field(0.0, ge=0, le=1)
    blur: float = Field(0.0, ge=0, le=1)
    blur_vox: float = Field(2.0, gt=0)
    noise: float = Field(0.0, ge=0, le=1)
    noise_sigma: float = Field(0.05, gt=0, le=1)
    missing: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _does_not_fold(self) -> Self:
        if self.elastic_vox > (limit := UNFOLDED * self.elastic_spacing_vox):
            raise ValueError(
                f"elastic_vox {self.elastic_vox:g} would fold the tissue: expected at most {limit:g}, which is "
                f"{UNFOLDED} of elastic_spacing_vox {self.elastic_spacing_vox}"
            )
        return self


def flip(patch: Patch, axes: tuple[int, ...]) -> Patch:
    """Return the patch mirrored along the given axes."""
    return patch.each(lambda a: np.flip(a, axes))


def rotate(patch: Patch, quarter_turns: int) -> Patch:
    """Return the patch rotated in the y x plane by a number of quarter turns."""
    return patch.each(lambda a: np.rot90(a, quarter_turns, axes=(1, 2)))


def grayscale(patch: Patch, brightness: float, contrast: float, gamma: float) -> Patch:
    """Return the patch with gray values `(contrast · (raw − mean) + mean + brightness) ** gamma`, clipped to 0-1."""
    mean = patch.raw.mean()
    raw = np.clip(contrast * (patch.raw - mean) + mean + brightness, 0, 1) ** gamma
    return patch._replace(raw=raw.astype(np.float32, copy=False))


def slip(depth: int, section: int, shift: tuple[int, int]) -> Shifts:
    """Return the shifts z 2 of a stack in which one section is shifted."""
    shifts = np.zeros((depth, 2), np.intp)
    shifts[section] = shift
    return shifts


def translation(depth: int, first: int, shift: tuple[int, int]) -> Shifts:
    """Return the shifts z 2 of a stack in which all sections from `first` on are shifted."""
    shifts = np.zeros((depth, 2), np.intp)
    shifts[first:] = shift
    return shifts


def augment(read: Callable[[Box], Patch], box: Box, settings: AugmentSettings, rng: np.random.Generator) -> Patch:
    """Return the patch at a box after random changes; the same generator state gives the same result.

    Args:
        read: Reads the patch at any box in the same sections, also one that reaches outside the volume
            (`LabelledVolume.patch`).
        box: Place of the patch.
        settings: Probability and largest size of each change.
        rng: Random generator; its draws depend on `settings` and on the box's shape, never on what is read.

    Returns:
        A patch of the box's shape, contiguous.

    Example:
        >>> def read(box):
        ...     return Patch(np.ones(box.shape, np.float32), np.zeros(box.shape, np.float32))
        >>> augment(read, Box.of((2, 4, 4)), AugmentSettings(), np.random.default_rng(0)).raw.shape
        (2, 4, 4)
    """
    degrees, quarter_turns = _draw_rotation(box.shape, settings, rng)
    axes = _draw_flip(settings, rng)
    deformation = _draw_deformation(box.shape, degrees, settings, rng)
    patch = deformation.apply(read(deformation.reads(box)))
    patch = flip(rotate(patch, quarter_turns), axes)
    return _change_raw(patch, settings, rng).each(np.ascontiguousarray)


def _draw_rotation(shape: IntZYX, settings: AugmentSettings, rng: np.random.Generator) -> tuple[float | None, int]:
    """Draw an angle in degrees (None keeps the voxel grid) and a number of quarter turns."""
    if not _happens(settings.rotate, rng):
        return None, 0
    if settings.rotation == "any":
        return float(rng.uniform(0, 360)), 0
    return None, int(rng.integers(1, 4)) if shape[1] == shape[2] else 2


def _draw_flip(settings: AugmentSettings, rng: np.random.Generator) -> tuple[int, ...]:
    if not _happens(settings.flip, rng):
        return ()
    chosen = int(rng.integers(1, 8))  # a non-empty subset of three axes, as bits
    return tuple(axis for axis in range(3) if chosen >> axis & 1)


def _draw_deformation(
    shape: IntZYX, degrees: float | None, settings: AugmentSettings, rng: np.random.Generator
) -> Deformation:
    depth, *sides = shape
    plane, shifts, places = (sides[0], sides[1]), np.zeros((depth, 2), np.intp), None
    if degrees is not None:
        places = rotation(plane, degrees)
    if _happens(settings.scale, rng):
        largest = math.log(settings.scale_factor)
        places = scaled(rotation(plane, 0) if places is None else places, math.exp(rng.uniform(-largest, largest)))
    if _happens(settings.misalign, rng):
        kind = slip if depth == 1 or rng.random() < 0.5 else translation
        section = int(rng.integers(1 if kind is translation else 0, depth))
        y, x = (int(v) for v in rng.integers(-settings.misalign_vox, settings.misalign_vox + 1, 2))
        shifts = kind(depth, section, (y, x))
    if _happens(settings.elastic, rng):
        moves = elastic(plane, settings.elastic_spacing_vox, settings.elastic_vox, rng)
        places = (rotation(plane, 0) if places is None else places) + moves
    return Deformation(plane, shifts, places)


def _change_raw(patch: Patch, settings: AugmentSettings, rng: np.random.Generator) -> Patch:
    """Change gray values in the order of their physical causes: exposure, focus, detector noise, loss of a section."""
    depth = len(patch.raw)
    if _happens(settings.grayscale, rng):
        patch = grayscale(
            patch,
            brightness=rng.uniform(-settings.brightness, settings.brightness),
            contrast=1 + rng.uniform(-settings.contrast, settings.contrast),
            gamma=float(np.exp(rng.uniform(-settings.gamma, settings.gamma))),
        )
    if _happens(settings.grayscale_sections, rng):
        brightness = rng.uniform(-settings.brightness, settings.brightness, depth)
        patch = uneven(patch, brightness, 1 + rng.uniform(-settings.contrast, settings.contrast, depth))
    if _happens(settings.blur, rng):
        patch = blurred(patch, int(rng.integers(depth)), rng.uniform(0, settings.blur_vox))
    if _happens(settings.noise, rng):
        patch = noisy(patch, rng.uniform(0, settings.noise_sigma), rng)
    if _happens(settings.missing, rng):
        section, black = int(rng.integers(depth)), rng.random() < 0.5
        patch = missing(patch, section, 0.0 if black else float(patch.raw.mean()))
    return patch


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw whether a change happens; a probability of 0 draws nothing, so a new setting changes no seeded patch."""
    return probability > 0 and rng.random() < probability
