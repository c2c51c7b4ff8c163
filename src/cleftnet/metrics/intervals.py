"""Confidence intervals of scores: the true clefts are drawn anew many times (percentile bootstrap).

Every voxel belongs to its nearest true cleft, in nm: the cleft's *territory*. Counts and distances summed within territories
add up to those of the whole region, so that the scores of any resample of clefts follow from these sums by a matrix product.
Two methods that are given the same draws are compared in pairs: what makes a cleft hard for both falls out of their difference.
Source: Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.distances import nearest_distances
from cleftnet.metrics.matching import pair_by_overlap
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.volumes import Array, is_cleft, is_labelled

DRAWS, LEVEL = 10_000, 0.95


class Interval(NamedTuple):
    """A range of values, with its lower and its upper end."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether the value lies in the range, ends included."""
        return self.low <= value <= self.high


def draw(sizes: Sequence[int], draws: int = DRAWS, seed: int = 0) -> Integers:
    """Draw from every group as many items as it has, with replacement, and count how often each item is drawn.

    Args:
        sizes: Number of items of each group, such as the clefts of each volume.
        draws: Number of draws.
        seed: Seed of the random numbers.

    Returns:
        Counts `draws items`, the groups one after the other.

    Raises:
        InputError: when a group is empty or there is no draw.

    Example:
        >>> taken = draw([3, 2], draws=4)
        >>> taken.shape, taken[:, :3].sum(1).tolist(), taken[:, 3:].sum(1).tolist()
        ((4, 5), [3, 3, 3, 3], [2, 2, 2, 2])
    """
    if draws < 1 or not sizes or min(sizes) < 1:
        raise InputError(f"{draws} draws from groups of {list(sizes)} items; expected at least one of each")
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in sizes], axis=1).astype(np.int64)


def interval(values: Floats, level: float = LEVEL) -> Interval | None:
    """Return the range of the middle `level` of the values; None when fewer than that share of them are finite.

    Example:
        >>> interval(np.arange(5.0), level=0.5)
        Interval(low=1.0, high=3.0)
    """
    defined = values[np.isfinite(values)]
    if not defined.size or defined.size < level * values.size:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def draw_runs(runs: int, folds: int, draws: int = DRAWS, seed: int = 0) -> Integers:
    """Draw which training of each fold stands for it, fold by fold.

    A method was trained `runs` times on every fold. One draw takes `runs` − 1 trainings of each fold, with replacement, and
    combines them into as many complete sets. Taking one fewer than there are gives their mean the variance of the mean of
    `runs` trainings without bias (Rao & Wu, *Resampling inference with complex survey data*, 1988); taking all of them
    would understate it by a third for three runs.

    Args:
        runs: How often each fold was trained.
        folds: How many folds there are.
        draws: How many times.
        seed: The same seed gives the same draws.

    Returns:
        Numbers of runs, `draws sets folds`, with `max(1, runs − 1)` sets.

    Raises:
        InputError: when there is no run or no fold.
    """
    if runs < 1 or folds < 1 or draws < 1:
        raise InputError(f"{draws} draws of {runs} runs on {folds} folds; expected at least one of each")
    return np.random.default_rng([seed, runs, folds]).integers(0, runs, (draws, max(1, runs - 1), folds))


def nested_sums(sums: Floats, fold: Integers, taken: Integers, picked: Integers) -> Floats:
    """Add up what each item contributes, the items drawn anew and each fold's run drawn anew.

    Args:
        sums: What each item contributes in each run, `runs items sums`.
        fold: The fold of each item, counted from 0.
        taken: How often each item is taken, `draws items` (`draw`).
        picked: The run that stands for each fold, `draws sets folds` (`draw_runs`).

    Returns:
        The totals of each draw and each set of runs, `draws sets sums`.

    Example:
        >>> sums = np.array([[[1.0], [10.0]], [[2.0], [20.0]]])           # two runs of two items
        >>> nested_sums(sums, np.array([0, 1]), np.array([[1, 2]]), np.array([[[0, 1]]])).tolist()
        [[[41.0]]]
    """
    totals = np.zeros((taken.shape[0], picked.shape[1], sums.shape[2]))
    rows = np.arange(taken.shape[0])[:, None]
    for number in range(picked.shape[2]):
        inside = fold == number
        of_runs = np.einsum("di,ris->drs", taken[:, inside], sums[:, inside])
        totals += of_runs[rows, picked[:, :, number]]
    return totals


