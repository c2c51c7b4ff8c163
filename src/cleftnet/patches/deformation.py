"""Maps each voxel of a patch to its source: rotation, elastic deformation and misaligned sections in one map.

The maps are composed before anything is read, so that raw is interpolated once and targets follow the same map. A
deformed patch is cut from a larger crop of real tissue, not padded.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from cleftnet.geometry import Box
from cleftnet.patches.patch import Float32, Patch
from cleftnet.volumes import Array

Places = npt.NDArray[np.float64]  # 2 y x: row and column, in voxels from the first voxel of the patch
Shifts = npt.NDArray[np.intp]  # z 2: whole voxels along y and x

# A free-form deformation does not fold while its control points move by less than this fraction of their distance
# (Choi & Lee 2000, for two dimensions).
UNFOLDED = 0.48


def rotation(plane: tuple[int, int], degrees: float) -> Places:
    """Return the source places of a plane rotated about its middle; 90° is what `numpy.rot90` does.

    Args:
        plane: Sides y x of the patch, in voxels; pixels must be square.
        degrees: The angle; multiples of 90 are exact.

    Example:
        >>> rows, columns = rotation((2, 2), 90)
        >>> rows.tolist(), columns.tolist()
        ([[0.0, 1.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]])
    """
    cosine, sine = (round(f(math.radians(degrees)), 12) for f in (math.cos, math.sin))  # cos 90° is 6e-17 otherwise
    middle_y, middle_x = ((side - 1) / 2 for side in plane)
    y, x = np.arange(plane[0])[:, None] - middle_y, np.arange(plane[1]) - middle_x
    return np.stack([middle_y + cosine * y + sine * x, middle_x - sine * y + cosine * x])


def scaled(places: Places, factor: float) -> Places:
    """Return source places moved away from the middle of the patch by a factor, which reduces the tissue by it.

    Example:
        >>> scaled(rotation((1, 3), 0), 2)[1].tolist()
        [[-1.0, 1.0, 3.0]]
    """
    middle = (np.array(places.shape[1:]) - 1) / 2
    return np.asarray(middle[:, None, None] + factor * (places - middle[:, None, None]))


def elastic(plane: tuple[int, int], spacing_vox: int, largest_vox: float, rng: np.random.Generator) -> Places:
    """Return the displacement of each voxel along y and x by a smooth random deformation.

    Control points on a square grid move by up to `largest_vox` along either axis; between them a uniform cubic B-spline
    interpolates (free-form deformation, Rueckert et al. 1999), which is twice continuously differentiable.

    Args:
        plane: Sides y x of the patch, in voxels.
        spacing_vox: Distance between control points.
        largest_vox: Largest displacement of a control point; below `UNFOLDED * spacing_vox` nothing folds.
        rng: Random generator.

    Example:
        >>> moves = elastic((64, 64), 32, 4.0, np.random.default_rng(0))
        >>> moves.shape, bool(abs(moves).max() < 4)
        ((2, 64, 64), True)
    """
    along_y, along_x = (_cubic_weights(side, spacing_vox) for side in plane)
    moves = rng.uniform(-largest_vox, largest_vox, (2, along_y.shape[1], along_x.shape[1]))
    return np.asarray(along_y @ moves @ along_x.T)


@functools.lru_cache
def _cubic_weights(length: int, spacing: int) -> Places:
    """Return the weight of each control point at each voxel of an axis, shape (length, points)."""
    intervals = max(1, math.ceil((length - 1) / spacing))
    knots = np.arange(-3, intervals + 4, dtype=np.float64) * spacing
    return np.asarray(BSpline.design_matrix(np.arange(length, dtype=np.float64), knots, 3).toarray())


@dataclass(frozen=True)
class Deformation:
    """A map from the voxels of a patch to their sources: one map for all sections, and a shift for each.

    Args:
        plane: Sides y x of the patch, in voxels.
        shifts: Additional shift of each section in whole voxels y x, shape (z, 2).
        places: Source of each voxel before the shifts, shape (2, y, x); None is the identity.

    Example:
        >>> aside = Deformation((2, 2), np.array([[0, 1]]))
        >>> tissue = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
        >>> box = Box.of((1, 2, 2))
        >>> str(aside.reads(box)), aside.apply(Patch(tissue[..., 1:], tissue[..., 1:])).raw.tolist()
        ('0:1,0:2,1:3', [[[1.0, 2.0], [4.0, 5.0]]])
    """

    plane: tuple[int, int]
    shifts: Shifts
    places: Places | None = None

    def reads(self, patch: Box) -> Box:
        """Return the box to read for the patch at a box; along y and x it may reach outside the volume."""
        low, high = self.shifts.min(axis=0), self.shifts.max(axis=0) + self.plane
        if self.places is not None:  # linear interpolation needs one more voxel
            low = low + self._first
            high = high - self.plane + np.floor(self.places.max(axis=(1, 2))).astype(np.intp) + 2
        (z0, y, x), z1 = patch.start, patch.stop[0]
        return Box((z0, int(y + low[0]), int(x + low[1])), (z1, int(y + high[0]), int(x + high[1])))

    def apply(self, crop: Patch) -> Patch:
        """Return the patch from the crop at the box `reads`: raw by linear interpolation, targets by nearest voxel."""
        if self.places is None and not np.ptp(self.shifts, axis=0).any():
            return crop
        found = crop.each(lambda a: np.empty((len(self.shifts), *self.plane), a.dtype))
        if self.places is None:
            (height, width), starts = self.plane, self.shifts - self.shifts.min(axis=0)
            for z, (y, x) in enumerate(starts):
                for part, source in _given(found, crop):
                    part[z] = source[z, y : y + height, x : x + width]
            return found
        width = crop.raw.shape[2]
        places = self.places - self._first[:, None, None]
        whole = places.astype(np.intp)  # equals the floor, since none is negative
        corner = whole[0] * width + whole[1]
        fraction = (places - whole).astype(np.float32)
        half = (fraction >= 0.5).astype(np.intp)
        nearest = corner + half[0] * width + half[1]
        starts = (self.shifts - self.shifts.min(axis=0)) @ (width, 1)
        for z, start in enumerate(starts):  # section by section, to stay within the cache
            _linear(crop.raw[z].ravel()[start:], width, corner, fraction, found.raw[z])
            for part, source in _given(found, crop)[1:]:
                np.take(source[z].ravel()[start:], nearest, out=part[z], mode="clip")  # "raise" would buffer
        return found

    @functools.cached_property
    def _first(self) -> Shifts:
        """First row and column that the places need, before the shifts."""
        assert self.places is not None
        return np.asarray(np.floor(self.places.min(axis=(1, 2))), np.intp)


def _given(*patches: Patch) -> list[tuple[Array, ...]]:
    """Return the arrays of patches side by side: raw, target, and tissue where there is one."""
    return [arrays for arrays in zip(*patches, strict=True) if arrays[0] is not None]


def _linear(values: Array, width: int, corner: Shifts, fraction: Float32, out: Float32) -> None:
    """Interpolate one section, given as flat rows, between the four voxels around each place."""
    down, right = fraction
    between = []
    for row in (0, width):
        left = values[row:].take(corner)
        step = values[row + 1 :].take(corner)
        step -= left
        step *= right
        left += step
        between.append(left)
    upper, lower = between
    lower -= upper
    lower *= down
    np.add(upper, lower, out=out)
