"""Turns a prediction into the mask whose 26-connected components are synapses: threshold, gaps bridged, holes filled.

Every step has a limited reach, so that a block with a halo around it gets the mask that the whole volume would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.metrics.predictions import PredictionKind, predicted_mask
from cleftnet.metrics.voxels import Mask
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.volumes import Array


@dataclass(frozen=True)
class Segmenter:
    """The steps from a prediction to a mask, for one voxel size and one kind of prediction.

    Attributes:
        kind: What the prediction holds.
        threshold: Threshold of a probability; None for a mask or labels.
        gap: Longest run of sections that is bridged.
        hole_vox: Widest hole that is filled, in voxels along y and x.
    """

    kind: PredictionKind
    threshold: float | None
    gap: int
    hole_vox: tuple[int, int]

    @classmethod
    def of(
        cls, point: OperatingPoint, kind: PredictionKind, threshold: float | None, voxel_size_nm: FloatZYX
    ) -> Segmenter:
        """Take the values of an operating point, with lengths in voxels."""
        y, x = (int(point.hole_nm / side) for side in voxel_size_nm[1:])
        return cls(kind, threshold, point.gap, (y, x))

    @property
    def halo(self) -> IntZYX:
        """How far away voxels affect the mask of a voxel, in voxels z y x."""
        return self.gap, *self.hole_vox

    def mask(self, values: Array) -> Mask:
        """Return the voxels of synapses; correct for voxels at least `halo` away from the border of `values`.

        Args:
            values: The prediction, z y x.
        """
        found = values != 0 if self.kind is PredictionKind.MASK else predicted_mask(values, self.threshold)
        return fill_holes(bridge_gaps(found, self.gap), self.hole_vox)


def bridge_gaps(mask: Mask, gap: int) -> Mask:
    """Fill runs of at most `gap` sections between two voxels of one column (same y and x): a closing along z.

    Example:
        >>> column = np.array([1, 0, 1, 0, 0, 1, 0], bool)[:, None, None]
        >>> bridge_gaps(column, 1).ravel().astype(int).tolist()
        [1, 1, 1, 0, 0, 1, 0]
    """
    if gap == 0:
        return mask
    bridged = mask.copy()
    for z in range(len(mask) - 2):
        for end in range(z + 2, min(z + gap + 2, len(mask))):
            bridged[z + 1 : end] |= mask[z] & mask[end]
    return bridged


def fill_holes(mask: Mask, widest_vox: tuple[int, int]) -> Mask:
    """Fill background that cleft encloses within a section, up to a width in voxels along y and along x.

    Background is 4-connected, since clefts are 8-connected in a section. Background that reaches the border is no hole.

    Example:
        >>> ring = np.array([[[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]], bool)
        >>> fill_holes(ring, (1, 2)).all(), fill_holes(ring, (1, 1)).sum()
        (np.True_, np.int64(10))
    """
    if min(widest_vox) == 0:
        return mask
    filled = mask.copy()
    for section, target in zip(mask, filled, strict=True):
        rows, columns = np.flatnonzero(section.any(1)), np.flatnonzero(section.any(0))
        if rows.size < 3 or columns.size < 3:
            continue
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        background = cc3d.connected_components(np.ascontiguousarray(~section[part]).view(np.uint8), connectivity=4)
        target[part] |= _holes(background, widest_vox)[background]
    return filled


def _holes(background: npt.NDArray[np.integer], widest_vox: tuple[int, int]) -> Mask:
    """Return which regions of a section's background (by id; 0 is cleft) are holes."""
    boxes = cc3d.statistics(background, no_slice_conversion=True)["bounding_boxes"].reshape(-1, 2, 2)
    first, last = boxes[..., 0], boxes[..., 1]
    enclosed = (first > 0).all(1) & (last < np.array(background.shape) - 1).all(1)
    hole = np.asarray(enclosed & (last - first < np.array(widest_vox)).all(1))
    hole[0] = False
    return hole


def as_stored(probability: float, dtype: np.dtype[Any]) -> float:
    """Return the value that stored probabilities must reach to count as at least this one, rounded as in `predicted_mask`.

    Example:
        >>> as_stored(0.7, np.dtype("float32")) <= float(np.float32(0.7)), as_stored(0.2, np.dtype("uint8")) <= 51 / 255
        (True, True)
    """
    if dtype.kind == "f":
        return float(dtype.type(probability))
    return float(np.ceil(round(probability * 255, 6)) / 255) - 1e-12
