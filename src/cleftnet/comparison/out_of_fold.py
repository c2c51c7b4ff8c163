"""Scores out-of-fold predictions of one volume; all that scoring a fold needs is chosen on the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cleftnet.comparison.cells import FoldChoice, SynapseScores, VoxelScores
from cleftnet.comparison.folds import fold_of_each
from cleftnet.comparison.region_scores import RegionScores
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.metrics.calibration import Calibration, fit_calibration
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.intervals import territories
from cleftnet.metrics.pooling import pool
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD, predicted_mask
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.prediction import to_uint8
from cleftnet.synapses import SynapseSettings, TuningSettings, find_synapses, tune
from cleftnet.training.validation import Region
from cleftnet.volumes import Array, Volume, is_cleft, is_labelled


class FoldLogits(NamedTuple):
    """The prediction of one fold by a model that never saw it.

    Attributes:
        scored: The part that is scored, in voxels of the volume.
        logits: Segmentation logits of that part, float32 z y x, not calibrated.
    """

    scored: Box
    logits: Array


def score_out_of_fold(
    folds: Sequence[FoldLogits], region: Region, tuning: TuningSettings
) -> tuple[RegionScores, tuple[FoldChoice, ...], Volume]:
    """Calibrate, threshold and tune every fold on the others, then score the whole volume once.

    Clefts that straddle a border are scored whole. A synapse belongs to the fold with most of its voxels, whose operating
    point (threshold, gap, smallest size, classifier) decides whether it is one.

    Args:
        folds: Predictions that together cover the volume once.
        region: Raw and labels of the volume.
        tuning: Values to try for whole synapses.

    Returns:
        The scores of the whole volume, with the medians over folds as thresholds and smallest size; what was chosen for
        each fold; and the probability of the whole volume, uint8, each fold calibrated on the others.

    Raises:
        InputError: when there is one fold only, or the other folds of some fold hold no cleft to choose on.
    """
    if len(folds) < 2:
        raise InputError(f"{len(folds)} fold cannot be scored out of fold; expected at least two")
    labels = region.labels.read()
    probability, voxels = np.zeros(labels.shape, np.uint8), np.zeros(labels.shape, np.bool_)
    choices, points = [], []
    for number, (scored, logits) in enumerate(folds):
        others = [fold for other, fold in enumerate(folds) if other != number]
        chosen = choose_on_folds(others, region, tuning)
        part = to_uint8(chosen.calibration.probability(logits))
        probability[scored.slices] = part
        voxels[scored.slices] = predicted_mask(part, chosen.threshold)
        choices.append(chosen.record(scored))
        points.append(chosen.point)
    threshold = float(np.median([choice.threshold for choice in choices]))
    stitched = Volume(probability, region.labels.voxel_size, region.labels.offset_nm, threshold=threshold)
    found = _find(stitched, region.raw, [fold.scored for fold in folds], points)
    return _score(probability, voxels, found, region, choices), tuple(choices), stitched


class ChosenOnFolds(NamedTuple):
    """What out-of-fold predictions choose for predictions of tissue that they do not cover.

    Attributes:
        calibration: Calibration of the logits.
        threshold: Probability with the best voxel F1.
        point: How synapses are found.
    """

    calibration: Calibration
    threshold: float
    point: OperatingPoint

    def record(self, scored: Box) -> FoldChoice:
        """Return the choice for one fold as `cell.json` keeps it."""
        return FoldChoice(
            scored=str(scored),
            scale=self.calibration.scale,
            shift=self.calibration.shift,
            threshold=self.threshold,
            synapse_threshold=self.point.threshold,
            seed_threshold=self.point.seed_threshold,
            min_size_nm3=self.point.min_size_nm3,
            gap=self.point.gap,
            min_score=self.point.min_score,
        )


def choose_on_folds(folds: Sequence[FoldLogits], region: Region, tuning: TuningSettings) -> ChosenOnFolds:
    """Choose calibration, threshold and operating point on out-of-fold predictions.

    Args:
        folds: Predictions, each by a model that never saw its part.
        region: Raw and labels of the volume.
        tuning: Values to try for whole synapses.

    Raises:
        InputError: when the folds hold no cleft.
    """
    regions = [Region(region.raw.crop(box), region.labels.crop(box)) for box, _ in folds]
    labels = [part.labels.read() for part in regions]
    true, valid = [is_cleft(ids) for ids in labels], [is_labelled(ids) for ids in labels]
    if not any(part.any() for part in true):
        raise InputError(
            f"the folds {', '.join(str(box) for box, _ in folds)} hold no cleft, so nothing can be chosen on them; move "
            f"borders_vox"
        )
    calibration = fit_calibration([logits for _, logits in folds], true, valid)
    predictions = [to_uint8(calibration.probability(logits)) for _, logits in folds]
    histograms = [ScoreHistogram.of(*part) for part in zip(predictions, true, valid, strict=True)]
    best = sum(histograms[1:], start=histograms[0]).best_f1()
    placed = [
        Volume(prediction, part.labels.voxel_size, part.labels.offset_nm)
        for prediction, part in zip(predictions, regions, strict=True)
    ]
    tuned = tune(placed, [part.labels for part in regions], raw=[part.raw for part in regions], grid=tuning)
    return ChosenOnFolds(calibration, best[0] if best else DEFAULT_THRESHOLD, tuned.point)


def _find(probability: Volume, raw: Volume, boxes: Sequence[Box], points: Sequence[OperatingPoint]) -> Array:
    """Find the synapses of every fold at its own operating point, as ids z y x.

    Synapses are found in the whole volume, and each is kept if most of it lies in the fold whose operating point found it. Two
    that overlap at a border, because two folds found the same synapse, become one.
    """
    ids = np.zeros(probability.shape, np.int64)
    for fold, point in enumerate(points):
        found = (
            find_synapses(probability, settings=SynapseSettings(point=point, raw=raw)).labels.read().astype(np.int64)
        )
        new = np.zeros(int(found.max()) + 1, np.int64)
        for synapse, most in fold_of_each(found, boxes).items():
            new[synapse] = ids.max() + synapse if most == fold else 0
        own = new[found]
        both = (ids > 0) & (own > 0)
        for earlier, later in set(zip(ids[both].tolist(), own[both].tolist(), strict=True)):
            own[own == later] = earlier
        ids = np.where(ids > 0, ids, own)
    return ids


def _score(
    probability: Array, voxels: Array, synapses: Array, region: Region, choices: Sequence[FoldChoice]
) -> RegionScores:
    """Score the stitched predictions of all folds: probability, voxel mask, and ids of synapses."""
    truth, size = region.labels, region.labels.voxel_size_nm

    def placed(values: Array) -> Volume:
        return Volume(values, truth.voxel_size, truth.offset_nm)

    swept = evaluate(placed(probability), truth, kind="probability", settings=ScoringSettings(sweep=True))
    of_voxels, of_synapses = evaluate(placed(voxels), truth), evaluate(placed(synapses.astype(np.uint64)), truth)
    histogram, objects = swept.histogram, of_synapses.objects
    assert histogram is not None
    assert swept.sweep is not None
    assert objects is not None
    lowest = min(
        ((s.distances.score, t) for t, s in swept.sweep.at.items() if s.distances.score is not None),
        default=(None, None),
    )
    pooled = pool(of_voxels.scores.counts, histogram, [of_voxels.scores.distances])
    labels = truth.read()
    around = territories(voxels, synapses, labels, histogram.ranks(probability[is_cleft(labels)]), size)
    fold = fold_of_each(labels, [Box.parse(choice.scored) for choice in choices])
    return RegionScores(
        threshold=float(np.median([choice.threshold for choice in choices])),
        scores=VoxelScores(**pooled.model_dump(), best_cremi_score=lowest[0], best_cremi_threshold=lowest[1]),
        objects=SynapseScores.of(
            objects,
            threshold=float(np.median([choice.synapse_threshold for choice in choices])),
            seed_threshold=float(np.median([choice.seed_threshold for choice in choices])),
            min_size_nm3=float(np.median([choice.min_size_nm3 for choice in choices])),
            gap=float(np.median([choice.gap for choice in choices])),
            min_score=float(np.median([choice.min_score for choice in choices])),
            average_precision=None,
            voxel_f1=of_synapses.f1,
            cremi_score=of_synapses.cremi_score,
        ),
        territories=(tuple(replace(cleft, fold=fold[cleft.cleft]) for cleft in around),),
    )
