"""The label augmentor (§III-B of the paper): turns each voxel's label into its class and tanh distance to the boundary.

It is applied to whole volumes, not to patches: a voxel outside the patch is not background (docs/method.md, "Label
augmentor").
"""

from __future__ import annotations

import math
from typing import Literal

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.volumes import BACKGROUND, Array, is_cleft, is_labelled

FARTHEST = 9.1  # the tanh of any larger distance is 1 in float32
FARTHEST_OUTSIDE = 3.0  # limit outside clefts of a signed map: tanh 3 = 0.995

Mask = npt.NDArray[np.bool_]
Distance = npt.NDArray[np.float32]


def distance_map(
    labels: Array,
    *,
    unit: Literal["voxel", "nm"] = "voxel",
    voxel_size_nm: FloatZYX | None = None,
    scale_nm: float | None = None,
    signed: bool = False,
) -> Distance:
    """Return `y_b` of Eq. 6: tanh of the distance to the boundary inside each cleft, 0 outside.

    The boundary is the first voxel outside the cleft, so every cleft voxel is at least one voxel away from it and `y_b
    > 0` exactly on clefts. Touching clefts with different ids have a boundary between them. Neither the border of the
    volume nor an unlabelled voxel is a boundary: the cleft may continue there.

    The signed map (Heinrich et al. 2018) equals it inside clefts. Outside it is minus the tanh of the distance to the
    nearest cleft voxel, at least one voxel too, so that the sign changes between two voxels; distances end at
    `FARTHEST_OUTSIDE`.

    Args:
        labels: Instance ids z y x, background 0.
        unit: `voxel`, as the paper prints it (tanh(1) = 0.76, tanh(2) = 0.96), or `nm`: physical distance / `scale_nm`.
        voxel_size_nm: Voxel size z y x; required for `nm`.
        scale_nm: Distance whose tanh is 0.76; required for `nm` (Heinrich et al. 2018 use 50 nm).
        signed: Whether to measure distances outside clefts too.

    Returns:
        float32 in [0, 1], z y x; signed in (-1, 1], negative exactly on labelled voxels outside clefts.

    Raises:
        InputError: when the unit is unknown, or is `nm` without voxel size and scale.

    Example:
        >>> distance_map(np.array([[[0, 5, 5, 5, 0]]], np.uint64)).round(2).tolist()
        [[[0.0, 0.7599999904632568, 0.9599999785423279, 0.7599999904632568, 0.0]]]
        >>> distance_map(np.array([[[0, 0, 5]]], np.uint64), signed=True).round(2).tolist()
        [[[-0.9599999785423279, -0.7599999904632568, 0.7599999904632568]]]
    """
    spacing = _spacing(unit, voxel_size_nm, scale_nm)
    cleft, labelled = is_cleft(labels), is_labelled(labels)
    ids = np.where(cleft, labels, BACKGROUND)
    distance = edt.edt(ids, anisotropy=spacing, black_border=False, parallel=0)
    if not labelled.all():
        _measure_past_unlabelled(distance, ids, ~labelled, spacing)
    inside: Distance = np.tanh(distance, out=distance) * cleft
    return inside - _outside(cleft, labelled, spacing) if signed else inside


def _spacing(unit: str, voxel_size_nm: FloatZYX | None, scale_nm: float | None) -> FloatZYX:
    """Return the sides of a voxel z y x in units of the tanh's argument."""
    if unit == "voxel":
        return 1.0, 1.0, 1.0
    if unit != "nm":
        raise InputError(f"unknown distance unit '{unit}'; expected 'voxel' or 'nm'")
    if voxel_size_nm is None or scale_nm is None or scale_nm <= 0:
        raise InputError("a distance map in nm needs voxel_size_nm (z y x) and a positive scale_nm, such as 50")
    z, y, x = (v / scale_nm for v in voxel_size_nm)
    return z, y, x


def _outside(cleft: Mask, labelled: Mask, spacing: FloatZYX) -> Distance:
    """Return the tanh of the distance to the nearest cleft voxel, 0 on clefts and unlabelled voxels."""
    distance = edt.edt(~cleft, anisotropy=spacing, black_border=False, parallel=0)  # infinite without any cleft
    return np.tanh(np.minimum(distance, np.float32(FARTHEST_OUTSIDE))) * labelled  # type: ignore[no-any-return]


def _measure_past_unlabelled(distance: Distance, ids: Array, unlabelled: Mask, spacing: FloatZYX) -> None:
    """Measure clefts near unlabelled voxels again, in place, as if each cleft continued into them."""
    reach = [math.ceil(FARTHEST / side) for side in spacing]
    _, inverse = np.unique(ids, return_inverse=True)
    numbers = inverse.reshape(ids.shape)  # 0 is the background, the smallest id
    for number, where in enumerate(ndimage.find_objects(numbers), start=1):
        own = Box(*zip(*((s.start, s.stop) for s in where), strict=True))
        near = own.grow(reach).intersect(Box.of(ids.shape)).slices
        if unlabelled[near].any():
            cleft = numbers[near] == number
            alone = edt.edt(cleft | unlabelled[near], anisotropy=spacing, black_border=False, parallel=0)
            distance[near][cleft] = alone[cleft]
