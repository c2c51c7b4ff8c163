"""Evaluates a prediction against its truth: both are read once, and every score is computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, FloatZYX
from cleftnet.metrics.cleft_tally import ObjectTally
from cleftnet.metrics.clefts import ObjectScores
from cleftnet.metrics.distances import CremiScore
from cleftnet.metrics.halo import HaloSettings, score_block, whole
from cleftnet.metrics.predictions import PairVoxels, PredictionKind, PredictionPair, check_probability, predicted_mask
from cleftnet.metrics.scores import Evaluation, MaskScores, Sweep
from cleftnet.metrics.voxels import Mask, ScoreHistogram, VoxelCounts
from cleftnet.settings import Settings
from cleftnet.volumes import Address, Array, Volume

SWEEP_GRID = tuple(step / 20 for step in range(1, 20))  # 0.05 to 0.95; F1 is known at every threshold anyway
WHOLE_VOX = 2**29  # regions up to this many voxels are scored in one piece, in about 6 GB


class ScoringSettings(Settings):
    """Which clefts match, whether a grid of thresholds is scored, and in which pieces a region is scored.

    Attributes:
        match_nm: Largest distance between the centroids of matched clefts; None matches clefts that share voxels.
        sweep: Scores a grid of thresholds as well, and names the best.
        blocks: Blocks that the region is scored in, one after the other. None scores up to 2^29 voxels in one piece, where
            every distance is exact, and larger regions in blocks of the default `HaloSettings`. Whole clefts are the same
            either way.
    """

    match_nm: float | None = Field(None, ge=0)
    sweep: bool = False
    blocks: HaloSettings | None = None


def evaluate(
    prediction: Volume | Address | Array,
    truth: Volume | Address | Array,
    *,
    voxel_size_nm: FloatZYX | None = None,
    threshold: float | None = None,
    roi: Box | None = None,
    kind: str | None = None,
    settings: ScoringSettings = ScoringSettings(),  # noqa: B008 - it is frozen
) -> Evaluation:
    """Score a prediction against its truth: CREMI score, F1, AUC, and whole clefts (docs/method.md, "Scores").

    The scored voxels are those that both volumes cover, aligned by their offsets in nm, and whose truth is labeled. Distances
    are measured inside that region, as if both volumes ended there. An undefined score is None, and `Evaluation.undefined`
    says why; volumes that do not fit each other are an error.

    Args:
        prediction: A volume, its address, or a NumPy array z y x: probability (uint8 0 to 255, float 0 to 1), mask (bool) or
            cleft ids (other integers).
        truth: A volume, its address, or a NumPy array z y x: cleft ids with background 0, or a mask.
        voxel_size_nm: Voxel size, z y x, of sources that carry none, such as arrays.
        threshold: Voxels of at least this probability are predicted; None takes the one stored with the prediction, else 0.5.
        roi: What to score, in voxels of the truth; None scores all that both cover.
        kind: What the prediction holds ("probability", "mask", "labels"), where its type does not show it.
        settings: Which clefts match, whether thresholds are swept, and in which pieces the region is scored.

    Raises:
        InputError: when the volumes do not fit each other, the prediction's values are not what its type says, or the truth is
            cleft everywhere (a background written as 0 in a CREMI file).

    Example:
        >>> import numpy as np
        >>> labels, probability = np.zeros((2, 4, 4), np.uint64), np.zeros((2, 4, 4), np.uint8)
        >>> labels[0, 1:3, 1:3] = 7
        >>> probability[0, 1:3, 1:4] = 200
        >>> result = evaluate(probability, labels, voxel_size_nm=(40, 4, 4))
        >>> result.f1, result.cremi_score, result.objects
        (0.8, 0.6666666666666666, ObjectScores(true=1, predicted=1, matched=1, splits=0, merges=0))
    """
    pair = PredictionPair.of(prediction, truth, voxel_size_nm=voxel_size_nm, threshold=threshold, roi=roi, kind=kind)
    if settings.sweep and pair.threshold is None:
        raise InputError(f"{pair.prediction.address} is a {pair.kind.value} volume; only probabilities can be swept")
    blocks = settings.blocks or (HaloSettings() if pair.box.voxels > WHOLE_VOX else None)
    tally = _Tally(pair, SWEEP_GRID if settings.sweep else ())
    for block in whole(pair.box) if blocks is None else blocks.cover(pair.box, pair.place.voxel_size_nm):
        tally.add(block)
    if tally.histogram is not None and kind is None:
        check_probability(pair.prediction, tally.histogram)
    return tally.result(settings.match_nm)


@dataclass
class _Tally:
    """Adds up the scores of blocks, section by section."""

    pair: PredictionPair
    grid: Sequence[float]
    counts: list[VoxelCounts] = field(init=False)
    distances: list[list[CremiScore]] = field(init=False)
    swept: dict[float, list[CremiScore]] = field(init=False)
    objects: ObjectTally = field(init=False)
    histogram: ScoreHistogram | None = None
    outside: bool = False  # the truth marks voxels as outside the labeled region

    def __post_init__(self) -> None:
        self.objects = ObjectTally(self.pair.box)
        depth = self.pair.box.shape[0]
        self.counts = [VoxelCounts() for _ in range(depth)]
        self.distances = [[] for _ in range(depth)]
        self.swept = {threshold: [] for threshold in self.grid}

    def add(self, block: Block) -> None:
        """Score one block."""
        pair = self.pair
        part = pair.read(block.read)
        self.outside |= part.outside
        own = block.write.relative_to(block.read.start).slices
        if pair.threshold is not None:
            found = ScoreHistogram.of(part.values[own], part.true[own], part.valid[own])
            self.histogram = found if self.histogram is None else self.histogram + found
        predicted = pair.predicted(part.values)
        has_ids, ranks = pair.kind is PredictionKind.LABELS, pair.kind is PredictionKind.PROBABILITY
        self.objects.add(part, predicted, block, has_ids=has_ids, is_probability=ranks)
        predicted &= part.valid
        for z, scored in enumerate(self._distances(predicted, part, block), start=block.write.start[0]):
            inside = (z - block.read.start[0], *own[1:])
            self.counts[z] += VoxelCounts.of(predicted[inside], part.true[inside], part.valid[inside])
            self.distances[z].append(scored)
        for threshold, parts in self.swept.items():
            predicted = predicted_mask(part.values, threshold) & part.valid
            parts.append(CremiScore.total(self._distances(predicted, part, block)))

    def _distances(self, predicted: Mask, part: PairVoxels, block: Block) -> list[CremiScore]:
        return score_block(predicted, part.true, block, self.pair.box, self.pair.place.voxel_size_nm)

    def result(self, match_nm: float | None) -> Evaluation:
        """Return all scores.

        Args:
            match_nm: Largest distance between the centroids of matched clefts; None matches clefts that share voxels.

        Raises:
            InputError: when the truth is cleft everywhere.
        """
        pair = self.pair
        counts = sum(self.counts, start=VoxelCounts())
        if counts.true and counts.true == counts.voxels:
            raise InputError(
                f"every labeled voxel of {pair.truth.address} in {pair.place.truth_box} is cleft: its background was probably "
                f"written as 0, which is a cleft in a CREMI file (background there is 2^64-1); rewrite the labels"
            )
        at_each_z = [_settled(CremiScore.total(parts), counts) for parts in self.distances]
        scores = MaskScores(counts, CremiScore.total(at_each_z))
        auc = self.histogram.auc if self.histogram is not None else None
        scale = 255 if pair.prediction.dtype == np.uint8 else 1
        objects = self.objects.scores(pair.place.voxel_size_nm, match_nm, scale)
        first = pair.place.truth_box.start[0]
        return Evaluation(
            scores=scores,
            threshold=pair.threshold,
            auc=auc,
            objects=objects,
            sections={first + z: MaskScores(c, d) for z, (c, d) in enumerate(zip(self.counts, at_each_z, strict=True))},
            scored_box=str(pair.place.truth_box),
            voxel_size_nm=pair.place.voxel_size_nm,
            undefined=_undefined(counts, pair, objects),
            warnings=_warnings(scores, pair, outside=self.outside),
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
    """Make distances to a mask that is empty in all blocks infinite; a single block cannot know."""
    return CremiScore(
        distances.of_predicted if counts.true else distances.of_predicted.without_target(),
        distances.of_true if counts.predicted else distances.of_true.without_target(),
    )


def _undefined(counts: VoxelCounts, pair: PredictionPair, objects: ObjectScores) -> dict[str, str]:
    """Say for each score that is None why it is undefined."""
    reasons: dict[str, str] = {}
    nothing_scored = "no voxel of the region is labeled"
    no_cleft = nothing_scored if not counts.voxels else "the truth holds no cleft voxel in the region"
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
    if not objects.predicted:
        reasons["objects.precision"] = none_predicted
    if not objects.true:
        reasons |= dict.fromkeys(("objects.recall", "objects.average_precision"), no_cleft)
    if objects.curve is None:
        reasons["objects.average_precision"] = f"a {pair.kind.value} volume has no probability to rank clefts by"
    if not objects.predicted and not objects.true:
        reasons["objects.f1"] = no_cleft
    return reasons


def _warnings(scores: MaskScores, pair: PredictionPair, *, outside: bool) -> tuple[str, ...]:
    """Return what a reader should know before trusting the numbers."""
    warnings = list(pair.place.notes)
    counts, distances = scores.counts, scores.distances
    if counts.voxels and counts.predicted == counts.voxels:
        cause = (
            "the background was probably written as 0"
            if pair.kind is PredictionKind.LABELS
            else "is the threshold too low?"
        )
        warnings.append(f"every scored voxel is predicted as cleft; {cause}")
    if outside:
        warnings.append(
            "the truth marks voxels as outside the labeled region (2^64-3), which are left out of every score here; the "
            "challenge's own evaluation takes them for clefts"
        )
    beyond = distances.of_predicted.lower_bounds + distances.of_true.lower_bounds
    if beyond:
        warnings.append(
            f"{beyond} distances reach beyond the halo of their block; ADGT, ADF and CREMI score are lower bounds"
        )
    return tuple(warnings)
