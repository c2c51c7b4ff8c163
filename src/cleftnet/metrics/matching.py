"""Matches predicted clefts with true ones: the best one-to-one assignment, by shared voxels or by distance.

By overlap, a pair may match when it shares at least one voxel. Clefts are plates a few voxels thick, so that an error of one
section halves their overlap: the usual demand of half the union would reject clefts that every neuroscientist accepts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import CleftMeasures, Instances, MatchedSizes, ObjectScores, ScoreCurve, by_size
from cleftnet.metrics.voxels import Floats, Integers, Mask


@dataclass(frozen=True)
class MatchedPairs:
    """Predicted and true clefts matched one to one.

    Attributes:
        predicted: Whether each predicted cleft is matched, in the order of the worth's rows.
        true: Whether each true cleft is matched, in the order of the worth's columns.
        pairs: Numbers of the predicted and the true cleft, a row for each pair.
        splits: Predicted clefts beyond the first that may match a true cleft, summed over true clefts.
        merges: True clefts beyond the first that may match a predicted cleft, summed over predicted clefts.
    """

    predicted: Mask
    true: Mask
    pairs: Integers
    splits: int
    merges: int

    @property
    def scores(self) -> ObjectScores:
        """The counts that precision, recall and F1 follow from."""
        return ObjectScores(len(self.true), len(self.predicted), len(self.pairs), self.splits, self.merges)

    @classmethod
    def of(cls, worth: coo_array) -> MatchedPairs:
        """Match for the largest sum of worth.

        Args:
            worth: What each pair that may match is worth, above 0; predicted by true.
        """
        rows, columns = assign(worth)
        predicted, true = np.zeros(worth.shape[0], np.bool_), np.zeros(worth.shape[1], np.bool_)
        predicted[rows], true[columns] = True, True
        splits, merges = (int(np.maximum(np.bincount(side) - 1, 0).sum()) for side in worth.coords[::-1])
        return cls(predicted, true, np.stack([rows, columns], axis=1), splits, merges)


def score_measured(
    predicted: CleftMeasures,
    true: CleftMeasures,
    shared: coo_array,
    voxel_size_nm: FloatZYX,
    match_nm: float | None = None,
) -> ObjectScores:
    """Match whole clefts by what was measured of them, and count them: all, by volume, and by mean probability.

    Args:
        predicted: Predicted clefts; their means, if there are any, give the curve.
        true: True clefts.
        shared: Voxels that each pair shares, predicted by true.
        voxel_size_nm: Voxel size, z y x.
        match_nm: Largest distance between the centroids of matched clefts; None matches clefts that share voxels.
    """
    size_nm = np.array(voxel_size_nm)
    if match_nm is None:
        matches = MatchedPairs.of(shared)
    else:
        matches = pair_by_distance(predicted.centers * size_nm, true.centers * size_nm, match_nm)
    volume = float(size_nm.prod())
    ours = MatchedSizes(predicted.sizes * volume, matches.predicted)
    theirs = MatchedSizes(true.sizes * volume, matches.true)
    curve = None if predicted.means is None else ScoreCurve.of(predicted.means, matches.predicted, len(true.sizes))
    return replace(matches.scores, by_size=by_size(ours, theirs), curve=curve)


def pair_by_overlap(predicted: Instances, true: Instances) -> MatchedPairs:
    """Match clefts that share voxels, for the largest total overlap; both sides are ordered by their ids.

    Example:
        >>> true = Instances.of_labels(np.array([[[1, 1, 0, 2, 2, 0, 3]]]))
        >>> predicted = Instances.of_labels(np.array([[[7, 7, 7, 7, 0, 8, 0]]]))     # 7 covers 1 and half of 2
        >>> found = pair_by_overlap(predicted, true)
        >>> found.predicted.tolist(), found.true.tolist(), found.splits, found.merges
        ([True, False], [True, False, False], 0, 1)
    """
    shape = (len(predicted), len(true))
    return MatchedPairs.of(shared_voxels(predicted.index, predicted.rows, true.index, true.rows, shape))


def pair_by_distance(predicted_nm: Floats, true_nm: Floats, max_nm: float) -> MatchedPairs:
    """Match points within a distance: as many pairs as possible, and the shortest total distance among such choices.

    Splits and merges count the points within the distance.

    Args:
        predicted_nm: Predicted points such as centroids, a row z y x in nm each.
        true_nm: True points, a row z y x in nm each.
        max_nm: Largest distance of a pair.

    Raises:
        InputError: when the distance is negative.

    Example:
        >>> found = pair_by_distance(np.array([[0.0, 0, 0], [0, 0, 90]]), np.array([[0.0, 0, 60], [0, 0, 130]]), 80)
        >>> found.pairs.tolist()
        [[0, 0], [1, 1]]
    """
    if not max_nm >= 0:
        raise InputError(f"max_nm={max_nm:g} must be 0 or more, such as 100")
    predicted_nm, true_nm = np.reshape(predicted_nm, (-1, 3)), np.reshape(true_nm, (-1, 3))
    near = KDTree(predicted_nm).sparse_distance_matrix(KDTree(true_nm), max_nm, output_type="ndarray")
    shape = (len(predicted_nm), len(true_nm))
    most = min(shape) * max_nm + 1  # no sum of distances weighs more than one pair
    return MatchedPairs.of(coo_array((most + max_nm - near["v"], (near["i"], near["j"])), shape=shape))


def shared_voxels(
    predicted_index: Integers,
    predicted_rows: npt.NDArray[np.intp],
    true_index: Integers,
    true_rows: npt.NDArray[np.intp],
    shape: tuple[int, int],
) -> coo_array:
    """Count the voxels that each pair of clefts shares: a sparse matrix, predicted by true.

    Args:
        predicted_index: Flat indices of the voxels of predicted clefts, ascending.
        predicted_rows: Number of each voxel's predicted cleft.
        true_index: Flat indices of the voxels of true clefts, ascending.
        true_rows: Number of each voxel's true cleft.
        shape: Numbers of predicted and of true clefts.
    """
    if not predicted_index.size or not true_index.size:
        return coo_array(shape, dtype=np.int64)
    place = np.minimum(np.searchsorted(predicted_index, true_index), predicted_index.size - 1)
    both = predicted_index[place] == true_index
    pairs, shared = np.unique(predicted_rows[place[both]] * shape[1] + true_rows[both], return_counts=True)
    return coo_array((shared, np.divmod(pairs, shape[1])), shape=shape)


def assign(worth: coo_array) -> tuple[Integers, Integers]:
    """Return rows and columns of the one-to-one assignment with the largest sum, rows ascending.

    Each group of clefts connected by possible pairs is solved by itself.

    Args:
        worth: What each pair that may match is worth, above 0; predicted by true, no pair twice.

    Example:
        >>> rows, columns = assign(coo_array(np.array([[5, 4], [4, 0]])))
        >>> rows.tolist(), columns.tolist()
        ([0, 1], [1, 0])
    """
    rows, columns = worth.coords
    if not rows.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    clefts = worth.shape[0] + worth.shape[1]
    graph = coo_array((np.ones(rows.size), (rows, columns + worth.shape[0])), shape=(clefts, clefts))
    _, group = connected_components(graph, directed=False)
    by_group = np.argsort(group[rows], kind="stable")
    starts = np.unique(group[rows][by_group], return_index=True)[1]
    found = []
    for pairs in np.split(by_group, starts[1:]):
        if pairs.size <= 1:
            found.append(np.stack([rows[pairs], columns[pairs]]))
            continue
        row_ids, row = np.unique(rows[pairs], return_inverse=True)
        column_ids, column = np.unique(columns[pairs], return_inverse=True)
        shared = np.zeros((row.max() + 1, column.max() + 1))
        shared[row, column] = worth.data[pairs]
        chosen = linear_sum_assignment(shared, maximize=True)
        real = shared[chosen] > 0
        found.append(np.stack([row_ids[chosen[0][real]], column_ids[chosen[1][real]]]))
    matched = np.concatenate(found, axis=1).astype(np.int64)
    matched = matched[:, np.argsort(matched[0])]
    return matched[0], matched[1]
