"""Which predicted cleft is which true one: pairs, splits and merges, size classes, and precision and recall over the score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.spatial import KDTree

from cleftnet.errors import InputError
from cleftnet.metrics.objects import Instances, ObjectScores, assign, shared_voxels

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairing:
    """Clefts matched one to one.

    Attributes:
        predicted: True for each predicted cleft that is matched; in the order of their ids, or as they were given.
        true: The same of the true ones.
        pairs: Rows of places in those two, predicted and true.
        splits: True clefts in several pieces: the predicted clefts that share voxels with one, less one, summed.
        merges: Predicted clefts over several true ones, counted the same way.
    """

    predicted: npt.NDArray[np.bool_]
    true: npt.NDArray[np.bool_]
    pairs: Ints
    splits: int
    merges: int

    @property
    def scores(self) -> ObjectScores:
        """Precision, recall and F1."""
        return ObjectScores(true=len(self.true), predicted=len(self.predicted), matched=len(self.pairs))

    @classmethod
    def of(cls, worth: coo_array) -> Pairing:
        """Match for the largest sum of what pairs are worth, predicted by true."""
        rows, columns = assign(worth)
        predicted, true = np.zeros(worth.shape[0], np.bool_), np.zeros(worth.shape[1], np.bool_)
        predicted[rows], true[columns] = True, True
        splits, merges = (int(np.maximum(np.bincount(side) - 1, 0).sum()) for side in worth.coords[::-1])
        return cls(predicted, true, np.stack([rows, columns], axis=1), splits, merges)


def pair_by_overlap(predicted: Instances, true: Instances) -> Pairing:
    """Match clefts that share voxels, for the largest overlap in all (as `objects.match`), both sides by their ids.

    Example:
        >>> true = Instances.of_labels(np.array([[[1, 1, 0, 2, 2, 0, 3]]]))
        >>> predicted = Instances.of_labels(np.array([[[7, 7, 7, 7, 0, 8, 0]]]))     # 7 covers 1 and half of 2
        >>> found = pair_by_overlap(predicted, true)
        >>> found.predicted.tolist(), found.true.tolist(), found.splits, found.merges
        ([True, False], [True, False, False], 0, 1)
    """
    predicted_ids, predicted_as = np.unique(predicted.ids, return_inverse=True)
    true_ids, true_as = np.unique(true.ids, return_inverse=True)
    shape = (predicted_ids.size, true_ids.size)
    return Pairing.of(shared_voxels(predicted.index, predicted_as, true.index, true_as, shape))


def pair_by_distance(predicted_nm: Floats, true_nm: Floats, max_nm: float) -> Pairing:
    """Match points that lie within a distance: as many pairs as there can be, and of those choices the shortest in all.

    Splits and merges count what lies within the distance.

    Args:
        predicted_nm: Places such as centroids, z y x in nm; a row each.
        true_nm: The same of the truth.
        max_nm: The farthest that a pair may lie apart.

    Raises:
        InputError: when the distance is negative.

    Example:
        >>> found = pair_by_distance(np.array([[0.0, 0, 0], [0, 0, 90]]), np.array([[0.0, 0, 60], [0, 0, 130]]), 80)
        >>> found.pairs.tolist()
        [[0, 0], [1, 1]]
    """
    if not max_nm >= 0:
        raise InputError(f"matching distance {max_nm:g} nm must be 0 or more, such as 100")
    predicted_nm, true_nm = np.reshape(predicted_nm, (-1, 3)), np.reshape(true_nm, (-1, 3))
    near = KDTree(predicted_nm).sparse_distance_matrix(KDTree(true_nm), max_nm, output_type="ndarray")
    shape = (len(predicted_nm), len(true_nm))
    most = min(shape) * max_nm + 1  # no sum of distances weighs more than one pair
    return Pairing.of(coo_array((most + max_nm - near["v"], (near["i"], near["j"])), shape=shape))


@dataclass(frozen=True)
class SizeClass:
    """Clefts of one class of sizes: recall over the true ones in it, precision over the predicted ones in it.

    Attributes:
        low: Smallest size of the class.
        high: The sizes end below this.
        true: True clefts in it.
        found: Those that are matched, whatever the size of their partner.
        predicted: Predicted clefts in it.
        right: Those that are matched.
    """

    low: float
    high: float
    true: int
    found: int
    predicted: int
    right: int

    @property
    def recall(self) -> float | None:
        """Matched share of the true clefts; None where there is none."""
        return self.found / self.true if self.true else None

    @property
    def precision(self) -> float | None:
        """Matched share of the predicted clefts; None where there is none."""
        return self.right / self.predicted if self.predicted else None


def by_size(pairing: Pairing, predicted_sizes: Floats, true_sizes: Floats, edges: Sequence[float]) -> list[SizeClass]:
    """Count matches by classes of sizes.

    Args:
        pairing: The matches.
        predicted_sizes: Of each predicted cleft, such as its volume in nm³.
        true_sizes: Of each true one, in the same unit.
        edges: Where one class ends and the next begins, ascending; the first class begins at 0, the last has no end.

    Example:
        >>> pairing = Pairing.of(coo_array(np.array([[3, 0], [0, 0]])))
        >>> [(c.low, c.recall, c.precision) for c in by_size(pairing, np.array([5, 9]), np.array([4, 20]), (6,))]
        [(0.0, 1.0, 1.0), (6, 0.0, 0.0)]
    """
    bounds = [0.0, *edges, float("inf")]
    classes = []
    for low, high in itertools.pairwise(bounds):
        true, predicted = ((s >= low) & (s < high) for s in (np.asarray(true_sizes), np.asarray(predicted_sizes)))
        counts = (true, true & pairing.true, predicted, predicted & pairing.predicted)
        classes.append(SizeClass(low, high, *(int(np.count_nonzero(which)) for which in counts)))
    return classes


@dataclass(frozen=True)
class ScoreCurve:
    """Precision and recall of the clefts above each score, from the highest score down.

    Attributes:
        scores: Every score that occurs, descending.
        precision: Of the clefts of at least that score.
        recall: The same.
    """

    scores: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, scores: Floats, pairing: Pairing) -> ScoreCurve:
        """Rank the predicted clefts by their scores; clefts of one score enter together.

        Every cleft keeps the partner that it has when all are taken.

        Args:
            scores: Of each predicted cleft.
            pairing: Of all predicted clefts with the true ones.

        Example:
            >>> pairing = Pairing.of(coo_array(np.array([[9, 0], [0, 0], [0, 9]])))
            >>> curve = ScoreCurve.of(np.array([0.9, 0.8, 0.7]), pairing)
            >>> curve.precision.round(2).tolist(), curve.recall.tolist(), round(curve.average_precision, 3)
            ([1.0, 0.5, 0.67], [0.5, 0.5, 1.0], 0.833)
        """
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, np.int64)
        right = np.cumsum(pairing.predicted[order])[last]
        return cls(ranked[last], right / (last + 1), right / max(1, len(pairing.true)))

    @property
    def average_precision(self) -> float:
        """The mean of precision over recall, each step's precision at its end; 0 where nothing is found."""
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())
