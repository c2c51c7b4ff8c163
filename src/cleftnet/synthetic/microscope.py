"""Turns absorbance into gray values, section by section, with noise, uneven brightness and defective sections.

An electron passes with probability exp(-absorbance) (Beer-Lambert): stains add up, and the darkest of them saturate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.synthetic.sections import Float, Sections, SmoothNoise

_WHITE = 235.0  # gray value where every electron passes
_GRAIN = 0.18  # how unevenly stain takes, at full absorbance
_DEFECTS = ("stain", "faint", "missing")  # precipitate on the section; hardly any contrast; lost, hence black


def expose(
    sections: Sections, rng: np.random.Generator, absorbance: Float, *, noise: float, contrast: float, defects: float
) -> npt.NDArray[np.uint8]:
    """Return the image of every section.

    Args:
        sections: Stack of sections.
        rng: Draws noise, brightness and defects.
        absorbance: Absorbance of the tissue, ≥ 0, z y x.
        noise: Standard deviation of the shot noise at full brightness, as a share of white.
        contrast: Standard deviation of brightness (in halves of white) and contrast (factor) between sections.
        defects: Probability that a section is defective.

    Returns:
        Gray values z y x, dark where the tissue absorbs.
    """
    shading, blot = SmoothNoise(sections, rng, 900), SmoothNoise(sections, rng, 150)
    raw = np.empty(sections.shape, np.uint8)
    for z, picture in enumerate(raw):
        defect = str(rng.choice(_DEFECTS)) if rng.random() < defects else "none"
        grain = _blurred_noise(rng, picture.shape, 1.0)
        stained = absorbance[z] * (1 + _GRAIN * grain) + 0.08 * grain
        if defect == "stain":
            stained += 1.5 * np.clip(4 * blot.section(z) - 3, 0, 1)
        light = ndimage.gaussian_filter(np.exp(-np.maximum(stained, 0)), rng.uniform(0.5, 0.9))  # the focus
        light += noise * np.sqrt(light) * _blurred_noise(rng, picture.shape, 0.5)
        gain, bias = 1 + contrast * rng.standard_normal(), contrast * rng.standard_normal()
        if defect == "faint":
            gain *= 0.3
        light = 0.5 + gain * (light - 0.5) + 0.5 * bias + 0.02 * shading.section(z)
        picture[:] = 0 if defect == "missing" else np.clip(np.rint(_WHITE * light), 0, 255)
    return raw


def _blurred_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Float:
    """Return Gaussian noise of deviation near 1 whose grains are about `sigma_px` wide."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma_px)
    return np.asarray(noise / noise.std(), np.float32)
