"""Threshold and size of synapses chosen on labels: a grid of both, scored by whole clefts, by voxels and by the CREMI score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import coo_array

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.breakdown import ScoreCurve
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.objects import Instances
from cleftnet.metrics.pairing import Pairing, shared_voxels
from cleftnet.metrics.predictions import Kind, choose_threshold, kind_of
from cleftnet.metrics.voxels import Counts
from cleftnet.progress import track
from cleftnet.synapses.scoring import SynapseScore, fit_score
from cleftnet.synapses.segmentation import Mask, Rules, Segmenter, as_stored, components
from cleftnet.volumes import LABELS, PREDICTION, Address, Volume, is_cleft, is_labelled, open_volume
from cleftnet.volumes.alignment import place
from cleftnet.volumes.atomic import replacing
from cleftnet.volumes.volume import Array

THRESHOLDS = tuple(step / 10 for step in range(1, 10))
SIZES_NM3 = (0.0, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6)
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
        splits: See `metrics.pairing.Pairing`.
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


class Tuning(BaseModel):
    """What a sweep found; a file of it is what `cleftnet synapses --tuned` takes.

    Attributes:
        rules: With the threshold, size and score that were chosen.
        chosen: Their scores: the highest object F1, of equals the highest voxel F1, then the smallest size.
        prediction: What was swept, see `Volume.identity`.
        truth: Against what.
        grid: Every point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: Rules
    chosen: Point
    prediction: str
    truth: str
    grid: list[Point]

    def is_of(self, prediction: Volume, truth: Volume, rules: Rules) -> bool:
        """Tell whether these volumes were swept with these rules, whatever was chosen."""
        own = self.rules
        given = replace(rules, threshold=own.threshold, min_size_nm3=own.min_size_nm3, score=own.score)
        return (self.prediction, self.truth, own) == (prediction.identity(), truth.identity(), given)

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InputError: when the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """Read what `save` wrote.

        Raises:
            InputError: when it is not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; give the tuning.json of a --tune") from None
        except ValidationError:
            raise InputError(f"{path} is not what --tune writes; give the tuning.json of a --tune") from None


def tune(
    prediction: Volume | Address,
    truth: Volume | Address,
    rules: Rules = Rules(),  # noqa: B008 - it is frozen
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    sizes_nm3: Sequence[float] = SIZES_NM3,
) -> Tuning:
    """Score a grid of thresholds and sizes where prediction and truth meet, choose the best, and fit the score there.

    Args:
        prediction: A probability, or its address.
        truth: Cleft ids or a mask, or their address; unlabelled voxels are left out.
        rules: Everything else; its threshold and size are not used.
        thresholds: To try, besides the one stored with the prediction.
        sizes_nm3: To try.

    Raises:
        InputError: when the prediction is no probability, the volumes do not fit each other, the region is larger than 2^28
            voxels, or the truth has no cleft in it.

    Example:
        >>> labels, probability = np.zeros((2, 9, 9), np.uint64), np.zeros((2, 9, 9), np.uint8)
        >>> labels[0, 1:3, 1:6] = 7
        >>> probability[0, 1:3, 1:6], probability[1, 8, 8] = 200, 200     # the second is a false one of one voxel
        >>> found = tune(Volume(probability, (40, 4, 4)), Volume(labels, (40, 4, 4)), sizes_nm3=(0, 1280))
        >>> found.rules.min_size_nm3, found.chosen.object_f1
        (1280.0, 1.0)
    """
    volume = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    labels = truth if isinstance(truth, Volume) else open_volume(truth, default=LABELS)
    if kind_of(volume, rules.kind) is not Kind.PROBABILITY:
        raise InputError(f"{volume.address} holds {volume.dtype}; only a probability has a threshold to tune")
    tried = {*thresholds, choose_threshold(volume, Kind.PROBABILITY) or 0.0}
    tried = {threshold for threshold in tried if threshold <= (rules.seed_threshold or 1.0)}
    held = _Held.of(volume, labels)
    points, best = [], None
    for threshold in track(sorted(tried), "tuning", len(tried)):
        level = _Level.of(held, replace(rules, threshold=threshold), threshold)
        for point in level.points(sorted(sizes_nm3)):
            points.append(point)
            if best is None or _order(point) < _order(best[0]):
                best = (point, level)
    if best is None:
        raise InputError("no threshold and size to try; give at least one of each")
    chosen, level = best
    score = level.fit()
    chosen_rules = replace(rules, threshold=chosen.threshold, min_size_nm3=chosen.min_size_nm3, score=score)
    return Tuning(rules=chosen_rules, chosen=chosen, prediction=volume.identity(), truth=labels.identity(), grid=points)


def tune_once(
    path: Path, prediction: Volume | Address, truth: Volume | Address, rules: Rules, *, overwrite: bool = False
) -> Tuning:
    """Tune and keep it in a file; what an earlier run of the same command left there is taken as it is.

    Args:
        path: Of the file.
        prediction: See `tune`.
        truth: The same.
        rules: The same.
        overwrite: Whether to tune anew, whatever is there.

    Raises:
        InputError: when the file holds something else, or as `tune`.
    """
    volume = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    labels = truth if isinstance(truth, Volume) else open_volume(truth, default=LABELS)
    if path.exists() and not overwrite:
        kept = Tuning.load(path)
        if not kept.is_of(volume, labels, rules):
            raise InputError(f"{path} was tuned on other volumes or rules; add --overwrite or choose another folder")
        return kept
    tuning = tune(volume, labels, rules)
    tuning.save(path, overwrite)
    return tuning


def _order(point: Point) -> tuple[float, float, float, float]:
    return -(point.object_f1 or 0.0), -(point.voxel_f1 or 0.0), point.min_size_nm3, point.threshold


@dataclass(frozen=True)
class _Held:
    """Where prediction and truth meet, in memory."""

    values: Array
    true: Mask
    valid: Mask
    clefts: Instances
    voxel_size_nm: FloatZYX

    @classmethod
    def of(cls, prediction: Volume, truth: Volume) -> _Held:
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
class _Level:
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

    held: _Held
    threshold: float
    labels: npt.NDArray[np.integer]
    voxels: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    seeded: npt.NDArray[np.bool_]
    shared: coo_array

    @classmethod
    def of(cls, held: _Held, rules: Rules, threshold: float) -> _Level:
        labels, number = components(
            Segmenter.of(rules, Kind.PROBABILITY, threshold, held.voxel_size_nm).mask(held.values)
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
        seed = as_stored(rules.seed_threshold or 0.0, held.values.dtype)
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

    def _pairing(self, kept: npt.NDArray[np.bool_]) -> Pairing:
        rows, columns = self.shared.coords
        of = kept[rows]
        row = (np.cumsum(kept) - 1)[rows[of]]
        return Pairing.of(
            coo_array((self.shared.data[of], (row, columns[of])), shape=(int(kept.sum()), self.shared.shape[1]))
        )

    def _voxel_scores(self, kept: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
        predicted = np.concatenate([[False], kept])[self.labels]
        held = self.held
        found = cremi_score(predicted, held.true, held.voxel_size_nm, held.valid)
        return Counts.of(predicted, held.true, held.valid).f1, found.score
