"""Training data of a random forest: filter responses at several scales, at voxels drawn from labelled regions.

Scales are in nm, so anisotropic voxels are treated as they are: along an axis where a scale is less than half a voxel, it
neither smooths nor differentiates. In serial sections, fine scales are therefore two-dimensional.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.blockwise import BlockGrid
from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.progress import track
from cleftnet.training.validation import Region
from cleftnet.volumes import CLEFT, NOT_CLEFT, classes, intensity

TRUNCATE = 3.0  # standard deviations at which a Gaussian is cut
FLAT = 0.5  # voxels; a scale below this sees one voxel only
BLOCK_VOX: IntZYX = (16, 512, 512)

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
    found = np.empty((*seen.shape, 1 + sum(3 + len(axes_of(s, voxel_size_nm)) for s in sigmas_nm)), np.float32)
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


def draw_voxels(
    regions: Sequence[Region],
    see: Callable[..., Float32],
    reach: IntZYX,
    number: int,
    rng: np.random.Generator,
) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Draw voxels without replacement, half of them in clefts, and compute their features.

    The number of voxels of each block is drawn first, then which ones. Any voxel of a class is therefore as likely as any
    other, and only one block is in memory at a time.

    Args:
        regions: Raw and labels.
        see: Computes features `voxels features` of raw, float32 `z y x`, at `where`, three arrays of coordinates.
        reach: How many voxels z y x around a voxel its features depend on.
        number: How many voxels to draw: half in clefts, or all of those if there are fewer; the rest elsewhere.
        rng: Random number generator.

    Returns:
        Features `voxels features`, and for each voxel whether it is cleft.

    Raises:
        InputError: when no voxel is labelled as cleft, or none as background.
    """
    grids = [BlockGrid(region.raw.box, BLOCK_VOX, reads=functools.partial(Box.grow, by=reach)) for region in regions]
    blocks = [(region, block) for region, grid in zip(regions, grids, strict=True) for block in grid]
    counts = np.array([_count(region, block.write) for region, block in blocks])  # blocks × (background, cleft)
    others, clefts = counts.sum(axis=0)
    if not clefts or not others:
        raise InputError(
            f"the regions hold {clefts:,} cleft voxels and {others:,} others; a forest needs both: check labels and regions"
        )
    wanted_clefts = min(number // 2, clefts)
    wanted = (min(number - wanted_clefts, others), wanted_clefts)
    shares = np.stack(
        [rng.multivariate_hypergeometric(counts[:, k], wanted[k], method="marginals") for k in (0, 1)], axis=1
    )
    rows, cleft = [], []
    for (region, block), share in track(list(zip(blocks, shares, strict=True)), "measuring features", len(blocks)):
        if not share.any():
            continue
        kinds = classes(region.labels[block.write])
        chosen = [
            rng.choice(np.flatnonzero(kinds == kind), n, replace=False, shuffle=False)
            for kind, n in zip((NOT_CLEFT, CLEFT), share, strict=True)
        ]
        places = np.unravel_index(np.concatenate(chosen), kinds.shape)
        corner = block.write.relative_to(block.read.start).start
        where = tuple(place + first for place, first in zip(places, corner, strict=True))
        rows.append(see(intensity(region.raw[block.read]), where=where))
        cleft.append(np.repeat([False, True], share))
    return np.concatenate(rows), np.concatenate(cleft)


def _count(region: Region, box: Box) -> tuple[int, int]:
    """Return how many voxels of a box are labelled as background, and how many as cleft."""
    kinds = classes(region.labels[box])
    return int(np.count_nonzero(kinds == NOT_CLEFT)), int(np.count_nonzero(kinds == CLEFT))
