"""Scores over whole clefts: which predicted cleft is which true one, and how many of either are left over.

A neuroscientist counts synapses, not voxels. Predicted and true clefts are matched one to one so that the matched pairs share
as many voxels as possible in all (optimal assignment); precision and recall are the matched shares of either side.

A pair may match when it shares at least one voxel. Clefts are plates a few voxels thick, so that an error of one section
halves their overlap: the usual demand of half the union would reject clefts that every neuroscientist accepts. Distances are
the matter of the CREMI score; `min_overlap_vox` asks for more where it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cleftnet.errors import InputError
from cleftnet.metrics.voxels import Mask
from cleftnet.volumes.volume import Array, is_cleft, is_labelled

CONNECTIVITY: Final = 26  # voxels that touch at a corner belong to one cleft


@dataclass(frozen=True)
class Instances:
    """The voxels of all clefts of a volume, each with the id of its cleft; no room is spent on the background.

    Args:
        index: Flat indices of the voxels, ascending.
        ids: The cleft each belongs to.
    """

    index: npt.NDArray[np.int64]
    ids: npt.NDArray[np.integer]

    @classmethod
    def of_labels(cls, labels: Array, valid: Mask | None = None) -> Instances:
        """Take clefts from their ids, background 0, invalid voxels left out; see `or_components`."""
        if labels.dtype == np.bool_:
            return cls.of_mask(labels, valid)
        cleft = is_cleft(labels)
        index = np.flatnonzero(cleft if valid is None else cleft & valid)
        return cls(index, labels.ravel()[index]).or_components(cleft, valid)

    @classmethod
    def of_mask(cls, mask: Mask, valid: Mask | None = None) -> Instances:
        """Take the 26-connected components of a mask as clefts.

        Components are found first and cut to the valid voxels after, so that an unlabelled hole does not split one.
        """
        # as uint8: cc3d 4.1.1 fails on bool masks that are one voxel wide along two axes; no slower on clefts
        labels = cc3d.connected_components(mask.view(np.uint8), connectivity=CONNECTIVITY)
        index = np.flatnonzero(mask if valid is None else mask & valid)
        return cls(index, labels.ravel()[index])

    def or_components(self, mask: Mask, valid: Mask | None = None) -> Instances:
        """Return these clefts, or, where all share one id, the components of the mask: such ids only say cleft or not."""
        return Instances.of_mask(mask, valid) if np.all(self.ids == self.ids[:1]) else self


@dataclass(frozen=True)
class ObjectScores:
    """How many clefts there are, were predicted, and are matched one to one."""

    true: int
    predicted: int
    matched: int

    @property
    def precision(self) -> float | None:
        """Matched share of the predicted clefts; None where none is predicted."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Matched share of the true clefts; None where there is none."""
        return self.matched / self.true if self.true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0 where nothing matches; None where there is no cleft on either side."""
        return 2 * self.matched / (self.predicted + self.true) if self.predicted + self.true else None


def match(predicted: Instances, true: Instances, *, min_overlap_vox: int = 1, min_size_vox: int = 1) -> ObjectScores:
    """Match predicted and true clefts one to one, for the largest overlap in all.

    Args:
        predicted: Predicted clefts.
        true: True clefts, in the same box.
        min_overlap_vox: Voxels that a pair must share to match.
        min_size_vox: Predicted clefts of fewer voxels are left out.

    Raises:
        InputError: when either limit is below 1.
    """
    if min(min_overlap_vox, min_size_vox) < 1:
        raise InputError(
            f"min_overlap_vox {min_overlap_vox}, min_size_vox {min_size_vox}; expected at least 1 voxel each"
        )
    predicted_ids, predicted_as, sizes = np.unique(predicted.ids, return_inverse=True, return_counts=True)
    true_ids, true_as = np.unique(true.ids, return_inverse=True)
    kept = sizes >= min_size_vox
    overlap = shared_voxels(predicted.index, predicted_as, true.index, true_as, (predicted_ids.size, true_ids.size))
    large = (overlap.data >= min_overlap_vox) & kept[overlap.coords[0]]
    coords = (overlap.coords[0][large], overlap.coords[1][large])
    matched = len(assign(coo_array((overlap.data[large], coords), shape=overlap.shape))[0])
    return ObjectScores(true=int(true_ids.size), predicted=int(np.count_nonzero(kept)), matched=matched)


def match_clefts(predicted: Array, true: Array, *, min_overlap_vox: int = 1, min_size_vox: int = 1) -> ObjectScores:
    """Match the clefts of two arrays one to one (see `match`).

    Args:
        predicted: Cleft ids (background 0), or a mask whose 26-connected components are the clefts; z y x.
        true: The same for the truth, of the same shape; unlabelled voxels (`INVALID`, `OUTSIDE`) are left out on both sides.
        min_overlap_vox: Voxels that a pair must share to match.
        min_size_vox: Predicted clefts of fewer voxels are left out.

    Raises:
        InputError: when the shapes differ.

    Example:
        >>> true = np.array([[[1, 1, 0, 2, 2, 0, 3]]])
        >>> predicted = np.array([[[7, 7, 7, 7, 0, 8, 0]]])     # 7 covers 1 and half of 2; 8 is on its own
        >>> match_clefts(predicted, true)
        ObjectScores(true=3, predicted=2, matched=1)
    """
    if predicted.shape != true.shape:
        raise InputError(
            f"predicted clefts of shape {predicted.shape} and true ones of {true.shape}; expected one shape"
        )
    valid = None if true.dtype == np.bool_ else is_labelled(true)
    return match(
        Instances.of_labels(predicted, valid),
        Instances.of_labels(true),
        min_overlap_vox=min_overlap_vox,
        min_size_vox=min_size_vox,
    )


def shared_voxels(
    predicted_index: npt.NDArray[np.int64],
    predicted_as: npt.NDArray[np.intp],
    true_index: npt.NDArray[np.int64],
    true_as: npt.NDArray[np.intp],
    shape: tuple[int, int],
) -> coo_array:
    """Count the voxels of each pair of clefts that shares any: a sparse matrix, predicted by true.

    Args:
        predicted_index: Flat indices of the voxels of predicted clefts, ascending.
        predicted_as: The row of each.
        true_index: Of true clefts.
        true_as: The column of each.
        shape: How many predicted and true clefts there are.
    """
    if not predicted_index.size or not true_index.size:
        return coo_array(shape, dtype=np.int64)
    place = np.minimum(np.searchsorted(predicted_index, true_index), predicted_index.size - 1)
    both = predicted_index[place] == true_index
    pairs, shared = np.unique(predicted_as[place[both]] * shape[1] + true_as[both], return_counts=True)
    return coo_array((shared, np.divmod(pairs, shape[1])), shape=shape)


def assign(overlap: coo_array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the one-to-one assignment of the largest sum, rows ascending.

    It is solved for each group of clefts that have to do with one another.

    Args:
        overlap: What each pair that may match is worth, above 0; predicted by true, no pair twice.

    Example:
        >>> rows, columns = assign(coo_array(np.array([[5, 4], [4, 0]])))
        >>> rows.tolist(), columns.tolist()
        ([0, 1], [1, 0])
    """
    rows, columns = overlap.coords
    if not rows.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    clefts = overlap.shape[0] + overlap.shape[1]
    graph = coo_array((np.ones(rows.size), (rows, columns + overlap.shape[0])), shape=(clefts, clefts))
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
        shared[row, column] = overlap.data[pairs]
        chosen = linear_sum_assignment(shared, maximize=True)
        real = shared[chosen] > 0
        found.append(np.stack([row_ids[chosen[0][real]], column_ids[chosen[1][real]]]))
    matched = np.concatenate(found, axis=1).astype(np.int64)
    matched = matched[:, np.argsort(matched[0])]
    return matched[0], matched[1]
