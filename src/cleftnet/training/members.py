"""Predicts folds with networks that did not learn from them, and chooses calibration, threshold and operating point on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cleftnet.models.checkpoint import load_model
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.nets.skeleton import Network
from cleftnet.prediction import best_device, to_uint8, whole_logits
from cleftnet.synapses import tune
from cleftnet.training.data import as_seen, open_region
from cleftnet.training.recipe import Recipe
from cleftnet.training.validation import Region, Validation, assess
from cleftnet.volumes import Array, Volume, is_cleft, is_labelled


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of all folds, each by the network that did not learn from it.

    Attributes:
        chosen: Calibration, threshold and scores over all folds.
        regions: Raw and labels of the regions of all folds.
        probabilities: uint8 probability of each region, 0 where nothing is labeled.
    """

    chosen: Validation
    regions: Sequence[Region]
    probabilities: Sequence[Array]

    def operating_point(self) -> OperatingPoint:
        """Choose how synapses are found, on the regions that hold some.

        Raises:
            InputError: when none does.
        """
        pairs = [
            (probability, region)
            for probability, region in zip(self.probabilities, self.regions, strict=True)
            if is_cleft(region.labels.read()).any()
        ]
        return tune(
            [_beside(values, region.raw, self.chosen.scores.threshold) for values, region in pairs],
            [region.labels for _, region in pairs],
            raw=[_beside(region.raw.read(), region.raw) for _, region in pairs],
        ).point


def predict_out_of_fold(networks: Sequence[Network], recipes: Sequence[Recipe]) -> FoldPredictions:
    """Predict the validation regions of every recipe with its network.

    Args:
        networks: One network for each recipe.
        recipes: Recipes whose validation regions together are all labels.
    """
    logits, regions = [], []
    for net, recipe in zip(networks, recipes, strict=True):
        for volume in recipe.data.validate_on:
            region = as_seen(open_region(volume), recipe)
            logits.append(whole_logits(net, region.raw, overlap=recipe.training.validation_overlap)[0])
            regions.append(region)
    chosen = assess(logits, regions)
    probabilities: list[Array] = [
        to_uint8(chosen.calibration.probability(part)) * is_labelled(region.labels.read())
        for part, region in zip(logits, regions, strict=True)
    ]
    return FoldPredictions(chosen, regions, probabilities)


def load_network(path: Path) -> Network:
    """Return the network of a checkpoint that holds a single one."""
    net = load_model(path, best_device()).net
    assert isinstance(net, Network), "a training makes single networks"
    return net


def _beside(values: Array, raw: Volume, threshold: float | None = None) -> Volume:
    """Return an array as a volume in the place of raw."""
    return Volume(values, raw.voxel_size, raw.offset_nm, threshold=threshold)
