"""The components of a labelled region at one operating point, scored against the true clefts for any choice of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array

from cleftnet.errors import InputError
from cleftnet.geometry import Block
from cleftnet.metrics.clefts import Instances, components
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.matching import MatchedPairs, shared_voxels
from cleftnet.metrics.predictions import PairVoxels, PredictionKind, PredictionPair
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.synapses.appearance import PlacedRaw, as_levels, sum_appearance, window_vox
from cleftnet.synapses.features import object_features
from cleftnet.synapses.merging import SynapseSums, sums_of
from cleftnet.synapses.parts import BlockParts
from cleftnet.synapses.segmentation import Segmenter, as_stored
from cleftnet.synapses.table import tabulate
from cleftnet.volumes import Address, Array, Volume

MAX_VOXELS = 2**28  # the components are held in one piece, in about 4 GB


class TuningRegion(NamedTuple):
    """Prediction, truth and raw of a region in memory.

    Attributes:
        prediction: The part of the prediction that both cover, as a volume.
        truth: The truth.
        voxels: Their voxels.
        clefts: True clefts.
        gray: Gray levels; None without raw.
        threshold: Threshold stored with the prediction, else 0.5.
    """

    prediction: Volume
    truth: Volume
    voxels: PairVoxels
    clefts: Instances
    gray: npt.NDArray[np.uint8] | None
    threshold: float

    @classmethod
    def read(
        cls,
        prediction: Volume,
        truth: Volume,
        raw: Volume | Address | Array | None,
        kind: str | None,
    ) -> Self:
        """Read a region.

        Raises:
            InputError: when the prediction is no probability, the volumes do not fit each other, or the region is too large.
        """
        pair = PredictionPair.of(prediction, truth, kind=kind)
        if pair.kind is not PredictionKind.PROBABILITY:
            raise InputError(
                f"{pair.prediction.address} holds {pair.prediction.dtype}; only a probability has a threshold to tune"
            )
        if pair.box.voxels > MAX_VOXELS:
            raise InputError(
                f"{pair.place.truth_box} is more than the {MAX_VOXELS:,} voxels that a tuning holds in memory; tune on a part"
            )
        part = pair.prediction.crop(pair.place.prediction_box)
        gray = None
        if raw is not None:
            gray = PlacedRaw.of(raw, part)[part.box]
        voxels = pair.read(pair.box)
        return cls(part, pair.truth, voxels, voxels.true_clefts, gray, pair.threshold or 0.0)


@dataclass(frozen=True)
class Candidates:
    """All components of a region at one threshold and gap; arrays have one entry a component.

    Attributes:
        region: Prediction and truth.
        labels: Number of the component of each voxel from 1, z y x.
        sums: Sums over the voxels of the components.
        table: Their table.
        features: Their features by name.
        shared: Voxels shared with each true cleft.
    """

    region: TuningRegion
    labels: npt.NDArray[np.integer]
    sums: SynapseSums
    table: pd.DataFrame
    features: dict[str, Floats]
    shared: coo_array

    @classmethod
    def of(cls, region: TuningRegion, point: OperatingPoint) -> Candidates:
        """Find and measure the components at the threshold, gap and hole width of an operating point."""
        volume, values = region.prediction, region.voxels.values
        size = volume.voxel_size_nm
        segmenter = Segmenter.of(point, PredictionKind.PROBABILITY, point.threshold, size)
        mask = segmenter.mask(values)
        labels, number = components(mask)
        whole = Block(volume.box, volume.box)
        looks = sum_appearance(labels, mask, as_levels(values), region.gray, volume.box, window_vox(size))
        sums = sums_of(BlockParts.of(labels, values, whole, volume.box, size, looks), whole)
        table = tabulate(sums, volume)
        inside = np.flatnonzero((labels > 0) & region.voxels.valid)
        rows = labels.ravel()[inside].astype(np.int64) - 1
        clefts = region.clefts
        shared = shared_voxels(inside, rows, clefts.index, clefts.rows, (number, len(clefts)))
        return cls(region, labels, sums, table, object_features(sums, table, size), shared)

    def large(self, size_nm3: float, seed_threshold: float = 0.0) -> Mask:
        """Return which components have at least a volume, and a voxel of at least a probability."""
        voxels = size_nm3 / float(np.prod(self.region.prediction.voxel_size_nm)) * (1 - 1e-9)
        seed = as_stored(seed_threshold, self.region.voxels.values.dtype)
        return np.asarray((self.sums.voxels >= voxels) & (self.sums.maximum >= seed))

    def matched(self, kept: Mask) -> MatchedPairs:
        """Match the components that are kept with the true clefts."""
        rows, columns = self.shared.coords
        of = kept[rows]
        row = (np.cumsum(kept) - 1)[rows[of]]
        return MatchedPairs.of(
            coo_array((self.shared.data[of], (row, columns[of])), shape=(int(kept.sum()), self.shared.shape[1]))
        )

    def centers_nm(self) -> Floats:
        """Return the center of the true cleft that each component shares most voxels with, else its own; z y x."""
        size = np.array(self.region.prediction.voxel_size_nm)
        centers: Floats = self.sums.center * size
        rows, columns = self.shared.coords
        order = np.argsort(self.shared.data, kind="stable")  # the largest overlap comes last and stays
        true = self.region.clefts.centers(self.labels.shape) * size if len(self.region.clefts) else centers[:0]
        centers[rows[order]] = true[columns[order]]
        return centers

    def voxel_counts(self, kept: Mask) -> tuple[int, int, int]:
        """Return how many voxels of the components that are kept are cleft, how many these are, and how many are cleft."""
        return int(self._hits[kept].sum()), int(self._labelled[kept].sum()), self._true

    def cremi_score(self, kept: Mask) -> float | None:
        """Return the CREMI score of the components that are kept, in nm."""
        predicted = np.concatenate([[False], kept])[self.labels]
        voxels = self.region.voxels
        return cremi_score(predicted, voxels.true, self.region.prediction.voxel_size_nm, voxels.valid).score

    @functools.cached_property
    def _labelled(self) -> Integers:
        """Labeled voxels of each component."""
        return np.bincount(self.labels[self.region.voxels.valid], minlength=len(self.sums) + 1)[1:]

    @functools.cached_property
    def _true(self) -> int:
        """Voxels that are truly cleft."""
        return int((self.region.voxels.true & self.region.voxels.valid).sum())

    @functools.cached_property
    def _hits(self) -> Integers:
        """Voxels of each component that are truly cleft."""
        voxels = self.region.voxels
        return np.bincount(self.labels[voxels.valid & voxels.true], minlength=len(self.sums) + 1)[1:]
