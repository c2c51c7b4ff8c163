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
    """Predictions of one or all folds, each by the network that did not learn from it.

    Attributes:
        logits: Segmentation logits of each region.
        regions: Raw and labels of the regions.
    """

    logits: Sequence[Array]
    regions: Sequence[Region]

    @classmethod
    def joined(cls, parts: Sequence[FoldPredictions]) -> FoldPredictions:
        """Return the predictions of several folds as one."""
        return cls([part for one in parts for part in one.logits], [region for one in parts for region in one.regions])

    @property
    def labelled(self) -> list[Mask]:
        """Which voxels of each region are labeled."""
        return [is_labelled(region.labels.read()) for region in self.regions]

    def assess(self, background_weight: float = 1.0) -> Validation:
        """Choose calibration and threshold over all regions, and score them (`validation.assess`)."""
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


def predict_fold(net: Network, recipe: Recipe) -> FoldPredictions:
    """Predict the validation regions of a recipe with a network that did not learn from them."""
    regions = [as_seen(open_region(volume), recipe) for volume in recipe.data.validate_on]
    overlap = recipe.training.validation_overlap
    return FoldPredictions([whole_logits(net, region.raw, overlap=overlap)[0] for region in regions], regions)


def load_network(path: Path) -> Network:
    """Return the network of a checkpoint that holds a single one."""
    net = load_model(path, best_device()).net
    assert isinstance(net, Network), "a training makes single networks"
    return net


def _beside(values: Array, raw: Volume, threshold: float | None = None) -> Volume:
    """Return an array as a volume in the place of raw."""
    return Volume(values, raw.voxel_size, raw.offset_nm, threshold=threshold)
