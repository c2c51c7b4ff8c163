"""How far to trust a synapse: the share of such components that were true ones on labels, by their summed probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

Floats = npt.NDArray[np.float64]

PRIOR_NM3 = 1e4  # about a dozen voxels: what is smaller differs by chance


@dataclass(frozen=True)
class SynapseScore:
    """A logistic curve over the logarithm of the summed probability, in nm³: large and sure components score high.

    Attributes:
        intercept: At a summed probability of nothing.
        slope: A factor e of (1 + sum / 10⁴ nm³) more adds this to the log odds.
    """

    intercept: float
    slope: float

    def of(self, summed_nm3: Floats) -> Floats:
        """Return scores of 0 to 1.

        Args:
            summed_nm3: Probability summed over a synapse's voxels, times a voxel's volume.

        Example:
            >>> SynapseScore(-2, 1).of(np.array([0, 1e5])).round(2).tolist()
            [0.12, 0.6]
        """
        scores: Floats = expit(self.intercept + self.slope * np.log1p(np.asarray(summed_nm3) / PRIOR_NM3))
        return scores


def fit_score(summed_nm3: Floats, right: npt.NDArray[np.bool_]) -> SynapseScore:
    """Fit the curve by largest likelihood, towards Platt's (1999) smoothed targets, so that few labels give no certainty.

    Args:
        summed_nm3: Of components of any size.
        right: Whether each is matched with a true cleft.

    Example:
        >>> fitted = fit_score(np.array([1e4, 2e4, 1e6, 3e6]), np.array([False, False, True, True]))
        >>> fitted.of(np.array([1e4, 3e6])).round(1).tolist()
        [0.2, 0.8]
    """
    x = np.log1p(np.asarray(summed_nm3) / PRIOR_NM3)
    true, false = int(np.count_nonzero(right)), int(np.count_nonzero(~right))
    target = np.where(right, (true + 1) / (true + 2), 1 / (false + 2))

    def cross_entropy(point: Floats) -> float:
        log_odds = point[0] + point[1] * x
        return float((np.logaddexp(0, log_odds) - target * log_odds).sum() + 1e-3 * point[1] ** 2)

    best = minimize(cross_entropy, np.zeros(2), method="Nelder-Mead").x
    return SynapseScore(float(best[0]), float(best[1]))
