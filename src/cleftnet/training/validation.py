"""Validation: predicts whole regions as `predict` does, tile borders included, calibrates and scores them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import OVERLAP, Box
from cleftnet.metrics.calibration import Calibration, fit_calibration, reliability
from cleftnet.metrics.distances import CremiScore, cremi_score
from cleftnet.metrics.pooling import PooledScores, pool_at_best_f1
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD, predicted_mask
from cleftnet.metrics.voxels import Mask, ScoreHistogram
from cleftnet.nets.skeleton import Network
from cleftnet.prediction import to_uint8, whole_logits
from cleftnet.volumes import Array, Volume, intensity, is_cleft, is_labelled

UInt8 = npt.NDArray[np.uint8]
Score = Literal["f1", "auc", "cremi_score"]


class Region(NamedTuple):
    """Raw and labels of the same part of a volume."""

    raw: Volume
    labels: Volume


class Scores(PooledScores):
    """Validation scores over all regions, at the threshold with the best F1.

    Attributes:
        threshold: Probability threshold with the best F1.
        calibration_error: Expected calibration error of the probability, over ten bins.
        uncalibrated_error: Expected calibration error of the plain sigmoid.
    """

    threshold: float
    calibration_error: float | None
    uncalibrated_error: float | None

    def better_than(self, other: Scores | None, score: Score) -> bool:
        """Return True when this is better than an earlier validation by the named score.

        An undefined score is never better than a defined one; where both are undefined, the later validation counts.
        """
        mine, theirs = getattr(self, score), getattr(other, score, None)
        if mine is None or theirs is None:
            return theirs is None
        return bool(mine < theirs if score == "cremi_score" else mine > theirs)


class Validation(NamedTuple):
    """Result of a validation.

    Attributes:
        calibration: Maps the segmentation logit to a probability.
        scores: Scores at the threshold with the best F1.
        picture: uint8 `y x`: raw, truth and probability side by side, of the first region's section with most cleft; None
            without a region.
    """

    calibration: Calibration
    scores: Scores
    picture: UInt8 | None


def validate(net: Network, regions: Sequence[Region], *, overlap: float = OVERLAP) -> Validation:
    """Predict whole regions, as `predict` does; calibrate the logits on them, and score them together.

    Args:
        net: Network to validate.
        regions: Regions to predict and score; the CREMI score is the mean over them, as in the challenge.
        overlap: Share of the patch that neighboring tiles have in common.

    Returns:
        The calibration, the scores at the threshold with the best F1, and a picture; without a region, no calibration and
        undefined scores.
    """
    if not regions:
        return NO_VALIDATION
    return assess([whole_logits(net, region.raw, overlap=overlap)[0] for region in regions], regions)


_UNDEFINED = dict.fromkeys(Scores.model_fields) | {"threshold": DEFAULT_THRESHOLD}
NO_VALIDATION = Validation(Calibration(), Scores(**_UNDEFINED), None)


def assess(logits: Sequence[Array], regions: Sequence[Region], background_weight: float = 1.0) -> Validation:
    """Calibrate the logits of whole regions on their labels, and score them together.

    Args:
        logits: Segmentation logits `z y x` of each region.
        regions: Regions that the logits were predicted from.
        background_weight: How many background voxels of the volume each one of the regions stands for, in relation to the
            cleft voxels. Calibration and threshold are those for the volume; the scores are those of the regions.

    Returns:
        The calibration, the scores at the threshold with the best F1, and a picture.
    """
    labels = [region.labels.read() for region in regions]
    true, valid = [is_cleft(ids) for ids in labels], [is_labelled(ids) for ids in labels]
    calibration = fit_calibration(logits, true, valid).with_background(background_weight)
    uncorrected = _histogram([to_uint8(Calibration().probability(part)) for part in logits], true, valid)
    predictions = [to_uint8(calibration.probability(part)) for part in logits]
    histogram = _histogram(predictions, true, valid)

    def distances_at(threshold: float) -> list[CremiScore]:
        masks = [predicted_mask(prediction, threshold) for prediction in predictions]
        sizes = [region.raw.voxel_size_nm for region in regions]
        return [cremi_score(*given) for given in zip(masks, true, sizes, valid, strict=True)]

    threshold, pooled = pool_at_best_f1(histogram, distances_at, background_weight)
    scores = Scores(
        **pooled.model_dump(),
        threshold=threshold,
        calibration_error=reliability(histogram).error,
        uncalibrated_error=reliability(uncorrected).error,
    )
    return Validation(calibration, scores, _side_by_side(regions[0].raw, true[0], predictions[0]))


def _histogram(probabilities: Sequence[Array], true: Sequence[Mask], valid: Sequence[Mask]) -> ScoreHistogram:
    return functools.reduce(operator.add, map(ScoreHistogram.of, probabilities, true, valid))


def _side_by_side(raw: Volume, true: Mask, prediction: UInt8) -> UInt8:
    """Return raw, truth and probability of the section with most cleft, side by side, `y x`."""
    z = int(true.sum(axis=(1, 2)).argmax())
    _, height, width = raw.shape
    gray = to_uint8(intensity(raw[Box((z, 0, 0), (z + 1, height, width))][0]))
    return np.concatenate([gray, true[z].astype(np.uint8) * np.uint8(255), prediction[z]], axis=1)
