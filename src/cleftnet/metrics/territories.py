"""Every voxel belongs to its nearest true cleft: scores become ratios of sums over clefts, which can be drawn anew.

A cleft's territory is what lies nearer to it than to any other, in nm. Counts and distances summed within territories add up to
those of the whole region, so that the scores of any resample of clefts (`metrics.bootstrap`) follow from the sums alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.distances import nearest_distances
from cleftnet.metrics.objects import Instances
from cleftnet.metrics.pairing import pair_by_overlap
from cleftnet.metrics.voxels import Floats, Mask
from cleftnet.volumes.volume import Array, is_cleft, is_labelled

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Territory:
    """What happened around one true cleft.

    Attributes:
        cleft: Its id.
        true_positives: Predicted voxels of a cleft.
        false_positives: Predicted voxels of none.
        false_negatives: Voxels of the cleft that are not predicted.
        adgt_sum: Distances in nm of the predicted voxels to the nearest true one, summed; ADGT is their mean.
        adf_sum: Distances in nm of the true voxels to the nearest predicted one, summed; None where nothing is predicted.
        rank_sum: Shares of background voxels that score lower than each voxel of the cleft, summed; AUC is their mean.
        predicted: Predicted objects of which most voxels lie here.
        matched: Whether the cleft is matched with one.
    """

    cleft: int
    true_positives: int
    false_positives: int
    false_negatives: int
    adgt_sum: float
    adf_sum: float | None
    rank_sum: float
    predicted: int
    matched: bool


def territories(
    predicted: Mask, objects: Array, labels: Array, ranks: Floats, voxel_size_nm: FloatZYX
) -> list[Territory]:
    """Sum a prediction up by the true clefts that its voxels are nearest to.

    Args:
        predicted: Voxels predicted as cleft, z y x.
        objects: The ids of predicted clefts, background 0, the same shape; they may follow from other rules than the mask.
        labels: True ids in the house's convention; unlabelled voxels are left out of everything.
        ranks: The share of background voxels that score lower, for each true voxel in raster order (`ScoreHistogram.ranks`).
        voxel_size_nm: z y x.

    Returns:
        One for each true cleft, by ascending id.

    Raises:
        InputError: when the shapes differ or there is no true cleft.

    Example:
        >>> labels = np.array([[[5, 5, 0, 0, 0, 0, 0, 9]]], np.uint64)
        >>> predicted = np.array([[[1, 0, 0, 0, 0, 0, 1, 1]]], bool)
        >>> five, nine = territories(predicted, predicted.astype(int), labels, np.ones(3), (40, 4, 4))
        >>> five.true_positives, five.false_negatives, five.adf_sum, nine.false_positives, nine.adgt_sum
        (1, 1, 4.0, 1, 4.0)
    """
    if not predicted.shape == objects.shape == labels.shape:
        raise InputError(
            f"masks, objects and labels of shapes {predicted.shape}, {objects.shape}, {labels.shape} differ"
        )
    valid = is_labelled(labels)
    clefts = Instances.of_labels(labels)
    if not clefts.index.size:
        raise InputError("there is no true cleft that anything could be nearest to; give labels that have one")
    ids, number = np.unique(clefts.ids, return_inverse=True)
    true, predicted = is_cleft(labels), predicted & valid
    whose = _nearest(true, clefts.index, number, voxel_size_nm)

    def per_cleft(mask: Mask) -> Ints:
        return np.bincount(whose[mask], minlength=ids.size).astype(np.int64)

    to_true = np.concatenate(nearest_distances(predicted, true, voxel_size_nm))
    to_predicted = np.concatenate(nearest_distances(true, predicted, voxel_size_nm))
    adgt = np.bincount(whose[predicted], to_true, ids.size)
    adf = np.bincount(whose[true], to_predicted, ids.size)
    rank = np.bincount(whose[true], ranks, ids.size)
    of_object = np.flatnonzero(valid & (objects != 0))
    found = Instances(of_object, objects.ravel()[of_object])  # an object stays one, in however many pieces
    hits, alarms, misses = (per_cleft(mask) for mask in (predicted & true, predicted & ~true, true & ~predicted))
    homes = _homes(found, whose, ids.size)
    matched = pair_by_overlap(found, clefts).true
    return [
        Territory(
            cleft=int(ids[i]),
            true_positives=int(hits[i]),
            false_positives=int(alarms[i]),
            false_negatives=int(misses[i]),
            adgt_sum=float(adgt[i]),
            adf_sum=float(adf[i]) if np.isfinite(adf[i]) else None,
            rank_sum=float(rank[i]),
            predicted=int(homes[i]),
            matched=bool(matched[i]),
        )
        for i in range(ids.size)
    ]


def _nearest(true: Mask, index: Ints, number: npt.NDArray[np.intp], voxel_size_nm: FloatZYX) -> npt.NDArray[np.int32]:
    """Which cleft, counted from 0, each voxel is nearest to."""
    owner = np.zeros(true.size, np.int32)
    owner[index] = number
    at = distance_transform_edt(~true, sampling=voxel_size_nm, return_distances=False, return_indices=True)
    return np.asarray(owner[np.ravel_multi_index(tuple(at), true.shape)])


def _homes(found: Instances, whose: npt.NDArray[np.int32], clefts: int) -> Ints:
    """How many predicted objects have most of their voxels in each territory; of equals, the first."""
    objects, object_of = np.unique(found.ids, return_inverse=True)
    if not objects.size:
        return np.zeros(clefts, np.int64)
    pairs, voxels = np.unique(object_of * clefts + whose.ravel()[found.index], return_counts=True)
    rows, homes = np.divmod(pairs, clefts)
    by_size = np.lexsort((homes, -voxels, rows))
    first = np.unique(rows[by_size], return_index=True)[1]
    return np.bincount(homes[by_size][first], minlength=clefts).astype(np.int64)
