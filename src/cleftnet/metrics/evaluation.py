"""One prediction against its truth: the two are laid over each other in nm, read once, and every score comes out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, FloatZYX, slabs
from cleftnet.metrics.clefts import Instances, ObjectScores
from cleftnet.metrics.distances import CremiScore
from cleftnet.metrics.halo import HaloSettings, score_block, whole
from cleftnet.metrics.matching import score_clefts
from cleftnet.metrics.predictions import (
    PredictionKind,
    choose_threshold,
    kind_of,
    predicted_mask,
    require_labelled,
    require_probability,
)
from cleftnet.metrics.scores import Evaluation, MaskScores, Sweep
from cleftnet.metrics.voxels import Mask, ScoreHistogram, VoxelCounts
from cleftnet.settings import Settings
from cleftnet.volumes import (
    LABELS,
    PREDICTION,
    Address,
    Array,
    Placement,
    Volume,
    is_cleft,
    is_labelled,
    open_volume,
    place,
)

SWEEP_GRID = tuple(step / 20 for step in range(1, 20))  # 0.05 to 0.95; F1 is known at every threshold anyway
WHOLE_VOX = 2**29  # regions up to this many voxels are scored in one piece, in about 6 GB


class ScoringSettings(Settings):
    """What makes two clefts a pair, and in which pieces a region is scored.

    Attributes:
        match_nm: Clefts match whose centroids lie at most so far apart; None matches clefts that share voxels.
        blocks: Blocks that the region is scored in, one after the other. None scores up to 2^29 voxels in one piece, where
            every distance is exact, and larger regions in blocks of the default `HaloSettings`. Clefts are matched in one
            piece only.
    """

    match_nm: float | None = Field(None, ge=0)
    blocks: HaloSettings | None = None


def evaluate(
    prediction: Volume | Address,
    truth: Volume | Address,
    *,
    threshold: float | None = None,
    roi: Box | None = None,
    kind: str | None = None,
    sweep: bool = False,
    settings: ScoringSettings = ScoringSettings(),  # noqa: B008 - it is frozen
) -> Evaluation:
    """Score a prediction against its truth: CREMI score, F1, AUC, and whole clefts (SPEC §6).

    Scored are the voxels that both volumes cover (aligned by their offsets in nm) and whose truth is labelled. Distances are
    measured inside that region, as if both volumes ended there. A score that is not defined is None, and
    `Evaluation.undefined` says why; a geometry that does not fit is an error.

    Args:
        prediction: A volume or its address: probability (uint8 0 to 255, float 0 to 1), mask (bool) or cleft ids (other
            integers).
        truth: A volume or its address: cleft ids with background 0, or a mask.
        threshold: Voxels of at least this probability are predicted; when None, the one stored with the prediction, else 0.5.
        roi: What to score, in voxels of the truth; all that both cover, when None.
        kind: What the prediction holds ("probability", "mask", "labels"), where its type does not tell.
        sweep: Whether to score a grid of thresholds as well, and name the best.
        settings: What makes two clefts a pair, and in which pieces the region is scored.

    Raises:
        InputError: when the volumes do not fit each other, the prediction's values are not what its type says, or the truth is
            cleft everywhere (a background written as 0 in a CREMI file).

    Example:
        >>> labels, probability = np.zeros((2, 4, 4), np.uint64), np.zeros((2, 4, 4), np.uint8)
        >>> labels[0, 1:3, 1:3] = 7
        >>> probability[0, 1:3, 1:4] = 200
        >>> result = evaluate(Volume(probability, (40, 4, 4)), Volume(labels, (40, 4, 4)))
        >>> result.f1, result.cremi_score, result.objects
        (0.8, 0.6666666666666666, ObjectScores(true=1, predicted=1, matched=1, splits=0, merges=0))
    """
    pair = _Pair.of(prediction, truth, threshold, roi, kind)
    if sweep and pair.threshold is None:
        raise InputError(f"{pair.prediction.address} is a {pair.kind.value} volume; only probabilities can be swept")
    box, voxel_size_nm = Box.of(pair.place.truth_box.shape), pair.place.voxel_size_nm
    blocks = settings.blocks or (HaloSettings() if box.voxels > WHOLE_VOX else None)
    tally = _Tally(box, voxel_size_nm, SWEEP_GRID if sweep else (), settings.match_nm)
    for block in whole(box) if blocks is None else blocks.cover(box, voxel_size_nm):
        tally.add(block, pair)
    return tally.result(pair)


@dataclass(frozen=True)
class _Pair:
    """Both volumes, where they meet, and how to read the prediction."""

    prediction: Volume
    truth: Volume
    kind: PredictionKind
    kind_is_given: bool
    threshold: float | None
    place: Placement

    @classmethod
    def of(
        cls,
        prediction: Volume | Address,
        truth: Volume | Address,
        threshold: float | None,
        roi: Box | None,
        kind: str | None,
    ) -> _Pair:
        predicted = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
        true = truth if isinstance(truth, Volume) else open_volume(truth, default=LABELS)
        if true.dtype.kind not in "iub":
            raise InputError(
                f"truth {true.address} holds {true.dtype}; expected label ids or a mask: are the two swapped?"
            )
        meant = kind_of(predicted, kind)
        chosen = choose_threshold(predicted, meant, threshold)
        return cls(predicted, true, meant, kind is not None, chosen, place(predicted, true, roi))

    def predicted(self, values: Array) -> Mask:
        return values != 0 if self.kind is PredictionKind.MASK else predicted_mask(values, self.threshold)

    def read(self, box: Box) -> _Read:
        """Read a part of the region, the truth slab by slab, since its ids take eight times the room of its masks."""
        values = self.prediction[box.shift(self.place.prediction_box.start)]
        true, valid = np.zeros(box.shape, np.bool_), np.zeros(box.shape, np.bool_)
        index, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for slab in slabs(box):
            labels = self.truth[slab.shift(self.place.truth_box.start)]
            labels = labels.view(np.uint8) if labels.dtype == np.bool_ else labels
            inside = slab.relative_to(box.start)
            cleft = is_cleft(labels)
            valid[inside.slices], true[inside.slices] = is_labelled(labels), cleft
            corner = zip(np.nonzero(cleft), inside.start, strict=True)
            index.append(np.ravel_multi_index([axis + first for axis, first in corner], box.shape))
            ids.append(labels[cleft].astype(np.uint64))
        if self.kind is PredictionKind.LABELS:
            require_labelled(self.prediction, values, valid)
        order = np.argsort(places := np.concatenate(index), kind="stable")  # slabs may be parts of slices
        return _Read(values, true, valid, Instances(places[order], np.concatenate(ids)[order]))


@dataclass(frozen=True)
class _Read:
    """One part of both volumes in memory."""

    values: Array
    true: Mask
    valid: Mask
    true_clefts: Instances

    def score_clefts(self, pair: _Pair, predicted: Mask, match_nm: float | None) -> ObjectScores:
        """Match whole clefts, the predicted ones by their ids or by the components of the mask, and count them."""
        by_id = pair.kind is PredictionKind.LABELS
        ours = Instances.of_labels(self.values, self.valid) if by_id else Instances.of_mask(predicted, self.valid)
        ranked_by = self.values if pair.kind is PredictionKind.PROBABILITY else None
        theirs = self.true_clefts.or_components(self.true)
        return score_clefts(ours, theirs, self.values.shape, pair.place.voxel_size_nm, match_nm, ranked_by)


@dataclass
class _Tally:
    """What has been counted so far, over sections and blocks."""

    box: Box
    voxel_size_nm: FloatZYX
    grid: Sequence[float]
    match_nm: float | None = None
    counts: list[VoxelCounts] = field(init=False)
    distances: list[list[CremiScore]] = field(init=False)
    swept: dict[float, list[CremiScore]] = field(init=False)
    histogram: ScoreHistogram | None = None
    objects: ObjectScores | None = None

    def __post_init__(self) -> None:
        depth = self.box.shape[0]
        self.counts = [VoxelCounts() for _ in range(depth)]
        self.distances = [[] for _ in range(depth)]
        self.swept = {threshold: [] for threshold in self.grid}

    def add(self, block: Block, pair: _Pair) -> None:
        """Score one block."""
        part = pair.read(block.read)
        own = block.write.relative_to(block.read.start).slices
        if pair.threshold is not None:
            found = ScoreHistogram.of(part.values[own], part.true[own], part.valid[own])
            self.histogram = found if self.histogram is None else self.histogram + found
        predicted = pair.predicted(part.values)
        if block.write == self.box:
            self.objects = part.score_clefts(pair, predicted, self.match_nm)
        predicted &= part.valid
        sections = score_block(predicted, part.true, block, self.box, self.voxel_size_nm)
        for z, scored in enumerate(sections, start=block.write.start[0]):
            inside = (z - block.read.start[0], *own[1:])
            self.counts[z] += VoxelCounts.of(predicted[inside], part.true[inside], part.valid[inside])
            self.distances[z].append(scored)
        for threshold, parts in self.swept.items():
            predicted = predicted_mask(part.values, threshold) & part.valid
            parts.append(CremiScore.total(score_block(predicted, part.true, block, self.box, self.voxel_size_nm)))

    def result(self, pair: _Pair) -> Evaluation:
        """Put all scores together."""
        if self.histogram is not None and not pair.kind_is_given:
            require_probability(pair.prediction, self.histogram)
        counts = sum(self.counts, start=VoxelCounts())
        if counts.true and counts.true == counts.voxels:
            raise InputError(
                f"every labelled voxel of {pair.truth.address} in {pair.place.truth_box} is cleft: its background was probably "
                f"written as 0, which is a cleft in a CREMI file (background there is 2^64-1); rewrite the labels"
            )
        at_each_z = [_settled(CremiScore.total(parts), counts) for parts in self.distances]
        scores = MaskScores(counts, CremiScore.total(at_each_z))
        auc = self.histogram.auc if self.histogram is not None else None
        first = pair.place.truth_box.start[0]
        return Evaluation(
            scores=scores,
            threshold=pair.threshold,
            auc=auc,
            objects=self.objects,
            sections={first + z: MaskScores(c, d) for z, (c, d) in enumerate(zip(self.counts, at_each_z, strict=True))},
            scored_box=str(pair.place.truth_box),
            voxel_size_nm=pair.place.voxel_size_nm,
            undefined=_undefined(counts, pair, self.objects),
            warnings=_warnings(scores, pair),
            histogram=self.histogram,
            sweep=self._sweep() if self.grid else None,
        )

    def _sweep(self) -> Sweep | None:
        if self.histogram is None:
            return None
        at = {}
        for threshold, parts in self.swept.items():
            counts = self.histogram.counts(threshold)
            at[threshold] = MaskScores(counts, _settled(CremiScore.total(parts), counts))
        return Sweep(at, self.histogram.best_f1())


def _settled(distances: CremiScore, counts: VoxelCounts) -> CremiScore:
    """Make distances to a mask that turned out to be empty infinite; a block alone cannot know."""
    return CremiScore(
        distances.of_predicted if counts.true else distances.of_predicted.without_target(),
        distances.of_true if counts.predicted else distances.of_true.without_target(),
    )


def _undefined(counts: VoxelCounts, pair: _Pair, objects: ObjectScores | None) -> dict[str, str]:
    """Why each score that is None has no value."""
    reasons: dict[str, str] = {}
    nothing_scored = "no voxel of the region is labelled"
    no_cleft = nothing_scored if not counts.voxels else "the truth holds no cleft voxel here"
    cut = "" if pair.threshold is None else f" (threshold {pair.threshold:g})"
    none_predicted = nothing_scored if not counts.voxels else f"no voxel is predicted as cleft{cut}"
    if not counts.predicted:
        reasons |= dict.fromkeys(("cremi_score", "adgt", "adf", "precision"), none_predicted)
    if not counts.true:
        reasons |= dict.fromkeys(("cremi_score", "adgt", "adf", "recall", "auc"), no_cleft)
    if not counts.true and not counts.predicted:
        reasons["f1"] = no_cleft if not counts.voxels else f"{no_cleft}, and none is predicted{cut}"
    if pair.threshold is None:
        reasons["auc"] = f"a {pair.kind.value} volume has no ROC curve; it takes a probability"
    if objects is None:
        reasons["objects"] = "scored block by block; clefts are not followed across blocks: score a smaller --roi"
    else:
        if not objects.predicted:
            reasons["objects.precision"] = none_predicted
        if not objects.true:
            reasons |= dict.fromkeys(("objects.recall", "objects.average_precision"), no_cleft)
        if objects.curve is None:
            reasons["objects.average_precision"] = f"a {pair.kind.value} volume has no probability to rank clefts by"
        if not objects.predicted and not objects.true:
            reasons["objects.f1"] = no_cleft
    return reasons


def _warnings(scores: MaskScores, pair: _Pair) -> tuple[str, ...]:
    """What a reader should know before trusting the numbers."""
    warnings = list(pair.place.notes)
    counts, distances = scores.counts, scores.distances
    if counts.voxels and counts.predicted == counts.voxels:
        cause = (
            "the background was probably written as 0"
            if pair.kind is PredictionKind.LABELS
            else "is the threshold too low?"
        )
        warnings.append(f"every scored voxel is predicted as cleft; {cause}")
    beyond = distances.of_predicted.lower_bounds + distances.of_true.lower_bounds
    if beyond:
        warnings.append(
            f"{beyond} distances reach beyond the halo of their block; ADGT, ADF and CREMI score are lower bounds"
        )
    return tuple(warnings)
