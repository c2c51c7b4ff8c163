"""Distances between two masks, computed only at the voxels that need one, and the CREMI score.

    ADGT = mean distance of the predicted cleft voxels to the nearest true one
    ADF  = mean distance of the true cleft voxels to the nearest predicted one
    CREMI score = (ADGT + ADF) / 2   [nm]                                        (Liu & Ji, Eq. 11; docs/method.md, "Scores")

Clefts fill about one voxel in a hundred, and only those need a distance. So the distance transform stops after two of its
three passes: within each section `edt` gives the squared distance to the nearest target voxel of that section, in whole pixels
and therefore exactly. Across sections the minimum over dz of (dz vz)² + (in-plane distance)² is computed at the cleft voxels
only, nearest sections first, until dz vz exceeds the smallest distance so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import edt
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.voxels import Floats, Integers, Mask

FAR_NM = 200.0  # the challenge counts false positives and false negatives beyond this distance
ROUNDING = 1e-9  # relative difference up to which two distances are equal, since they may be computed in different ways


def nearest_distances(voxels: Mask, targets: Mask, voxel_size_nm: FloatZYX) -> list[Floats]:
    """Return the Euclidean distance in nm from each voxel of one mask to the nearest voxel of another.

    Equal to `scipy.ndimage.distance_transform_edt(~targets, sampling=voxel_size_nm)[voxels]` to float64 rounding (for
    in-plane distances up to 4096 pixels; a few 1e-8 of the distance beyond).

    Args:
        voxels: Voxels that distances are computed at, z y x.
        targets: Voxels that distances are measured to, of the same shape.
        voxel_size_nm: Voxel size, z y x.

    Returns:
        The distances of the voxels of each section z in raster order; infinite where no target exists.

    Raises:
        InputError: when the shapes differ.

    Example:
        >>> voxels, targets = np.zeros((2, 1, 4), bool), np.zeros((2, 1, 4), bool)
        >>> voxels[0, 0, 0] = voxels[1, 0, 0] = targets[1, 0, 3] = True
        >>> [section.tolist() for section in nearest_distances(voxels, targets, (40, 10, 10))]
        [[50.0], [30.0]]
    """
    if voxels.shape != targets.shape or voxels.ndim != 3:
        raise InputError(f"masks of shapes {voxels.shape} and {targets.shape}; expected two masks of one shape z y x")
    planes, unit_nm2 = _in_plane(targets, voxel_size_nm)
    return [
        _across_sections(planes, unit_nm2, voxel_size_nm[0], z, np.flatnonzero(section))
        for z, section in enumerate(voxels)
    ]


def _in_plane(targets: Mask, voxel_size_nm: FloatZYX) -> tuple[list[npt.NDArray[np.floating] | None], float]:
    """Return squared distances within each section, flat (None without a target), and their unit in nm²."""
    _, y_nm, x_nm = voxel_size_nm
    if y_nm == x_nm:  # whole numbers of pixels: exact in float32 below 2^24
        return [edt.edt2dsq(~section).ravel() if section.any() else None for section in targets], x_nm * x_nm
    # pixels are rarely not square; edt's float32 would be off by 1e-5, SciPy is exact and several times slower
    transform = (
        np.square(distance_transform_edt(~s, sampling=(y_nm, x_nm))).ravel() if s.any() else None for s in targets
    )
    return list(transform), 1.0


def _across_sections(
    planes: Sequence[npt.NDArray[np.floating] | None], unit_nm2: float, z_nm: float, z: int, where: npt.NDArray[np.intp]
) -> Floats:
    """Return the distances in nm at the flat positions `where` of section z."""
    best = np.full(where.size, np.inf)  # nm²
    unsettled = np.arange(where.size)
    for step in range(len(planes)):
        floor = (step * z_nm) ** 2
        unsettled = unsettled[best[unsettled] > floor]
        if not unsettled.size:
            break
        here, nearest = where[unsettled], best[unsettled]
        for neighbor in {z - step, z + step}:
            plane = planes[neighbor] if 0 <= neighbor < len(planes) else None
            if plane is not None:
                np.minimum(nearest, plane.take(here) * np.float64(unit_nm2) + floor, out=nearest)
        best[unsettled] = nearest
    return np.asarray(np.sqrt(best))


@dataclass(frozen=True)
class Distances:
    """Distances as distinct values and their counts: exact statistics that add up over blocks.

    Distances between voxels take few distinct values, however many voxels there are. Statistics of no distances, or of
    infinite ones (to an empty mask), are None.

    Args:
        values_nm: Distinct distances, ascending.
        counts: Voxels at each.
        lower_bounds: Voxels whose distance may be larger than its value, because a target may lie outside the block's halo.

    Example:
        >>> distances = Distances.of(np.array([0.0, 40.0, 200.0, 240.0]))
        >>> distances.mean, distances.median, distances.max, distances.farther_than(200)
        (120.0, 120.0, 240.0, 1)
    """

    values_nm: Floats
    counts: Integers
    lower_bounds: int = 0

    @classmethod
    def of(cls, distances_nm: Floats, lower_bounds: int = 0) -> Distances:
        """Count distances in nm."""
        values, counts = np.unique(distances_nm, return_counts=True)
        return cls(values, counts.astype(np.int64), lower_bounds)

    @classmethod
    def total(cls, parts: Iterable[Distances]) -> Distances:
        """Add up the distances of several parts, such as sections or blocks."""
        parts = list(parts)
        if not parts:
            return cls(np.zeros(0), np.zeros(0, np.int64))
        values, place = np.unique(np.concatenate([p.values_nm for p in parts]), return_inverse=True)
        counts = np.zeros(values.size, np.int64)
        np.add.at(counts, place, np.concatenate([p.counts for p in parts]))
        return cls(values, counts, sum(p.lower_bounds for p in parts))

    def without_target(self) -> Distances:
        """Return the same number of voxels at an infinite distance, which they have from an empty mask."""
        return Distances(np.full(1, np.inf), np.full(1, self.count)) if self.count else self

    @property
    def count(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    @property
    def _defined(self) -> bool:
        return self.count > 0 and bool(np.isfinite(self.values_nm[-1]))

    @property
    def mean(self) -> float | None:
        """Mean in nm."""
        return float(np.dot(self.values_nm, self.counts)) / self.count if self._defined else None

    @property
    def std(self) -> float | None:
        """Standard deviation in nm, of the population (divided by n)."""
        mean = self.mean
        if mean is None:
            return None
        return float(np.sqrt(np.dot(np.square(self.values_nm - mean), self.counts) / self.count))

    @property
    def max(self) -> float | None:
        """Largest distance in nm."""
        return float(self.values_nm[-1]) if self._defined else None

    @property
    def median(self) -> float | None:
        """Median in nm; the mean of the two middle distances where their number is even."""
        if not self._defined:
            return None
        upto = np.cumsum(self.counts)
        low, high = np.searchsorted(upto, [(self.count - 1) // 2, self.count // 2], side="right")
        return float(self.values_nm[low] + self.values_nm[high]) / 2

    def farther_than(self, limit_nm: float) -> int:
        """Return the number of voxels farther than `limit_nm`; a distance that differs by rounding only is not farther."""
        return int(self.counts[self.values_nm > limit_nm * (1 + ROUNDING)].sum())


@dataclass(frozen=True)
class CremiScore:
    """The CREMI score and everything that the challenge reports beside it.

    Args:
        of_predicted: Distance of each predicted cleft voxel to the nearest true one.
        of_true: Distance of each true cleft voxel to the nearest predicted one.
    """

    of_predicted: Distances
    of_true: Distances

    @property
    def adgt(self) -> float | None:
        """Mean distance of predicted voxels to the ground truth in nm; None where either mask is empty."""
        return self.of_predicted.mean

    @property
    def adf(self) -> float | None:
        """Mean distance of true voxels to the prediction ("to false" voxels) in nm; None where either mask is empty."""
        return self.of_true.mean

    @property
    def score(self) -> float | None:
        """(ADGT + ADF) / 2 in nm; None where either mask is empty."""
        return None if self.adgt is None or self.adf is None else (self.adgt + self.adf) / 2

    @property
    def fp_far(self) -> int:
        """Predicted voxels farther than 200 nm from every true voxel (all, where there is none)."""
        return self.of_predicted.farther_than(FAR_NM)

    @property
    def fn_far(self) -> int:
        """True voxels farther than 200 nm from every predicted voxel (all, where there is none)."""
        return self.of_true.farther_than(FAR_NM)

    @classmethod
    def total(cls, parts: Sequence[CremiScore]) -> CremiScore:
        """Add up the voxels of several parts of one volume; this is not the mean over volumes."""
        return cls(Distances.total(p.of_predicted for p in parts), Distances.total(p.of_true for p in parts))


def cremi_score(predicted: Mask, true: Mask, voxel_size_nm: FloatZYX, valid: Mask | None = None) -> CremiScore:
    """Score a predicted mask of clefts against the true one, as the CREMI challenge does.

    In both volumes the challenge masks voxels that are background or whose truth is invalid: an invalid voxel is neither a
    cleft nor the target of a distance, but distances pass through it.

    Args:
        predicted: Predicted cleft voxels, z y x.
        true: True cleft voxels, of the same shape.
        voxel_size_nm: Voxel size, z y x.
        valid: Voxels whose truth is labeled; all, when None.

    Raises:
        InputError: when the shapes differ.

    Example:
        >>> true, predicted = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
        >>> true[0, 0, :2] = predicted[0, 0, 1:4] = True       # 0, 4 and 8 nm to the truth; 4 and 0 nm to the prediction
        >>> result = cremi_score(predicted, true, (40, 4, 4))
        >>> result.adgt, result.adf, result.score
        (4.0, 2.0, 3.0)
    """
    if valid is not None:
        predicted, true = predicted & valid, true & valid
    of_predicted = nearest_distances(predicted, true, voxel_size_nm)
    of_true = nearest_distances(true, predicted, voxel_size_nm)
    return CremiScore(
        Distances.total(Distances.of(section) for section in of_predicted),
        Distances.total(Distances.of(section) for section in of_true),
    )
