"""Predicts folds with networks that did not learn from them, and chooses calibration, threshold and operating point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cleftnet.metrics.voxels import Mask
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
        logits: Segmentation logits of each region.
        regions: Raw and labels of the regions of all folds.
    """

    logits: Sequence[Array]
    regions: Sequence[Region]

    @property
    def labelled(self) -> list[Mask]:
        """Which voxels of each region are labeled."""
        return [is_labelled(region.labels.read()) for region in self.regions]

    def assess(self, background_weight: float = 1.0) -> Validation:
        """Choose calibration and threshold over all folds, and score them (`validation.assess`)."""
        return assess(self.logits, self.regions, background_weight)

    def operating_point(self, chosen: Validation) -> OperatingPoint:
        """Choose how synapses are found, on the regions that hold some.

        Args:
            chosen: Calibration and threshold.

        Raises:
            InputError: when no region does.
        """
        pairs = [
            (to_uint8(chosen.calibration.probability(part)) * known, region)
            for part, known, region in zip(self.logits, self.labelled, self.regions, strict=True)
            if is_cleft(region.labels.read()).any()
        ]
        return tune(
            [_beside(values, region.raw, chosen.scores.threshold) for values, region in pairs],
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
    return FoldPredictions(logits, regions)


def load_network(path: Path) -> Network:
    """Return the network of a checkpoint that holds a single one."""
    net = load_model(path, best_device()).net
    assert isinstance(net, Network), "a training makes single networks"
    return net


def _beside(values: Array, raw: Volume, threshold: float | None = None) -> Volume:
    """Return an array as a volume in the place of raw."""
    return Volume(values, raw.voxel_size, raw.offset_nm, threshold=threshold)