@dataclass(frozen=True)
class Territory:
    """Sums over the voxels that are nearer to one true cleft than to any other.

    Attributes:
        cleft: Id of the true cleft.
        true_positives: Predicted voxels that are cleft.
        false_positives: Predicted voxels that are not.
        false_negatives: Voxels of the cleft that are not predicted.
        adgt_sum: Sum in nm of the distances from predicted voxels to the nearest true voxel; ADGT is their mean.
        adf_sum: Sum in nm of the distances from true voxels to the nearest predicted voxel, whose mean is ADF; None where
            nothing is predicted.
        rank_sum: Sum over the cleft's voxels of the share of background voxels that score lower; AUC is their mean.
        predicted: Predicted objects that have most of their voxels in this territory.
        matched: Whether the cleft is matched with a predicted object.
        fold: The fold that the cleft belongs to; 0 without folds.
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
    fold: int = 0


def territories(
    predicted: Mask, objects: Array, labels: Array, ranks: Floats, voxel_size_nm: FloatZYX
) -> list[Territory]:
    """Sum up a prediction for each true cleft, over the voxels that are nearest to it.

    Args:
        predicted: Voxels predicted as cleft, z y x.
        objects: Ids of predicted clefts, background 0, of the same shape; they need not follow from the mask.
        labels: Ids of true clefts, of the same shape; unlabeled voxels are left out of everything.
        ranks: Share of background voxels that score lower, for each true voxel in raster order (`ScoreHistogram.ranks`).
        voxel_size_nm: Voxel size, z y x.

    Returns:
        A territory for each true cleft, by ascending id.

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
        raise InputError("the labels hold no true cleft, which voxels could be nearest to; give labels that have one")
    ids, number = np.unique(clefts.ids, return_inverse=True)
    true, predicted = is_cleft(labels), predicted & valid
    whose = _nearest(true, clefts.index, number, voxel_size_nm)

    def per_cleft(mask: Mask) -> Integers:
        return np.bincount(whose[mask], minlength=ids.size).astype(np.int64)

    to_true = np.concatenate(nearest_distances(predicted, true, voxel_size_nm))
    to_predicted = np.concatenate(nearest_distances(true, predicted, voxel_size_nm))
    adgt = np.bincount(whose[predicted], to_true, ids.size)
    adf = np.bincount(whose[true], to_predicted, ids.size)
    rank = np.bincount(whose[true], ranks, ids.size)
    of_object = np.flatnonzero(valid & (objects != 0))
    found = Instances(of_object, objects.ravel()[of_object])  # an object in several pieces stays one
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


def _nearest(
    true: Mask, index: Integers, number: npt.NDArray[np.intp], voxel_size_nm: FloatZYX
) -> npt.NDArray[np.int32]:
    """Return the number of the cleft, from 0, that each voxel is nearest to."""
    owner = np.zeros(true.size, np.int32)
    owner[index] = number
    at = distance_transform_edt(~true, sampling=voxel_size_nm, return_distances=False, return_indices=True)
    return np.asarray(owner[np.ravel_multi_index(tuple(at), true.shape)])


def _homes(found: Instances, whose: npt.NDArray[np.int32], clefts: int) -> Integers:
    """Count the predicted objects that have most of their voxels in each territory; the first of equal territories counts."""
    objects, object_of = np.unique(found.ids, return_inverse=True)
    if not objects.size:
        return np.zeros(clefts, np.int64)
    pairs, voxels = np.unique(object_of * clefts + whose.ravel()[found.index], return_counts=True)
    rows, homes = np.divmod(pairs, clefts)
    by_size = np.lexsort((homes, -voxels, rows))
    first = np.unique(rows[by_size], return_index=True)[1]
    return np.bincount(homes[by_size][first], minlength=clefts).astype(np.int64)
