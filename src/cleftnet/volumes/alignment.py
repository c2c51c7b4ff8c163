"""Finds the region that a prediction and its truth share, by their positions in nm and never by array index alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, nm_to_voxels
from cleftnet.volumes.volume import Volume

_SAME_SIZE = 1e-4  # relative: what float32 attributes lose, and far less than one voxel over any volume


@dataclass(frozen=True)
class Placement:
    """The region that both volumes cover.

    Args:
        prediction_box: The region in voxels of the prediction.
        truth_box: The same region in voxels of the truth.
        voxel_size_nm: Voxel size of both, z y x.
        notes: Warnings for a reader of the score, such as a prediction that covers only a part of the truth.
    """

    prediction_box: Box
    truth_box: Box
    voxel_size_nm: FloatZYX
    notes: tuple[str, ...] = ()


def place(prediction: Volume, truth: Volume, roi: Box | None = None) -> Placement:
    """Find the region that a prediction and its truth share, by their offsets in nm.

    Args:
        prediction: Any prediction; by its offset it may be larger than the truth (a padded CREMI file) or cover a part of it.
        truth: The labels.
        roi: The region to score, in voxels of the truth; the whole shared region, when None.

    Raises:
        InputError: when the voxel sizes differ, neither volume has one, the offsets do not lie on one grid, the volumes do not
            meet, the region of interest is not inside both, or shapes differ while no offset and no region says how they meet.

    Example:
        >>> import numpy as np
        >>> raw_sized = Volume(np.zeros((8, 30, 30), np.uint8), (40, 4, 4))
        >>> labels = Volume(np.zeros((4, 10, 10), np.uint64), (40, 4, 4), offset_nm=(80, 40, 40))
        >>> str(place(raw_sized, labels).prediction_box)
        '2:6,10:20,10:20'
    """
    voxel_size_nm, notes = _common_voxel_size(prediction, truth)
    shift = nm_to_voxels([t - p for t, p in zip(truth.offset_nm, prediction.offset_nm, strict=True)], voxel_size_nm)
    if prediction.shape != truth.shape and shift == (0, 0, 0) and roi is None:
        raise InputError(
            f"{prediction.address} is {_sides(prediction.box)} voxels and {truth.address} {_sides(truth.box)} (z×y×x), and no "
            f"offset says how they meet; set the attribute 'offset' (nm) of one, or give roi=... in voxels of the truth"
        )
    shared = prediction.box.shift([-s for s in shift]).intersect(truth.box)
    if shared.empty:
        raise InputError(
            f"{prediction.address} and {truth.address} do not overlap: they begin at {prediction.offset_nm} and "
            f"{truth.offset_nm} nm (z y x); check their 'offset' attributes"
        )
    if roi is not None:
        if not shared.contains(roi):
            raise InputError(
                f"region {roi} is not inside {shared}, which prediction and truth share (in voxels of the truth)"
            )
        shared = roi
    elif shared != truth.box:
        notes = (*notes, f"the prediction covers only {shared} of the truth's {truth.box}")
    return Placement(shared.shift(shift), shared, voxel_size_nm, notes)


def _common_voxel_size(prediction: Volume, truth: Volume) -> tuple[FloatZYX, tuple[str, ...]]:
    if truth.voxel_size is None and prediction.voxel_size is None:
        return truth.voxel_size_nm, ()  # raises: neither has one
    for known, other in ((truth, prediction), (prediction, truth)):
        if known.voxel_size is not None and other.voxel_size is None:
            sides = "×".join(f"{side:g}" for side in known.voxel_size)
            return known.voxel_size, (
                f"{other.address} carries no voxel size; taken to be {sides} nm, as {known.address}",
            )
    pairs = zip(prediction.voxel_size_nm, truth.voxel_size_nm, strict=True)
    if not all(math.isclose(p, t, rel_tol=_SAME_SIZE) for p, t in pairs):
        raise InputError(
            f"voxel sizes differ: {prediction.address} has {prediction.voxel_size} nm, {truth.address} "
            f"{truth.voxel_size} nm (z y x); correct the attribute 'resolution' of one, or resample the prediction"
        )
    return truth.voxel_size_nm, ()


def _sides(box: Box) -> str:
    return "×".join(map(str, box.shape))
