"""Artifacts of serial-section microscopy, added to raw: lost and blurred sections, noise, uneven exposure.

Each function returns a new patch with changed raw and unchanged labels. Misaligned sections, whose labels move too, are
in `cleftnet.patches.deformation`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cleftnet.patches.patch import Float32, Patch


def missing(patch: Patch, section: int, gray: float) -> Patch:
    """Return the patch with one section replaced by a single gray value; its labels stay.

    Example:
        >>> ones = np.ones((2, 1, 2), np.float32)
        >>> missing(Patch(ones, ones), 1, gray=0).raw.tolist()
        [[[1.0, 1.0]], [[0.0, 0.0]]]
    """
    return _with_section(patch, section, gray)


def blurred(patch: Patch, section: int, sigma_vox: float) -> Patch:
    """Return the patch with one section blurred in the plane by a Gaussian of `sigma_vox` pixels.

    Example:
        >>> point = np.zeros((1, 5, 5), np.float32)
        >>> point[0, 2, 2] = 1
        >>> bool(blurred(Patch(point, point), 0, 1.0).raw[0, 2, 2] < 0.2)
        True
    """
    return _with_section(patch, section, gaussian_filter(patch.raw[section], sigma_vox, truncate=3))


def noisy(patch: Patch, sigma: float, rng: np.random.Generator) -> Patch:
    """Return the patch with Gaussian noise of standard deviation `sigma` added to raw, clipped to 0-1."""
    noise = rng.standard_normal(patch.raw.shape, dtype=np.float32)
    noise *= np.float32(sigma)
    noise += patch.raw
    return patch._replace(raw=np.clip(noise, 0, 1, out=noise))


def uneven(patch: Patch, brightness: npt.ArrayLike, contrast: npt.ArrayLike) -> Patch:
    """Return the patch with sections exposed differently: `contrast · (raw − mean) + mean + brightness`, clipped to 0-1.

    Args:
        patch: The patch to change.
        brightness: Number to add to each section.
        contrast: Factor on each section's difference from its own mean.

    Example:
        >>> raw = np.array([[[0.25, 0.75]], [[0.25, 0.75]]], np.float32)
        >>> uneven(Patch(raw, raw), brightness=[0, 0.1], contrast=[1, 0]).raw.round(2).tolist()
        [[[0.25, 0.75]], [[0.6000000238418579, 0.6000000238418579]]]
    """
    factor, added = (np.asarray(v, np.float32)[:, None, None] for v in (contrast, brightness))
    mean = patch.raw.mean(axis=(1, 2), keepdims=True)
    raw = patch.raw * factor
    raw += mean * (1 - factor) + added
    return patch._replace(raw=np.clip(raw, 0, 1, out=raw))


def _with_section(patch: Patch, section: int, values: Float32 | float) -> Patch:
    raw = patch.raw.copy()
    raw[section] = values
    return patch._replace(raw=raw)
