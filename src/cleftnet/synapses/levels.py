"""All components of a prediction at one threshold, scored at any smallest size without finding them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.sparse import coo_array

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import Instances, ScoreCurve, components
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.matching import MatchedPairs, shared_voxels
from cleftnet.metrics.predictions import PredictionKind
from cleftnet.metrics.voxels import Mask, VoxelCounts
from cleftnet.synapses.rules import SynapseScore, SynapseSettings, fit_score
from cleftnet.synapses.segmentation import Segmenter, as_stored
from cleftnet.volumes import Array, Volume, is_cleft, is_labelled, place

MAX_VOXELS = 2**28  # the labels are held in one piece, in about 4 GB


class Point(BaseModel):
    """The scores of one threshold and size; None where one is not defined.

    Attributes:
        threshold: Probability.
        min_size_nm3: Smaller synapses are left out.
        object_f1: Of whole clefts, matched one to one by overlap.
        object_precision: The same.
        object_recall: The same.
        predicted: Synapses.
        matched: Of them.
        true: Clefts of the truth.
        splits: See `metrics.matching.MatchedPairs`.
        merges: The same.
        average_precision: Of the mean probability as a score.
        voxel_f1: Over voxels.
        cremi_score: nm, lower is better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    min_size_nm3: float
    object_f1: float | None
    object_precision: float | None
    object_recall: float | None
    predicted: int
    matched: int
    true: int
    splits: int
    merges: int
    average_precision: float
    voxel_f1: float | None
    cremi_score: float | None


@dataclass(frozen=True)
class Held:
    """Where prediction and truth meet, in memory."""

    values: Array
    true: Mask
    valid: Mask
    clefts: Instances
    voxel_size_nm: FloatZYX

    @classmethod
    def of(cls, prediction: Volume, truth: Volume) -> Held:
        """Read the region that both cover.

        Raises:
            InputError: when it is larger than 2^28 voxels, or the truth has no cleft in it.
        """
        where = place(prediction, truth)
        if where.truth_box.voxels > MAX_VOXELS:
            raise InputError(
                f"{where.truth_box} is more than the {MAX_VOXELS:,} voxels that a sweep holds in memory; tune on a part of it"
            )
        labels = truth[where.truth_box]
        valid = is_labelled(labels)
        clefts = Instances.of_labels(labels)
        if not clefts.index.size:
            raise InputError(f"{truth.address} has no cleft in {where.truth_box}; give a truth that has")
        true = labels if labels.dtype == np.bool_ else is_cleft(labels)
        return cls(prediction[where.prediction_box], true, valid, clefts, where.voxel_size_nm)


@dataclass(frozen=True)
class Level:
    """All components at one threshold; arrays with one entry a component.

    Attributes:
        held: The volumes.
        threshold: Probability.
        labels: The components' numbers, from 1.
        voxels: How many each has.
        mean: Probability.
        seeded: Whether one is high enough.
        shared: Voxels shared with each true cleft.
    """

    held: Held
    threshold: float
    labels: npt.NDArray[np.integer]
    voxels: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    seeded: npt.NDArray[np.bool_]
    shared: coo_array

    @classmethod
    def of(cls, held: Held, settings: SynapseSettings, threshold: float) -> Level:
        """Find the components at a threshold by settings, whose own threshold is not used."""
        labels, number = components(
            Segmenter.of(settings, PredictionKind.PROBABILITY, threshold, held.voxel_size_nm).mask(held.values)
        )
        inside = np.flatnonzero(labels)
        ids = labels.ravel()[inside]
        values = held.values.ravel()[inside].astype(np.float64) / (255 if held.values.dtype == np.uint8 else 1)
        voxels = np.bincount(ids, minlength=number + 1)[1:]
        mean = np.bincount(ids, values, number + 1)[1:] / np.maximum(voxels, 1)
        highest = np.zeros(number + 1)
        np.maximum.at(highest, ids, values)
        scored = held.valid.ravel()[inside]
        shape = (number, len(held.clefts))
        rows = ids[scored].astype(np.int64) - 1
        seed = as_stored(settings.seed_threshold or 0.0, held.values.dtype)
        shared = shared_voxels(inside[scored], rows, held.clefts.index, held.clefts.rows, shape)
        return cls(held, threshold, labels, voxels, mean, highest[1:] >= seed, shared)

    def points(self, sizes_nm3: Sequence[float]) -> Iterator[Point]:
        """Score every size; what removes nothing more is not scored again."""
        before = -1
        scores: tuple[float | None, float | None] = (None, None)
        for size in sizes_nm3:
            kept = self._kept(size)
            if int(kept.sum()) != before:
                before, scores = int(kept.sum()), self._voxel_scores(kept)
            pairing = self._pairing(kept)
            objects = pairing.scores
            yield Point(
                threshold=self.threshold,
                min_size_nm3=size,
                object_f1=objects.f1,
                object_precision=objects.precision,
                object_recall=objects.recall,
                predicted=objects.predicted,
                matched=objects.matched,
                true=objects.true,
                splits=pairing.splits,
                merges=pairing.merges,
                average_precision=ScoreCurve.of(self.mean[kept], pairing.predicted, objects.true).average_precision,
                voxel_f1=scores[0],
                cremi_score=scores[1],
            )

    def fit(self) -> SynapseScore:
        """Fit the score to all components of any size."""
        kept = self._kept(0)
        summed_nm3 = (self.mean * self.voxels)[kept] * float(np.prod(self.held.voxel_size_nm))
        return fit_score(summed_nm3, self._pairing(kept).predicted)

    def _kept(self, size_nm3: float) -> npt.NDArray[np.bool_]:
        min_voxels = size_nm3 / float(np.prod(self.held.voxel_size_nm)) * (1 - 1e-9)
        return self.seeded & (self.voxels >= min_voxels)

    def _pairing(self, kept: npt.NDArray[np.bool_]) -> MatchedPairs:
        rows, columns = self.shared.coords
        of = kept[rows]
        row = (np.cumsum(kept) - 1)[rows[of]]
        return MatchedPairs.of(
            coo_array((self.shared.data[of], (row, columns[of])), shape=(int(kept.sum()), self.shared.shape[1]))
        )

    def _voxel_scores(self, kept: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
        predicted = np.concatenate([[False], kept])[self.labels]
        held = self.held
        found = cremi_score(predicted, held.true, held.voxel_size_nm, held.valid)
        return VoxelCounts.of(predicted, held.true, held.valid).f1, found.score
