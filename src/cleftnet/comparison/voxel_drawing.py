"""Training data of decision trees: features at voxels drawn from labelled regions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cleftnet.blockwise import BlockGrid
from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.models.filters import Float32, features, halo
from cleftnet.progress import track
from cleftnet.training.validation import Region
from cleftnet.volumes import CLEFT, NOT_CLEFT, classes, intensity

BLOCK_VOX: IntZYX = (16, 512, 512)


def common_voxel_size(regions: Sequence[Region]) -> FloatZYX:
    """Return the voxel size z y x in nm that all regions have.

    Raises:
        InputError: when they have different ones.
    """
    size = regions[0].raw.voxel_size_nm
    for region in regions:
        if region.raw.voxel_size_nm != size:
            raise InputError(
                f"{region.raw.address} has voxels of {region.raw.voxel_size_nm} nm and {regions[0].raw.address} of {size} nm "
                f"(z y x); trees learn from one size"
            )
    return size


def draw_features(
    regions: Sequence[Region], sigmas_nm: Sequence[float], number: int, seed: int
) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Draw voxels as `draw_voxels` does, with the features of `cleftnet.models.filters`.

    Args:
        regions: Raw and labels, of one voxel size.
        sigmas_nm: Scales of the filters.
        number: How many voxels to draw.
        seed: Seed of the drawn voxels.

    Raises:
        InputError: when voxel sizes differ, or when cleft or background is missing.
    """
    size = common_voxel_size(regions)
    see = functools.partial(features, voxel_size_nm=size, sigmas_nm=sigmas_nm)
    return draw_voxels(regions, see, halo(size, sigmas_nm), number, np.random.default_rng(seed))


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
            f"the regions hold {clefts:,} cleft voxels and {others:,} others; trees need both: check labels and regions"
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
