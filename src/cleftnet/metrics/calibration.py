"""Calibrates probabilities: scale and shift of the logit are fitted on the validation regions.

The class weights of Eq. 7 and the coherence loss of Eq. 9 push logits far from the true odds. Platt scaling (Platt 1999, with
his smoothed targets) corrects that: `P(cleft) = sigmoid(scale · logit − shift)`, which is monotone and changes no ranking.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from cleftnet.metrics.voxels import Floats, Integers, Mask, ScoreHistogram
from cleftnet.volumes import Array

BINS = 4096  # quantiles of the logits, half of cleft and half of other voxels; a fit of two numbers resolves no more
CONVERGED = 1e-4  # largest mean residual of a fit, as a share of the voxels
LEAST_SCALE = 1e-6

log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """`P(cleft) = sigmoid(scale · logit − shift)`."""

    scale: float = 1.0
    shift: float = 0.0

    def probability(self, logits: Array) -> Array:
        """Return probabilities from 0 to 1, of the type and shape of the logits."""
        return np.asarray(expit(self.scale * logits - self.shift))

    def with_background(self, weight: float) -> Calibration:
        """Return the calibration for tissue that holds another share of background than the labels it was fitted on.

        Bayes' rule for another prior (Saerens et al., Neural Computation 2002): all odds are divided by the weight.

        Args:
            weight: Background voxels for each cleft voxel, as a multiple of those in the labels; above 0.

        Example:
            >>> round(float(Calibration().with_background(3.0).probability(np.array(0.0))), 6)  # odds of 1:1 become 1:3
            0.25
        """
        return self._replace(shift=self.shift + float(np.log(weight)))


def fit_calibration(logits: Sequence[Array], true: Sequence[Mask], valid: Sequence[Mask]) -> Calibration:
    """Fit scale and shift by maximum likelihood of the labels, on quantiles of the labeled voxels' logits.

    So a single logit far away decides nothing, and unlabeled voxels have no part in it. A fit that fails is logged.

    Args:
        logits: Segmentation logits of each region.
        true: Voxels of each region that are cleft.
        valid: Voxels of each region that are labeled.

    Returns:
        The calibration with the highest likelihood; the identity where cleft or background voxels are missing,
        or where none was found.

    Example:
        >>> logits = np.repeat([-4.0, 4.0], 1000)           # odds of 1:3 and 3:1, given as e^-4 and e^4
        >>> true = np.tile([True, False, False, False], 500)
        >>> true[1000:] ^= True
        >>> calibration = fit_calibration([logits], [true], [np.ones(2000, bool)])
        >>> calibration.probability(np.array([-4.0, 4.0])).round(2).tolist()
        [0.25, 0.75]
    """
    positives = np.sort(
        np.concatenate([part[cleft & known] for part, cleft, known in zip(logits, true, valid, strict=True)])
    )
    negatives = np.sort(
        np.concatenate([part[~cleft & known] for part, cleft, known in zip(logits, true, valid, strict=True)])
    )
    if not positives.size or not negatives.size:
        return Calibration()
    if not np.isfinite([positives[0], positives[-1], negatives[0], negatives[-1]]).all():  # NaN is sorted to the end
        log.warning(
            "some logits are not finite, so no calibration was found; probabilities are those of the plain sigmoid"
        )
        return Calibration()
    edges = np.unique(np.concatenate([_quantiles(positives), _quantiles(negatives)]))
    (cleft, cleft_sums), (other, other_sums) = _binned(positives, edges), _binned(negatives, edges)
    return _most_likely((cleft_sums + other_sums) / (cleft + other), cleft, other)


def _quantiles(ascending: Array) -> Array:
    """Return evenly spread values of an ascending array, its first among them."""
    return ascending[np.linspace(0, ascending.size - 1, BINS // 2).astype(np.int64)]


def _binned(ascending: Array, edges: Array) -> tuple[Integers, Floats]:
    """Return number and sum of the values from each edge to the next; what lies below the first edge does not exist."""
    starts = np.searchsorted(ascending, edges)
    counts = np.diff(starts, append=ascending.size)
    sums = np.zeros(len(edges))
    filled = counts > 0
    sums[filled] = np.add.reduceat(ascending, starts[filled], dtype=np.float64)
    return counts, sums


def _most_likely(values: Floats, positives: Integers, negatives: Integers) -> Calibration:
    """Minimize the cross-entropy over scale and shift, which is convex, by Newton steps within a trust region.

    Args:
        values: Mean logit of every bin, ascending.
        positives: Cleft voxels of every bin.
        negatives: Other labeled voxels of every bin.
    """
    certain = (positives.sum() + 1) / (positives.sum() + 2)  # Platt's targets: finite even where a threshold separates
    unlikely = 1 / (negatives.sum() + 2)
    every = (positives + negatives) / positives.sum()
    cleft = (certain * positives + unlikely * negatives) / positives.sum()
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))  # single logits far away do not count in them
    spread = max(float(high - low), 1e-6)
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
    steepness = float(np.abs(found.jac).max()) / float(every.sum())
    if not np.isfinite(found.x).all() or steepness > CONVERGED:
        log.warning(f"no calibration was found ({found.message}); probabilities are those of the plain sigmoid")
        return Calibration()
    scale = float(found.x[0]) / spread
    if scale < LEAST_SCALE:
        log.warning("the logits of this model rank voxels no better than chance; its probabilities are nearly constant")
        scale = LEAST_SCALE  # a network that ranks backwards keeps its ranking
    return Calibration(scale, float(found.x[1]) + scale * float(middle))


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
