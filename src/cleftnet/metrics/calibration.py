"""Calibrates probabilities: scale and shift of the logit are fitted on the validation regions.

The class weights of Eq. 7 and the coherence loss of Eq. 9 push logits far from the true odds. Platt scaling (Platt 1999, with
his smoothed targets) corrects that: `P(cleft) = sigmoid(scale · logit − shift)`, which is monotone and changes no ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from cleftnet.metrics.voxels import Floats, Integers, Mask, ScoreHistogram
from cleftnet.volumes import Array

BINS = 4096  # of the logits; far finer than a fit of two numbers can resolve


class Calibration(NamedTuple):
    """`P(cleft) = sigmoid(scale · logit − shift)`."""

    scale: float = 1.0
    shift: float = 0.0

    def probability(self, logits: Array) -> Array:
        """Return probabilities from 0 to 1, of the type and shape of the logits."""
        return np.asarray(expit(self.scale * logits - self.shift))


def fit_calibration(logits: Sequence[Array], true: Sequence[Mask], valid: Sequence[Mask]) -> Calibration:
    """Fit scale and shift by maximum likelihood of the labels.

    Args:
        logits: Segmentation logits of each region.
        true: Voxels of each region that are cleft.
        valid: Voxels of each region that are labeled.

    Returns:
        The calibration with the highest likelihood; the identity where cleft or background voxels are missing.

    Example:
        >>> logits = np.repeat([-4.0, 4.0], 1000)           # odds of 1:3 and 3:1, given as e^-4 and e^4
        >>> true = np.tile([True, False, False, False], 500)
        >>> true[1000:] ^= True
        >>> calibration = fit_calibration([logits], [true], [np.ones(2000, bool)])
        >>> calibration.probability(np.array([-4.0, 4.0])).round(2).tolist()
        [0.25, 0.75]
    """
    low, high = min(float(part.min()) for part in logits), max(float(part.max()) for part in logits)
    edges = np.linspace(low, high + 1e-6 + 1e-6 * abs(high), BINS + 1)
    positives, negatives = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for part, cleft, labeled in zip(logits, true, valid, strict=True):
        positives += np.histogram(part[cleft & labeled], edges)[0]
        negatives += np.histogram(part[~cleft & labeled], edges)[0]
    if not positives.any() or not negatives.any():
        return Calibration()
    return _most_likely((edges[:-1] + edges[1:]) / 2, positives, negatives)


def _most_likely(values: Floats, positives: Integers, negatives: Integers) -> Calibration:
    """Minimize the cross-entropy over scale and shift, which is convex, by Newton steps within a trust region."""
    certain = (positives.sum() + 1) / (positives.sum() + 2)  # Platt's targets: finite even where a threshold separates
    unlikely = 1 / (negatives.sum() + 2)
    every = (positives + negatives) / positives.sum()
    cleft = (certain * positives + unlikely * negatives) / positives.sum()
    middle, spread = float(values.mean()), max(float(np.ptp(values)), 1e-6)
    design = np.stack([(values - middle) / spread, -np.ones_like(values)])

    def cross_entropy(point: Floats) -> float:
        logit = point @ design
        return float(-(cleft @ log_expit(logit) + (every - cleft) @ log_expit(-logit)))

    def gradient(point: Floats) -> Floats:
        return np.asarray(design @ (every * expit(point @ design) - cleft))

    def curvature(point: Floats) -> Floats:
        probability = expit(point @ design)
        return np.asarray((design * (every * probability * (1 - probability))) @ design.T)

    found = minimize(cross_entropy, [1.0, 0.0], method="trust-exact", jac=gradient, hess=curvature)
    scale = max(float(found.x[0]) / spread, 1e-6)  # a network that ranks backwards keeps its ranking
    return Calibration(scale, float(found.x[1]) + scale * middle)


class Reliability(NamedTuple):
    """Reliability curve by bins of probability.

    Attributes:
        voxels: Number of voxels.
        predicted: Mean probability.
        observed: Share of the voxels that are cleft.
    """

    voxels: Integers
    predicted: Floats
    observed: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over voxels of the difference of predicted and observed."""
        return float(np.abs(self.predicted - self.observed) @ self.voxels / self.voxels.sum())


def reliability(histogram: ScoreHistogram, bins: int = 10) -> Reliability:
    """Return the reliability curve of a prediction, without bins that have no voxels.

    Example:
        >>> probability = np.array([0, 255, 255, 255], np.uint8)
        >>> curve = reliability(ScoreHistogram.of(probability, np.array([False, True, True, False])))
        >>> curve.observed.round(2).tolist(), round(curve.error, 2)
        ([0.0, 0.67], 0.25)
    """
    place = np.minimum((histogram.values * bins).astype(int), bins - 1)
    every = histogram.positives + histogram.negatives
    voxels = np.bincount(place, every, bins)
    used = voxels > 0
    predicted = np.bincount(place, every * histogram.values, bins)[used] / voxels[used]
    observed = np.bincount(place, histogram.positives, bins)[used] / voxels[used]
    return Reliability(voxels[used].astype(np.int64), predicted, observed)
