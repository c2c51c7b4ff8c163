"""Scores out-of-fold predictions of one volume; all that scoring a fold needs is chosen on the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cleftnet.comparison.cells import FoldChoice, SynapseScores, VoxelScores
from cleftnet.comparison.folds import fold_of_each
from cleftnet.comparison.recipe import TuningSettings
from cleftnet.comparison.region_scores import RegionScores, tune_synapses
from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.metrics.calibration import Calibration, fit_calibration
from cleftnet.metrics.clefts import components
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.intervals import territories
from cleftnet.metrics.pooling import pool
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD, PredictionKind, predicted_mask
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.prediction import to_uint8
from cleftnet.synapses import SynapseSettings
from cleftnet.synapses.segmentation import Segmenter
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

    Clefts that straddle a border are scored whole. A synapse belongs to the fold with most of its voxels, whose smallest
    size decides whether it is kept.

    Args:
        folds: Predictions that together cover the volume once.
        region: Raw and labels of the volume.
        tuning: Thresholds and smallest sizes to try for whole synapses.

    Returns:
        The scores of the whole volume, with the medians over folds as thresholds and smallest size; what was chosen for
        each fold; and the probability of the whole volume, uint8, each fold calibrated on the others.

    Raises:
        InputError: when there is one fold only, or the other folds of some fold hold no cleft to choose on.
    """
    if len(folds) < 2:
        raise InputError(f"{len(folds)} fold cannot be scored out of fold; expected at least two")
    labels, size = region.labels.read(), region.labels.voxel_size_nm
    probability = np.zeros(labels.shape, np.uint8)
    voxels, synapses = np.zeros(labels.shape, np.bool_), np.zeros(labels.shape, np.bool_)
    choices, settings = [], SynapseSettings()
    for number, (scored, logits) in enumerate(folds):
        others = [fold for other, fold in enumerate(folds) if other != number]
        calibration, choice, settings = _choose(scored, others, region, tuning)
        part = to_uint8(calibration.probability(logits))
        probability[scored.slices] = part
        voxels[scored.slices] = predicted_mask(part, choice.threshold)
        synapses[scored.slices] = predicted_mask(part, choice.synapse_threshold)
        choices.append(choice)
    boxes = [fold.scored for fold in folds]
    mask = Segmenter.of(settings, PredictionKind.MASK, None, size).mask(synapses)
    found = _large_enough(mask, boxes, [choice.min_size_nm3 for choice in choices], size)
    whole = _score(probability, voxels, found, region, choices)
    stitched = Volume(probability, region.labels.voxel_size, region.labels.offset_nm, threshold=whole.threshold)
    return whole, tuple(choices), stitched


def _choose(
    scored: Box, others: Sequence[FoldLogits], region: Region, tuning: TuningSettings
) -> tuple[Calibration, FoldChoice, SynapseSettings]:
    """Return calibration, thresholds and smallest size that the other folds choose for one."""
    regions = [Region(region.raw.crop(box), region.labels.crop(box)) for box, _ in others]
    labels = [part.labels.read() for part in regions]
    true, valid = [is_cleft(ids) for ids in labels], [is_labelled(ids) for ids in labels]
    if not any(part.any() for part in true):
        raise InputError(
            f"the folds other than {scored} hold no cleft, so nothing can be chosen on them; move borders_vox"
        )
    calibration = fit_calibration([logits for _, logits in others], true, valid)
    predictions = [to_uint8(calibration.probability(logits)) for _, logits in others]
    histograms = [ScoreHistogram.of(*part) for part in zip(predictions, true, valid, strict=True)]
    best = sum(histograms[1:], start=histograms[0]).best_f1()
    with_clefts = [
        (Volume(prediction, part.labels.voxel_size, part.labels.offset_nm), part)
        for prediction, part, cleft in zip(predictions, regions, true, strict=True)
        if cleft.any()
    ]
    tuned, settings = tune_synapses([p for p, _ in with_clefts], [part for _, part in with_clefts], tuning)
    choice = FoldChoice(
        scored=str(scored),
        scale=calibration.scale,
        shift=calibration.shift,
        threshold=best[0] if best else DEFAULT_THRESHOLD,
        synapse_threshold=tuned.threshold,
        min_size_nm3=tuned.min_size_nm3,
    )
    return calibration, choice, settings


def _large_enough(mask: Array, boxes: Sequence[Box], sizes_nm3: Sequence[float], voxel_size_nm: FloatZYX) -> Array:
    """Return the components of a mask that are as large as their fold demands, as ids z y x."""
    found, number = components(mask)
    voxels = np.bincount(found.ravel(), minlength=number + 1)
    keep = np.zeros(number + 1, np.bool_)
    smallest = [size / float(np.prod(voxel_size_nm)) * (1 - 1e-9) for size in sizes_nm3]
    for synapse, fold in fold_of_each(found, boxes).items():
        keep[synapse] = voxels[synapse] >= smallest[fold]
    return np.where(keep[found], found, 0)


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
            min_size_nm3=float(np.median([choice.min_size_nm3 for choice in choices])),
            average_precision=None,
            voxel_f1=of_synapses.f1,
            cremi_score=of_synapses.cremi_score,
        ),
        territories=(tuple(replace(cleft, fold=fold[cleft.cleft]) for cleft in around),),
    )
