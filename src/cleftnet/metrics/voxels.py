"""Scores that count voxels: precision, recall, F1, and the area under the ROC curve.

    F1 = 2 / (1/recall + 1/precision) = 2 TP / (2 TP + FP + FN)         (Liu & Ji, Eq. 11; docs/method.md, "Scores")

A voxel is *predicted* when its probability is at least the threshold. Every score follows from whole numbers that add up over
blocks, so that a volume read block by block gets exactly the scores of the whole volume. A score that would divide by zero is
None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.volumes import Array

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

UINT8_PROBABILITY: Floats = np.arange(256) / 255  # what uint8 values mean; a division rounds once, so 51 is exactly 0.2
SLAB_VOX = 2**22


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class VoxelCounts:
    """The confusion matrix of two masks, in voxels.

    Example:
        >>> counts = VoxelCounts(true_positives=3, false_positives=1, false_negatives=2, true_negatives=4)
        >>> counts.precision, counts.recall, counts.f1
        (0.75, 0.6, 0.6666666666666666)
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    @classmethod
    def of(cls, predicted: Mask, true: Mask, valid: Mask | None = None) -> VoxelCounts:
        """Count the voxels of two masks of one shape where `valid` is True (all voxels, when None)."""
        voxels = predicted.size
        if valid is not None:
            predicted, true, voxels = predicted & valid, true & valid, int(np.count_nonzero(valid))
        both = int(np.count_nonzero(predicted & true))
        only_predicted = int(np.count_nonzero(predicted)) - both
        only_true = int(np.count_nonzero(true)) - both
        return cls(both, only_predicted, only_true, voxels - both - only_predicted - only_true)

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        return VoxelCounts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )

    @property
    def voxels(self) -> int:
        """All counted voxels."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives

    @property
    def predicted(self) -> int:
        """Voxels predicted as cleft."""
        return self.true_positives + self.false_positives

    @property
    def true(self) -> int:
        """Voxels that are cleft."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> float | None:
        """Share of the predicted voxels that are cleft; None where none is predicted."""
        return _ratio(self.true_positives, self.predicted)

    @property
    def recall(self) -> float | None:
        """Share of the cleft voxels that are predicted; None where there is none."""
        return _ratio(self.true_positives, self.true)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0 where they share no voxel; None where both masks are empty."""
        return _ratio(2 * self.true_positives, self.predicted + self.true)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and F1 at every threshold that changes them, thresholds ascending."""

    threshold: Floats
    precision: Floats
    recall: Floats
    f1: Floats


