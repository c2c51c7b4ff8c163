"""What decision trees see of a voxel: responses of filters at several scales.

Scales are in nm, so anisotropic voxels are treated as they are: along an axis where a scale is less than half a voxel, it
neither smooths nor differentiates. In serial sections, fine scales are therefore two-dimensional.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.geometry import FloatZYX, IntZYX

TRUNCATE = 3.0  # standard deviations at which a Gaussian is cut
FLAT = 0.5  # voxels; a scale below this sees one voxel only

Float32 = npt.NDArray[np.float32]


def axes_of(sigma_nm: float, voxel_size_nm: FloatZYX) -> tuple[int, ...]:
    """Return the axes along which a scale sees more than one voxel.

    Example:
        >>> axes_of(20, (50, 4.6, 4.6)), axes_of(40, (50, 4.6, 4.6))
        ((1, 2), (0, 1, 2))
    """
    return tuple(axis for axis, side in enumerate(voxel_size_nm) if sigma_nm >= FLAT * side)


def halo(voxel_size_nm: FloatZYX, sigmas_nm: Sequence[float]) -> IntZYX:
    """Return how many voxels z y x around a box its features depend on.

    Example:
        >>> halo((50, 4.6, 4.6), [5, 80])
        (6, 53, 53)
    """
    reach = [0, 0, 0]
    for sigma in sigmas_nm:
        for axis in axes_of(sigma, voxel_size_nm):
            smoothed = int(TRUNCATE * sigma / voxel_size_nm[axis] + 0.5)  # rounded as SciPy does
            reach[axis] = max(reach[axis], smoothed + 1)  # one more for the differences
    return reach[0], reach[1], reach[2]


def number_of_features(voxel_size_nm: FloatZYX, sigmas_nm: Sequence[float]) -> int:
    """Return how many features a voxel has.

    Example:
        >>> number_of_features((50, 4.6, 4.6), [20, 40])
        12
    """
    return 1 + sum(3 + len(axes_of(sigma, voxel_size_nm)) for sigma in sigmas_nm)


def features(raw: Float32, voxel_size_nm: FloatZYX, sigmas_nm: Sequence[float], where: Any = ...) -> Float32:
    """Return raw, and for every scale its Gaussian, gradient magnitude, Laplacian and eigenvalues of the Hessian.

    Derivatives are central differences of the Gaussian, per nm, multiplied by the scale once for each order (Lindeberg's
    normalization).

    Args:
        raw: float32 in 0-1, axes z y x, with `halo` voxels around the requested ones unless the volume ends there.
        voxel_size_nm: z y x.
        sigmas_nm: Standard deviations of the Gaussians.
        where: NumPy index of the requested voxels; default: all.

    Returns:
        An array of the shape of `raw[where]` with one more axis, the features, at the end. It does not depend on where raw
        was cut.

    Example:
        >>> features(np.zeros((1, 8, 8), np.float32), (40, 4, 4), [8]).shape  # raw, and five of one flat scale
        (1, 8, 8, 6)
    """
    seen = raw[where]
    found = np.empty((*seen.shape, number_of_features(voxel_size_nm, sigmas_nm)), np.float32)
    found[..., 0], number = seen, 1
    for sigma in sigmas_nm:
        for values in _of_one_scale(raw, voxel_size_nm, sigma, where):
            found[..., number] = values
            number += 1
    return found


def _of_one_scale(raw: Float32, voxel_size_nm: FloatZYX, sigma_nm: float, where: Any) -> list[Float32]:
    axes = axes_of(sigma_nm, voxel_size_nm)
    smooth = raw
    for axis in axes:
        smooth = ndimage.gaussian_filter1d(smooth, sigma_nm / voxel_size_nm[axis], axis, truncate=TRUNCATE)
    step = {axis: sigma_nm / voxel_size_nm[axis] for axis in axes}
    slopes = {axis: _difference(smooth, axis) * np.float32(step[axis]) for axis in axes}
    hessian = {(axis, axis): _curvature(smooth, axis, where) * np.float32(step[axis] ** 2) for axis in axes}
    for one, other in itertools.combinations(axes, 2):
        hessian[one, other] = _difference(slopes[one], other)[where] * np.float32(step[other])
    slope = np.sqrt(sum(np.square(slopes[axis][where]) for axis in axes) + np.zeros_like(raw[where]))
    trace = sum((hessian[axis, axis] for axis in axes), np.zeros_like(raw[where]))
    return [smooth[where], slope, trace, *_eigenvalues(hessian, axes)]


def _difference(values: Float32, axis: int) -> Float32:
    """Half the difference of the two neighbors; the last voxel is repeated at the ends."""
    return np.asarray(ndimage.correlate1d(values, [-0.5, 0.0, 0.5], axis, mode="nearest"))


def _curvature(values: Float32, axis: int, where: Any) -> Float32:
    """The second difference."""
    return np.asarray(ndimage.correlate1d(values, [1.0, -2.0, 1.0], axis, mode="nearest")[where])


def _eigenvalues(hessian: dict[tuple[int, int], Float32], axes: tuple[int, ...]) -> list[Float32]:
    """The eigenvalues of symmetric matrices, voxel by voxel, ascending."""
    if len(axes) == 2:
        first, second = axes
        one, other, cross = hessian[first, first], hessian[second, second], hessian[first, second]
        middle = (one + other) / 2
        spread = np.sqrt(np.square((one - other) / 2) + np.square(cross))
        return [middle - spread, middle + spread]
    if not axes:
        return []
    matrices = np.empty((*hessian[axes[0], axes[0]].shape, len(axes), len(axes)), np.float32)
    for (row, i), (column, j) in itertools.product(enumerate(axes), repeat=2):
        matrices[..., row, column] = hessian[min(i, j), max(i, j)]
    found = np.asarray(np.linalg.eigvalsh(matrices), np.float32)
    return [found[..., number] for number in range(len(axes))]
