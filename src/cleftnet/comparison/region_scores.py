"""Scores the predictions of a cell at thresholds that are chosen in the same way for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cleftnet.comparison.cells import SynapseScores, VoxelScores
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.intervals import Territory, territories
from cleftnet.metrics.pooling import mean_evaluation, pool_at_best_f1
from cleftnet.metrics.predictions import predicted_mask
from cleftnet.synapses import TuningSettings, find_synapses, tune
from cleftnet.synapses.tuning_result import TuningPoint
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume, is_cleft


@dataclass(frozen=True)
class RegionScores:
    """The scores of the predictions of all regions.

    Attributes:
        threshold: Probability with the best voxel F1 over all regions.
        scores: Scores over voxels at that threshold.
        objects: Scores over whole synapses.
        territories: Sums around each true synapse, region by region.
    """

    threshold: float
    scores: VoxelScores
    objects: SynapseScores
    territories: tuple[tuple[Territory, ...], ...]


def score_regions(predictions: Sequence[Volume], regions: Sequence[Region], settings: TuningSettings) -> RegionScores:
    """Score the predictions of several regions together, at the threshold with the best voxel F1.

    Args:
        predictions: Probabilities, one for each region.
        regions: Regions with their labels.
        settings: Values to try for whole synapses; size alone decides, since no objects are left to try a classifier on.

    Raises:
        InputError: when a region has no cleft, or a prediction does not fit its region.
    """
    pairs = list(zip(predictions, regions, strict=True))
    sweep = ScoringSettings(sweep=True)
    swept = mean_evaluation(
        [evaluate(prediction, region.labels, kind="probability", settings=sweep) for prediction, region in pairs]
    )
    histogram = swept.histogram
    assert histogram is not None  # only probabilities can be swept
    threshold, pooled = pool_at_best_f1(
        histogram,
        lambda t: [evaluate(p, region.labels, threshold=t, kind="probability").scores.distances for p, region in pairs],
    )
    at_lowest = min(((s, t) for t, s in swept.cremi_at.items() if s is not None), default=(None, None))
    scores = VoxelScores(**pooled.model_dump(), best_cremi_score=at_lowest[0], best_cremi_threshold=at_lowest[1])
    by_size = settings.changed(scores=())  # a classifier would be scored on the objects that it was fitted to
    tuned = tune(predictions, [region.labels for region in regions], raw=[None] * len(regions), grid=by_size)
    around = []
    for prediction, region in pairs:
        synapses = find_synapses(prediction, settings=tuned.settings)
        values, labels = prediction.read(), region.labels.read()
        mask, ids = predicted_mask(values, threshold), synapses.labels.read()
        ranks = histogram.ranks(values[is_cleft(labels)])
        around.append(tuple(territories(mask, ids, labels, ranks, region.labels.voxel_size_nm)))
    return RegionScores(threshold, scores, synapse_scores(tuned.chosen), tuple(around))


def synapse_scores(point: TuningPoint) -> SynapseScores:
    """Return the scores of a point of the grid as a cell of a comparison keeps them."""
    counts = {name: getattr(point, name) for name in ("true", "predicted", "matched", "splits", "merges")}
    names = (
        *("threshold", "seed_threshold", "min_size_nm3", "gap", "min_score"),
        *("average_precision", "voxel_f1", "cremi_score"),
    )
    return SynapseScores.of(ObjectScores(**counts), **{name: getattr(point, name) for name in names})
