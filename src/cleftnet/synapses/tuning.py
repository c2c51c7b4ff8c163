"""Chooses threshold and size of synapses on labels: a grid of both, scored by clefts, voxels and the CREMI score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import coo_array

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import Instances, ScoreCurve, components
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.matching import MatchedPairs, shared_voxels
from cleftnet.metrics.predictions import PairVoxels, PredictionKind, PredictionPair
from cleftnet.metrics.voxels import Floats, Integers, Mask, VoxelCounts
from cleftnet.progress import track
from cleftnet.synapses.rules import SynapseScore, SynapseSettings, fit_score
from cleftnet.synapses.segmentation import Segmenter, as_stored
from cleftnet.volumes import LABELS, PREDICTION, Address, Array, Volume, as_volume

THRESHOLDS = tuple(step / 10 for step in range(1, 10))
SIZES_NM3 = (0.0, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6)
MAX_VOXELS = 2**28  # the components are held in one piece, in about 4 GB


class TuningPoint(BaseModel):
    """The scores at one threshold and size; None where undefined.

    Attributes:
        threshold: Voxels of at least this probability are cleft.
        min_size_nm3: Smaller synapses are left out.
        object_f1: F1 of whole clefts, matched one to one by overlap.
        object_precision: Matched share of the predicted synapses.
        object_recall: Matched share of the true clefts.
        predicted: Predicted synapses.
        matched: Predicted synapses matched to a true cleft.
        true: True clefts.
        splits: Predicted synapses beyond the first that share voxels with a true cleft, summed over true clefts.
        merges: True clefts beyond the first that share voxels with a predicted synapse, summed over predicted synapses.
        average_precision: Average precision of the synapses ranked by their mean probability.
        voxel_f1: F1 of voxels.
        cremi_score: CREMI score in nm, lower is better.
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


class Tuning(BaseModel):
    """The result of `tune`, which can be kept in a JSON file.

    Attributes:
        settings: The settings with the chosen threshold, size and score.
        chosen: The chosen point: the highest object F1; among equals the highest voxel F1, then the smallest size.
        prediction: Identity of the prediction, see `Volume.identity`.
        truth: Identity of the truth.
        grid: Every point that was tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: SynapseSettings
    chosen: TuningPoint
    prediction: str
    truth: str
    grid: list[TuningPoint]

    def is_of(self, prediction: Volume, truth: Volume, settings: SynapseSettings) -> bool:
        """Return whether this is the tuning of these volumes and settings; threshold, size and score do not matter."""
        own = self.settings
        given = settings.changed(
            threshold=own.threshold, min_size_nm3=own.min_size_nm3, score=own.score, segmentation=None
        )
        return (self.prediction, self.truth, own) == (prediction.identity(), truth.identity(), given)

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write the tuning to a JSON file, whole or not at all.

        Raises:
            InputError: when the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """Read a file that `save` wrote.

        Raises:
            InputError: when it is not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; give the tuning.json of a tuning") from None
        except ValidationError:
            raise InputError(f"{path} holds no tuning; give a file that Tuning.save or tune_once wrote") from None


