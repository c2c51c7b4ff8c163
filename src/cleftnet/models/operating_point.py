"""The operating point of a model: which parts of its predictions are synapses, and how far each one is trusted.

It is part of the model card, `predict` stores a copy of it with every probability, and `find_synapses` uses that copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from cleftnet.metrics.voxels import Floats
from cleftnet.settings import Settings

MAX_GAP = 8  # sections; synapses farther apart are two

Probability = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ObjectClassifier(Settings):
    """A logistic regression on measured features of a component: the probability that it is a synapse.

    The probability is `sigmoid(intercept + Σ weight · (feature − center) / scale)`. The values are plain numbers, so that a
    file with a classifier holds nothing that could be executed.

    Attributes:
        features: Names of the features, see `docs/synapses.md`.
        center: Mean of each feature where it was fitted.
        scale: Standard deviation of each feature where it was fitted.
        weight: Increase of the log odds by one standard deviation of each feature.
        intercept: Log odds where every feature has its mean.

    Raises:
        InputError: when the arrays differ in length, or a value is not finite.
    """

    features: tuple[str, ...] = Field(min_length=1)
    center: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    weight: tuple[Finite, ...]
    intercept: Finite

    @model_validator(mode="after")
    def _one_value_for_each_feature(self) -> Self:
        lengths = {len(self.features), len(self.center), len(self.scale), len(self.weight)}
        if len(lengths) > 1:
            raise ValueError(
                f"{len(self.features)} features, {len(self.center)} centers, {len(self.scale)} scales and "
                f"{len(self.weight)} weights; expected one of each for every feature"
            )
        return self

    def probability(self, measured: Mapping[str, Floats]) -> Floats:
        """Return the probability of each component, 0 to 1.

        Args:
            measured: Features by name, one value for each component.

        Example:
            >>> one = ObjectClassifier(features=("sections",), center=(3,), scale=(2,), weight=(1,), intercept=0)
            >>> one.probability({"sections": np.array([3.0, 5.0])}).round(2).tolist()
            [0.5, 0.73]
        """
        values = np.stack([measured[name] for name in self.features], axis=1)
        standard = (values - np.array(self.center)) / np.array(self.scale)
        # a sum row by row, so that a component's probability does not depend on how many others there are
        log_odds = self.intercept + (standard * np.array(self.weight)).sum(axis=1)
        return np.asarray(expit(log_odds))


class OperatingPoint(Settings):
    """Which components of a prediction are synapses.

    Attributes:
        threshold: Voxels of at least this probability are cleft.
        seed_threshold: Hysteresis: leaves out synapses without a voxel of at least this probability; 0 leaves out none.
        gap: Fills runs of at most so many sections without cleft, between two cleft voxels of one column (same y and x).
        hole_nm: Fills holes within a section, background that cleft encloses, up to this width along y and x; 0 fills none.
        min_size_nm3: Leaves out synapses of a smaller volume.
        min_score: Leaves out synapses of a lower score.
        classifiers: Classifiers that give the score; the first one whose features can be measured is used. Without one the
            score is the mean probability.

    Raises:
        InputError: when a value is out of range.
    """

    threshold: Probability
    seed_threshold: Probability = 0.0
    gap: int = Field(0, ge=0, le=MAX_GAP)
    hole_nm: Length = 100.0
    min_size_nm3: Length = 0.0
    min_score: Probability = 0.0
    classifiers: tuple[ObjectClassifier, ...] = ()

    def rows(self) -> list[tuple[str, float | int | None]]:
        """Return names and values, without the classifiers."""
        return [(name, getattr(self, name)) for name in type(self).model_fields if name != "classifiers"]

    def describe(self) -> str:
        """Return the values in one line.

        Example:
            >>> OperatingPoint(threshold=0.3, gap=1, min_size_nm3=2e5).describe()
            'threshold 0.3, gap 1, holes 100 nm, smallest size 200000 nm³, scores are mean probabilities'
        """
        parts = [f"threshold {self.threshold:.3g}"]
        if self.seed_threshold:
            parts.append(f"seed threshold {self.seed_threshold:.3g}")
        parts += [f"gap {self.gap}", f"holes {self.hole_nm:g} nm", f"smallest size {self.min_size_nm3:g} nm³"]
        if self.min_score:
            parts.append(f"lowest score {self.min_score:.3g}")
        if self.classifiers:
            parts.append(f"scores by a classifier of {len(self.classifiers[0].features)} features")
        else:
            parts.append("scores are mean probabilities")
        return ", ".join(parts)