@dataclass(frozen=True)
class ScoreHistogram:
    """Numbers of cleft and of background voxels with each probability, which give the scores at every threshold.

    The counts are exact: uint8 predictions have 256 possible values (v means v/255), and every distinct value of a float
    prediction is kept. That takes up to 20 bytes a value, so that uint8 is the better format for large volumes.

    Args:
        values: Probabilities, distinct and ascending.
        positives: Cleft voxels with each value.
        negatives: Background voxels with each value.

    Example:
        >>> probability = np.array([0, 100, 100, 255], np.uint8)
        >>> histogram = ScoreHistogram.of(probability, np.array([False, False, True, True]))
        >>> histogram.auc, histogram.counts(0.5).recall, histogram.best_f1()
        (0.875, 0.5, (0.39215686274509803, 0.8))
    """

    values: npt.NDArray[np.floating]
    positives: Integers
    negatives: Integers

    @classmethod
    def of(cls, probability: Array, true: Mask, valid: Mask | None = None) -> ScoreHistogram:
        """Count the voxels of a prediction, slab by slab, so that a uint8 prediction is not copied.

        Args:
            probability: uint8 (0 to 255 meaning 0 to 1) or float (0 to 1), any shape.
            true: Voxels that are cleft, of the same shape.
            valid: Voxels that are counted, of the same shape; all, when None.

        Raises:
            InputError: when the type is another one, or a float is NaN or outside 0 to 1.
        """
        if probability.dtype == np.uint8:
            everything, positives = np.zeros(256, np.int64), np.zeros(256, np.int64)
            for values, cleft, counted in _slabs(probability, true, valid):
                everything += np.bincount(values[counted], minlength=256)
                positives += np.bincount(values[cleft & counted], minlength=256)
            return cls(UINT8_PROBABILITY, positives, everything - positives)
        if probability.dtype.kind != "f":
            raise InputError(
                f"probabilities have type {probability.dtype}; expected uint8 (0 to 255) or floats (0 to 1)"
            )
        counted = np.ones(probability.shape, np.bool_) if valid is None else valid
        if not np.all((probability >= 0) & (probability <= 1), where=counted):
            raise InputError(
                f"probabilities reach from {probability.min():.4g} to {probability.max():.4g}; expected 0 to 1, or uint8 "
                f"0 to 255; logits need a sigmoid first"
            )
        values, everything = np.unique(probability[counted], return_counts=True)
        hit, hits = np.unique(probability[true & counted], return_counts=True)
        positives = np.zeros(values.size, np.int64)
        positives[np.searchsorted(values, hit)] = hits
        return cls(values, positives, everything - positives)

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        if np.array_equal(self.values, other.values):
            return ScoreHistogram(self.values, self.positives + other.positives, self.negatives + other.negatives)
        values = np.union1d(self.values, other.values)
        positives, negatives = np.zeros(values.size, np.int64), np.zeros(values.size, np.int64)
        for part in (self, other):
            place = np.searchsorted(values, part.values)
            positives[place] += part.positives
            negatives[place] += part.negatives
        return ScoreHistogram(values, positives, negatives)

    def with_background(self, weight: float) -> ScoreHistogram:
        """Return the histogram in which every background voxel counts `weight` times, rounded to whole voxels."""
        return ScoreHistogram(self.values, self.positives, np.rint(self.negatives * weight).astype(np.int64))

    @property
    def positive(self) -> int:
        """Counted cleft voxels."""
        return int(self.positives.sum())

    @property
    def negative(self) -> int:
        """Counted background voxels."""
        return int(self.negatives.sum())

    def counts(self, threshold: float) -> VoxelCounts:
        """Return the confusion matrix of `probability >= threshold`, the threshold rounded to the type of the prediction."""
        first = int(np.searchsorted(self.values, self.values.dtype.type(threshold)))
        hits, alarms = int(self.positives[first:].sum()), int(self.negatives[first:].sum())
        return VoxelCounts(hits, alarms, self.positive - hits, self.negative - alarms)

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve over all voxels; None where cleft or background voxels are missing.

        It is the probability that a random cleft voxel scores higher than a random background voxel, with equal scores
        counted half: the trapezoid rule over every threshold (Hanley & McNeil, Radiology 1982).
        """
        if not self.positive or not self.negative:
            return None
        higher = self.positive - np.cumsum(self.positives)  # cleft voxels above each value
        return float(np.dot(self.negatives, higher + self.positives / 2) / self.positive / self.negative)

    def ranks(self, values: Array) -> Floats:
        """Return the share of background voxels that score below each of the given values, with equal scores counted half.

        The mean of the ranks of all cleft voxels is the AUC.

        Args:
            values: Probabilities that occur in this prediction.

        Example:
            >>> probability = np.array([0, 100, 100, 255], np.uint8)
            >>> histogram = ScoreHistogram.of(probability, np.array([False, False, True, True]))
            >>> histogram.ranks(probability[2:]).tolist(), histogram.auc
            ([0.75, 1.0], 0.875)
        """
        below = (np.cumsum(self.negatives) - self.negatives / 2) / max(1, self.negative)
        return np.asarray(below[values if values.dtype == np.uint8 else np.searchsorted(self.values, values)])

    def curve(self) -> PrecisionRecall:
        """Return precision, recall and F1 at each probability that occurs; recall is NaN without cleft voxels."""
        occurs = (self.positives + self.negatives) > 0
        hits = np.cumsum(self.positives[::-1])[::-1][occurs].astype(np.float64)
        predicted = np.cumsum((self.positives + self.negatives)[::-1])[::-1][occurs].astype(np.float64)
        recall = hits / self.positive if self.positive else np.full(hits.size, np.nan)
        f1 = 2 * hits / (predicted + self.positive)
        return PrecisionRecall(self.values[occurs].astype(np.float64), hits / predicted, recall, f1)

    def best_f1(self) -> tuple[float, float] | None:
        """Return the threshold with the highest F1 (the lowest among equals), and that F1; None without cleft voxels."""
        if not self.positive:
            return None
        curve = self.curve()
        best = int(np.argmax(curve.f1))
        return float(curve.threshold[best]), float(curve.f1[best])


def _slabs(probability: Array, true: Mask, valid: Mask | None) -> Iterator[tuple[Array, Mask, Mask]]:
    """Yield pieces along the first axis whose copies are small."""
    if valid is None:
        valid = np.broadcast_to(np.True_, true.shape)
    step = max(1, SLAB_VOX * len(probability) // max(1, probability.size))
    for start in range(0, len(probability), step):
        part = slice(start, start + step)
        yield probability[part], true[part], valid[part]