def tune(
    prediction: Volume | Address | Array,
    truth: Volume | Address | Array,
    *,
    voxel_size_nm: FloatZYX | None = None,
    settings: SynapseSettings = SynapseSettings(),  # noqa: B008 - it is frozen
    thresholds: Sequence[float] = THRESHOLDS,
    sizes_nm3: Sequence[float] = SIZES_NM3,
) -> Tuning:
    """Score a grid of thresholds and sizes where prediction and truth meet, choose the best, and fit the score there.

    Args:
        prediction: A probability: a volume, its address, or a NumPy array z y x.
        truth: Cleft ids or a mask: a volume, its address, or a NumPy array z y x; unlabeled voxels are left out.
        voxel_size_nm: Voxel size, z y x, of sources that carry none, such as arrays.
        settings: Everything but threshold and size, which are not used.
        thresholds: Thresholds to try, besides the one stored with the prediction.
        sizes_nm3: Smallest sizes to try.

    Raises:
        InputError: when the prediction is no probability, the volumes do not fit each other, the region is larger than 2^28
            voxels, or the truth has no cleft in it.

    Example:
        >>> labels, probability = np.zeros((2, 9, 9), np.uint64), np.zeros((2, 9, 9), np.uint8)
        >>> labels[0, 1:3, 1:6] = 7
        >>> probability[0, 1:3, 1:6], probability[1, 8, 8] = 200, 200     # the second is a false one of one voxel
        >>> found = tune(probability, labels, voxel_size_nm=(40, 4, 4), sizes_nm3=(0, 1280))
        >>> found.settings.min_size_nm3, found.chosen.object_f1
        (1280.0, 1.0)
    """
    pair = PredictionPair.of(prediction, truth, voxel_size_nm=voxel_size_nm, kind=settings.kind)
    if pair.kind is not PredictionKind.PROBABILITY:
        raise InputError(
            f"{pair.prediction.address} holds {pair.prediction.dtype}; only a probability has a threshold to tune"
        )
    if pair.box.voxels > MAX_VOXELS:
        raise InputError(
            f"{pair.place.truth_box} is more than the {MAX_VOXELS:,} voxels that a sweep holds in memory; tune on a part of it"
        )
    region = pair.read(pair.box)
    clefts = region.true_clefts
    if not len(clefts):
        raise InputError(f"{pair.truth.address} has no cleft in {pair.place.truth_box}; give a truth that has")
    tried = {
        threshold for threshold in (*thresholds, pair.threshold or 0.0) if threshold <= (settings.seed_threshold or 1)
    }
    points, best = [], None
    for threshold in track(sorted(tried), "tuning", len(tried)):
        candidates = _Candidates.of(region, clefts, pair.place.voxel_size_nm, settings.changed(threshold=threshold))
        for point in candidates.points(sorted(sizes_nm3)):
            points.append(point)
            if best is None or _order(point) < _order(best[0]):
                best = (point, candidates)
    if best is None:
        raise InputError("no threshold and size to try; give at least one of each")
    chosen, candidates = best
    tuned = settings.changed(
        threshold=chosen.threshold, min_size_nm3=chosen.min_size_nm3, score=candidates.fit(), segmentation=None
    )
    identities = pair.prediction.identity(), pair.truth.identity()
    return Tuning(settings=tuned, chosen=chosen, prediction=identities[0], truth=identities[1], grid=points)


def tune_once(
    path: Path,
    prediction: Volume | Address,
    truth: Volume | Address,
    settings: SynapseSettings,
    *,
    overwrite: bool = False,
) -> Tuning:
    """Tune and write the result to a file, or read it where an earlier call with the same arguments left it.

    Args:
        path: The file.
        prediction: The prediction, see `tune`.
        truth: The truth, see `tune`.
        settings: The settings, see `tune`.
        overwrite: Whether to tune again and replace the file.

    Raises:
        InputError: when the file holds another tuning, or as `tune`.
    """
    volume, labels = as_volume(prediction, default=PREDICTION), as_volume(truth, default=LABELS)
    if path.exists() and not overwrite:
        kept = Tuning.load(path)
        if not kept.is_of(volume, labels, settings):
            raise InputError(
                f"{path} was tuned on other volumes or with other settings; give overwrite=True or choose another name"
            )
        return kept
    tuning = tune(volume, labels, settings=settings)
    tuning.save(path, overwrite)
    return tuning


