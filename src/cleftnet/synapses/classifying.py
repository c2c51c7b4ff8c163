"""Fits the classifier of components, a logistic regression on standardized features.

The strength of its penalty, and the scores that it is judged by, are cross-validated over groups of neighboring objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.models.operating_point import ObjectClassifier
from cleftnet.synapses.candidates import Candidates
from cleftnet.synapses.features import FEATURES, RAW_FEATURES

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # inverse penalties that are tried; a small one pulls weights to 0
MIN_EACH = 10  # true and false components, below which nothing is fitted
GROUPS = 5  # of neighboring objects, where there are fewer than three regions


def fit_classifier(features: Mapping[str, Floats], right: Mask, strength: float) -> ObjectClassifier:
    """Fit a classifier to components.

    Args:
        features: Features by name, one value for each component.
        right: Whether each component is matched with a true cleft.
        strength: Inverse of the penalty on the weights.
    """
    values = np.stack(list(features.values()), axis=1)
    center, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    *weight, intercept = _logistic_regression((values - center) / scale, right, strength).tolist()
    return ObjectClassifier(
        features=tuple(features),
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        weight=tuple(weight),
        intercept=intercept,
    )


def _logistic_regression(values: Floats, right: Mask, strength: float) -> Floats:
    """Minimize the penalized cross-entropy, which is convex, by Newton steps within a trust region.

    Args:
        values: Standardized features, a row for each component.
        right: Whether each component is matched with a true cleft.
        strength: Inverse of the penalty on the weights; there is none on the intercept.

    Returns:
        The weights, followed by the intercept.
    """
    design = np.column_stack([values, np.ones(len(values))])
    sign = np.where(right, 1.0, -1.0)
    penalty = np.append(np.full(values.shape[1], 1 / (strength * len(values))), 0.0)

    def cross_entropy(point: Floats) -> float:
        return float(-log_expit(sign * (design @ point)).mean() + (penalty * point**2).sum() / 2)

    def gradient(point: Floats) -> Floats:
        return np.asarray((expit(design @ point) - right) @ design / len(design) + penalty * point)

    def hessian(point: Floats) -> Floats:
        probability = expit(design @ point)
        spread = probability * (1 - probability) / len(design)
        return np.asarray((design.T * spread) @ design + np.diag(penalty))

    start = np.zeros(design.shape[1])
    found = minimize(cross_entropy, start, method="trust-exact", jac=gradient, hess=hessian, options={"gtol": 1e-9})
    return np.asarray(found.x)


def cross_validated(features: Mapping[str, Floats], right: Mask, groups: Integers, strength: float) -> Floats:
    """Return the probability of each component by a classifier that was fitted to the other groups.

    Args:
        features: Features by name, one value for each component.
        right: Whether each component is matched with a true cleft.
        groups: Group of each component.
        strength: Inverse of the penalty on the weights.
    """
    scores = np.empty(len(right))
    for group in np.unique(groups):
        own = groups == group
        others = {name: values[~own] for name, values in features.items()}
        if 0 < right[~own].sum() < (~own).sum():
            fitted = fit_classifier(others, right[~own], strength)
            scores[own] = fitted.probability({name: values[own] for name, values in features.items()})
        else:
            scores[own] = right[~own].mean() if (~own).any() else 0.5
    return scores


def best_strength(features: Mapping[str, Floats], right: Mask, groups: Integers) -> tuple[float, Floats]:
    """Return the strength with the lowest cross-validated log loss, and the cross-validated probabilities with it."""

    def loss(scores: Floats) -> float:
        likelihood = np.clip(np.where(right, scores, 1 - scores), 1e-12, 1)
        return float(-np.log(likelihood).mean())

    tried = [(strength, cross_validated(features, right, groups, strength)) for strength in STRENGTHS]
    return min(tried, key=lambda one: loss(one[1]))


def group_objects(centers_nm: Sequence[Floats], right: Sequence[Mask]) -> list[Integers]:
    """Return the group of each component for cross-validation, region by region.

    Regions are groups, where at least three of them hold true components. Otherwise components are grouped along the longest
    axis, region after region, so that every group holds about as many true ones.

    Args:
        centers_nm: Centers of the components of each region, a row z y x each; of the true cleft that one overlaps, if any, so
            that pieces of one cleft stay together.
        right: Whether each component is matched with a true cleft, region by region.
    """
    if sum(bool(own.any()) for own in right) >= 3:
        return [np.full(len(own), number) for number, own in enumerate(right)]
    every = np.concatenate(list(centers_nm))
    axis = int(np.ptp(every, axis=0).argmax()) if len(every) else 0
    places = [np.stack([np.full(len(own), n), own[:, axis]], axis=1) for n, own in enumerate(centers_nm)]
    ordered = np.concatenate(places)
    true = ordered[np.concatenate(list(right))]
    true = true[np.lexsort((true[:, 1], true[:, 0]))]
    borders = true[[len(true) * n // GROUPS for n in range(1, GROUPS)]] if len(true) else np.zeros((0, 2))
    return [
        np.array([sum(tuple(place) >= tuple(border) for border in borders) for place in own], np.int64)
        for own in places
    ]


@dataclass(frozen=True)
class JudgedComponents:
    """The components of several regions, judged by classifiers that were fitted to other groups of them.

    Attributes:
        scores: Cross-validated probability of each component, region by region; 0 for those that are too small to be judged.
        features: Features of all components that are judged, by name.
        right: Whether each of these is matched with a true cleft.
        groups: Group of each of these.
    """

    scores: list[Floats]
    features: dict[str, Floats]
    right: Mask
    groups: Integers

    def classifiers(self) -> tuple[ObjectClassifier, ...]:
        """Return classifiers fitted to all components: with raw, where every region has it, and without."""
        without = {name: values for name, values in self.features.items() if name not in RAW_FEATURES}
        sets = [without] if len(without) == len(self.features) else [self.features, without]
        return tuple(
            fit_classifier(features, self.right, best_strength(features, self.right, self.groups)[0])
            for features in sets
        )


def judge(candidates: Sequence[Candidates], min_size_nm3: float) -> JudgedComponents | None:
    """Judge the components of several regions; None where there are too few true or false ones to learn from.

    Args:
        candidates: Components of each region.
        min_size_nm3: Smallest volume of a component that is judged.
    """
    large = [one.large(min_size_nm3) for one in candidates]
    right = [one.matched(own).predicted for one, own in zip(candidates, large, strict=True)]
    every = np.concatenate(right)
    if min(every.sum(), (~every).sum()) < MIN_EACH:
        return None
    names = [name for name in FEATURES if all(name in one.features for one in candidates)]
    features = {
        name: np.concatenate([one.features[name][own] for one, own in zip(candidates, large, strict=True)])
        for name in names
    }
    centers = [one.centers_nm()[own] for one, own in zip(candidates, large, strict=True)]
    groups = np.concatenate(group_objects(centers, right))
    found, start, scores = best_strength(features, every, groups)[1], 0, []
    for own in large:
        here = np.zeros(len(own))
        here[own] = found[start : start + int(own.sum())]
        start += int(own.sum())
        scores.append(here)
    return JudgedComponents(scores, features, every, groups)
