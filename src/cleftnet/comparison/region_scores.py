"""Scores the predictions of a cell at thresholds that are chosen in the same way for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cleftnet.comparison.cells import SynapseScores, VoxelScores
from cleftnet.comparison.recipe import TuningSettings
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.intervals import Territory, territories
from cleftnet.metrics.pooling import mean_defined, mean_evaluation, pool_at_best_f1
from cleftnet.metrics.predictions import predicted_mask
from cleftnet.synapses import SynapseSettings, find_synapses, tune
from cleftnet.synapses.tuning import TuningPoint
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
        settings: Thresholds and smallest sizes to try for whole synapses.

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
    objects, chosen = tune_synapses(predictions, regions, settings)
    around = []
    for prediction, region in pairs:
        synapses = find_synapses(prediction, settings=chosen)
        values, labels = prediction.read(), region.labels.read()
        mask, ids = predicted_mask(values, threshold), synapses.labels.read()
        ranks = histogram.ranks(values[is_cleft(labels)])
        around.append(tuple(territories(mask, ids, labels, ranks, region.labels.voxel_size_nm)))
    return RegionScores(threshold, scores, objects, tuple(around))


def tune_synapses(
    predictions: Sequence[Volume], regions: Sequence[Region], settings: TuningSettings
) -> tuple[SynapseScores, SynapseSettings]:
    """Choose the threshold and smallest size with the best synapse F1 over all regions, as `tune` does for one."""
    tunings = [
        tune(prediction, region.labels, thresholds=settings.thresholds, sizes_nm3=settings.sizes_nm3)
        for prediction, region in zip(predictions, regions, strict=True)
    ]
    grids = [{(p.threshold, p.min_size_nm3): p for p in tuning.grid} for tuning in tunings]
    shared = [place for place in grids[0] if all(place in grid for grid in grids)]
    best = min((_together([grid[place] for grid in grids]) for place in shared), key=_order)
    chosen = tunings[0].settings
    return best, chosen.changed(threshold=best.threshold, min_size_nm3=best.min_size_nm3, score=None)


def _together(points: Sequence[TuningPoint]) -> SynapseScores:
    """Pool one point of the grid over all regions: synapses are counted together, other scores averaged."""
    counts = {
        name: sum(getattr(point, name) for point in points)
        for name in ("true", "predicted", "matched", "splits", "merges")
    }
    return SynapseScores.of(
        ObjectScores(**counts),
        threshold=points[0].threshold,
        min_size_nm3=points[0].min_size_nm3,
        average_precision=mean_defined([point.average_precision for point in points]),
        voxel_f1=mean_defined([point.voxel_f1 for point in points]),
        cremi_score=mean_defined([point.cremi_score for point in points]),
    )


def _order(scores: SynapseScores) -> tuple[float, float, float, float]:
    return -(scores.f1 or 0.0), -(scores.voxel_f1 or 0.0), scores.min_size_nm3, scores.threshold