@dataclass(frozen=True)
class _Candidates:
    """All components at one threshold, which can be scored at any smallest size; arrays have one entry a component.

    Attributes:
        region: Prediction and truth.
        size_nm: Voxel size, z y x.
        threshold: Voxels of at least this probability are cleft.
        labels: Numbers of the components, from 1.
        voxels: Number of voxels.
        mean: Mean probability.
        seeded: Whether a voxel reaches the threshold of seeds.
        shared: Voxels shared with each true cleft.
    """

    region: PairVoxels
    size_nm: FloatZYX
    threshold: float
    labels: npt.NDArray[np.integer]
    voxels: Integers
    mean: Floats
    seeded: Mask
    shared: coo_array

    @classmethod
    def of(cls, region: PairVoxels, clefts: Instances, size_nm: FloatZYX, settings: SynapseSettings) -> _Candidates:
        """Find the components at the threshold of the settings."""
        threshold = settings.threshold or 0.0
        segmenter = Segmenter.of(settings, PredictionKind.PROBABILITY, threshold, size_nm)
        labels, number = components(segmenter.mask(region.values))
        inside = np.flatnonzero(labels)
        ids = labels.ravel()[inside]
        values = region.values.ravel()[inside].astype(np.float64) / (255 if region.values.dtype == np.uint8 else 1)
        voxels = np.bincount(ids, minlength=number + 1)[1:]
        mean = np.bincount(ids, values, number + 1)[1:] / np.maximum(voxels, 1)
        highest = np.zeros(number + 1)
        np.maximum.at(highest, ids, values)
        scored = region.valid.ravel()[inside]
        rows = ids[scored].astype(np.int64) - 1
        seed = as_stored(settings.seed_threshold or 0.0, region.values.dtype)
        shared = shared_voxels(inside[scored], rows, clefts.index, clefts.rows, (number, len(clefts)))
        return cls(region, size_nm, threshold, labels, voxels, mean, highest[1:] >= seed, shared)

    def points(self, sizes_nm3: Sequence[float]) -> Iterator[TuningPoint]:
        """Score each smallest size; voxels are scored again only where a size leaves out more components."""
        before = -1
        scores: tuple[float | None, float | None] = (None, None)
        for size in sizes_nm3:
            kept = self._kept(size)
            if int(kept.sum()) != before:
                before, scores = int(kept.sum()), self._voxel_scores(kept)
            pairs = self._matched(kept)
            objects = pairs.scores
            yield TuningPoint(
                threshold=self.threshold,
                min_size_nm3=size,
                object_f1=objects.f1,
                object_precision=objects.precision,
                object_recall=objects.recall,
                predicted=objects.predicted,
                matched=objects.matched,
                true=objects.true,
                splits=pairs.splits,
                merges=pairs.merges,
                average_precision=ScoreCurve.of(self.mean[kept], pairs.predicted, objects.true).average_precision,
                voxel_f1=scores[0],
                cremi_score=scores[1],
            )

    def fit(self) -> SynapseScore:
        """Fit the score of synapses to the components of any size."""
        kept = self._kept(0)
        summed_nm3 = (self.mean * self.voxels)[kept] * float(np.prod(self.size_nm))
        return fit_score(summed_nm3, self._matched(kept).predicted)

    def _kept(self, size_nm3: float) -> Mask:
        min_voxels = size_nm3 / float(np.prod(self.size_nm)) * (1 - 1e-9)
        return self.seeded & (self.voxels >= min_voxels)

    def _matched(self, kept: Mask) -> MatchedPairs:
        rows, columns = self.shared.coords
        of = kept[rows]
        row = (np.cumsum(kept) - 1)[rows[of]]
        return MatchedPairs.of(
            coo_array((self.shared.data[of], (row, columns[of])), shape=(int(kept.sum()), self.shared.shape[1]))
        )

    def _voxel_scores(self, kept: Mask) -> tuple[float | None, float | None]:
        predicted = np.concatenate([[False], kept])[self.labels]
        true, valid = self.region.true, self.region.valid
        distances = cremi_score(predicted, true, self.size_nm, valid)
        return VoxelCounts.of(predicted, true, valid).f1, distances.score


def _order(point: TuningPoint) -> tuple[float, float, float, float]:
    """Return a key that sorts the best point first."""
    return -(point.object_f1 or 0.0), -(point.voxel_f1 or 0.0), point.min_size_nm3, point.threshold
