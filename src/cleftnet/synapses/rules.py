"""What counts as a synapse, and how far each one is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field, InstanceOf, model_validator
from scipy.optimize import minimize
from scipy.special import expit

from cleftnet.errors import InputError
from cleftnet.metrics.voxels import Floats, Mask
from cleftnet.settings import Settings
from cleftnet.volumes import Address, Volume

MAX_GAP = 8  # sections; synapses farther apart are two
REACH_NM = 60.0  # past the membrane and its density, but short of the next neurite but one
PRIOR_NM3 = 1e4  # about a dozen voxels; the summed probability of anything smaller differs by chance

Probability = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class SynapseScore:
    """How far to trust a synapse, 0 to 1: a logistic curve over the logarithm of its summed probability in nm³.

    It estimates the share of such components that are true clefts; large components of high probability score high.

    Attributes:
        intercept: Log odds at a summed probability of 0.
        slope: Increase of the log odds when 1 + sum / 10⁴ nm³ grows by a factor e.
    """

    intercept: float
    slope: float

    def of(self, summed_nm3: Floats) -> Floats:
        """Return the score of each synapse.

        Args:
            summed_nm3: Probability summed over a synapse's voxels, times the volume of a voxel.

        Example:
            >>> SynapseScore(-2, 1).of(np.array([0, 1e5])).round(2).tolist()
            [0.12, 0.6]
        """
        scores: Floats = expit(self.intercept + self.slope * np.log1p(np.asarray(summed_nm3) / PRIOR_NM3))
        return scores


def fit_score(summed_nm3: Floats, right: Mask) -> SynapseScore:
    """Fit the curve by maximum likelihood to Platt's (1999) smoothed targets, so that few labels give no certainty.

    Args:
        summed_nm3: Summed probability of components of any size, times the volume of a voxel.
        right: Whether each component is matched with a true cleft.

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


class SynapseSettings(Settings):
    """What counts as a synapse, how far each one is trusted, and which neurons are looked for at each.

    Attributes:
        threshold: Voxels of at least this probability are cleft; None takes the threshold stored with the prediction, else 0.5.
        seed_threshold: Hysteresis: leaves out synapses without a voxel of at least this probability.
        gap: Fills runs of at most so many sections without cleft, between two cleft voxels of one column (same y and x).
        hole_nm: Fills holes within a section, background that cleft encloses, up to this width along y and x; 0 fills none.
        min_size_nm3: Leaves out synapses of a smaller volume.
        score: How far each synapse is trusted, as fitted on labels; None takes its mean probability.
        kind: What the prediction holds ("probability", "mask", "labels"), where its type does not show it.
        segmentation: Ids of neurons, 0 for none, which cover the prediction; the table then names the neurons that meet at
            each synapse.
        reach_nm: How far from a synapse contact with neurons is counted; at least one voxel along each axis.
    """

    threshold: Probability | None = None
    seed_threshold: Probability | None = None
    gap: int = Field(0, ge=0, le=MAX_GAP)
    hole_nm: Length = 100.0
    min_size_nm3: Length = 0.0
    score: SynapseScore | None = None
    kind: str | None = None
    segmentation: InstanceOf[Volume] | Address | InstanceOf[np.ndarray] | None = Field(None, exclude=True)
    reach_nm: Length = Field(REACH_NM, exclude=True)

    @model_validator(mode="after")
    def _seeds_are_higher(self) -> Self:
        check_seeds(self.threshold, self.seed_threshold)
        return self


def check_seeds(threshold: float | None, seed_threshold: float | None) -> None:
    """Raise `InputError` when the threshold of seeds lies below that of the other voxels: every synapse would have one."""
    if threshold is not None and seed_threshold is not None and seed_threshold < threshold:
        raise InputError(
            f"seed_threshold={seed_threshold:g} is below threshold={threshold:g}, so that every synapse would pass; choose a "
            f"higher one, or leave it out"
        )
