"""Chooses the operating point on labels: threshold, gap, and either smallest size and threshold of seeds, or a classifier.

The mean of the F1 of voxels and that of whole synapses decides. On a few dozen synapses the latter alone is mostly chance, and
what both choose is better in both on tissue that nothing was chosen on (docs/log.md).

Components of every threshold and gap are scored with every size and seed, and with every smallest score of a classifier. Its
scores are cross-validated over regions, or over groups of neighboring objects, so that it is judged on objects it has not seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.metrics.clefts import ObjectScores, ScoreCurve
from cleftnet.metrics.pooling import mean_defined
from cleftnet.metrics.voxels import Floats, Mask
from cleftnet.models.operating_point import ObjectClassifier, OperatingPoint
from cleftnet.progress import track
from cleftnet.settings import Settings
from cleftnet.synapses.candidates import Candidates, TuningRegion
from cleftnet.synapses.classifying import JudgedComponents, judge
from cleftnet.synapses.judging import stored_raw
from cleftnet.synapses.rules import SynapseSettings
from cleftnet.synapses.tuning_result import Tuning, TuningPoint, kept_settings, order
from cleftnet.volumes import LABELS, PREDICTION, Address, Array, Volume, as_volume

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0.0, 0.5, 0.7, 0.9)
SIZES_NM3 = (0.0, 5e4, 1e5, 2e5, 5e5, 1e6, 1.5e6, 2e6, 3e6, 5e6)
GAPS = (0, 1)
SCORES = (0.2, 0.3, 0.4, 0.5, 0.6)
CANDIDATE_NM3 = 5e4  # a classifier judges components of at least this volume

Source = Volume | Address | Array


class TuningSettings(Settings):
    """Values to try for whole synapses.

    Attributes:
        thresholds: Probabilities, besides the one stored with the prediction.
        seed_thresholds: Thresholds of seeds, where they are above the threshold; 0 asks for no seed.
        sizes_nm3: Smallest volumes of a synapse.
        gaps: Longest runs of sections without cleft that are filled.
        scores: Smallest scores of a classifier; empty fits none.
    """

    thresholds: tuple[float, ...] = Field(THRESHOLDS, min_length=1)
    seed_thresholds: tuple[float, ...] = Field(SEEDS, min_length=1)
    sizes_nm3: tuple[float, ...] = Field(SIZES_NM3, min_length=1)
    gaps: tuple[int, ...] = Field(GAPS, min_length=1)
    scores: tuple[float, ...] = SCORES


def tune(
    prediction: Source | Sequence[Source],
    truth: Source | Sequence[Source],
    *,
    raw: Source | Sequence[Source | None] | None = None,
    voxel_size_nm: FloatZYX | None = None,
    settings: SynapseSettings = SynapseSettings(),  # noqa: B008 - it is frozen
    grid: TuningSettings = TuningSettings(),  # noqa: B008 - so is this
) -> Tuning:
    """Choose how synapses are found where predictions and labels meet, and fit a classifier of components there.

    Args:
        prediction: A probability of tissue that the model did not learn from: a volume, its address, or a NumPy array z y x;
            or a list of them.
        truth: Cleft ids or a mask for each prediction; unlabeled voxels are left out.
        raw: Gray values for each prediction; None opens the volumes whose addresses are stored with the predictions.
        voxel_size_nm: Voxel size, z y x, of sources that carry none, such as arrays.
        settings: Hole width and kind; a gap or a threshold of seeds that is given is kept. Nothing else of it is used.
        grid: Values to try.

    Raises:
        InputError: when a prediction is no probability, volumes do not fit each other, a region is larger than 2^28 voxels, or
            no truth has a cleft in it.

    Example:
        >>> import numpy as np
        >>> labels, probability = np.zeros((2, 9, 9), np.uint64), np.zeros((2, 9, 9), np.uint8)
        >>> labels[0, 1:3, 1:6] = 7
        >>> probability[0, 1:3, 1:6], probability[1, 8, 8] = 200, 200     # the second is a false one of one voxel
        >>> found = tune(probability, labels, voxel_size_nm=(40, 4, 4), grid=TuningSettings(sizes_nm3=(0, 1280)))
        >>> found.point.min_size_nm3, found.chosen.object_f1
        (1280.0, 1.0)
    """
    predictions = [as_volume(one, voxel_size_nm=voxel_size_nm, default=PREDICTION) for one in _listed(prediction)]
    truths = [as_volume(one, voxel_size_nm=voxel_size_nm, default=LABELS) for one in _listed(truth)]
    raws = [stored_raw(one) for one in predictions] if raw is None else _listed(raw)
    if not len(predictions) == len(truths) == len(raws):
        raise InputError(
            f"{len(predictions)} predictions, {len(truths)} truths and {len(raws)} raw volumes; give one of each for a region"
        )
    regions = [TuningRegion.read(*each, settings.kind) for each in zip(predictions, truths, raws, strict=True)]
    if not any(len(region.clefts) for region in regions):
        raise InputError(f"{truths[0].address} has no cleft where the prediction is; give a truth that has")
    best, others = _best(regions, settings, grid)
    chosen = best.best.with_cremi_score(best.candidates)
    point = best.point.changed(
        seed_threshold=chosen.seed_threshold,
        min_size_nm3=chosen.min_size_nm3,
        min_score=chosen.min_score,
        classifiers=best.classifiers(),
    )
    return Tuning(
        point=point,
        chosen=chosen,
        given=kept_settings(settings),
        predictions=tuple(one.identity() for one in predictions),
        truths=tuple(one.identity() for one in truths),
        grid=[*others, *(chosen if scored is best.best else scored.point for scored in best.points)],
    )


def tune_once(
    path: Path,
    prediction: Volume | Address,
    truth: Volume | Address,
    settings: SynapseSettings,
    *,
    raw: Source | None = None,
    overwrite: bool = False,
) -> Tuning:
    """Tune and write the result to a file, or read it where an earlier call with the same arguments left it.

    Args:
        path: The file.
        prediction: The prediction, see `tune`.
        truth: The truth, see `tune`.
        settings: The settings, see `tune`.
        raw: Gray values, see `tune`.
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
    tuning = tune(volume, labels, raw=raw, settings=settings)
    tuning.save(path, overwrite)
    return tuning


class _ScoredChoice(NamedTuple):
    """A point of the grid, and the components that it keeps in each region."""

    point: TuningPoint
    kept: list[Mask]

    def with_cremi_score(self, candidates: Sequence[Candidates]) -> TuningPoint:
        """Return the point with its CREMI score, which takes longer than all others."""
        scores = [one.cremi_score(kept) for one, kept in zip(candidates, self.kept, strict=True)]
        return self.point.model_copy(update={"cremi_score": mean_defined(scores)})


class _Pool(NamedTuple):
    """The components of all regions at one threshold and gap, and the points of the grid there.

    Attributes:
        point: Threshold, gap and hole width.
        candidates: Components of each region.
        judged: What a classifier says about them; None where there are too few of them.
        points: The points of the grid.
    """

    point: OperatingPoint
    candidates: list[Candidates]
    judged: JudgedComponents | None
    points: list[_ScoredChoice]

    @classmethod
    def of(
        cls, regions: Sequence[TuningRegion], point: OperatingPoint, grid: TuningSettings, seeds: Sequence[float]
    ) -> _Pool:
        """Find, measure and judge the components, and score every size with every threshold of seeds, and every score."""
        candidates = [Candidates.of(region, point) for region in regions]
        judged = judge(candidates, CANDIDATE_NM3) if grid.scores else None
        means = [one.features["mean_probability"] for one in candidates]
        points = []
        for seed, size in itertools.product(seeds, sorted(grid.sizes_nm3)):
            kept = [one.large(size, seed) for one in candidates]
            chosen = point.changed(seed_threshold=seed, min_size_nm3=size)
            points.append(_scored(chosen, candidates, kept, means))
        if judged is not None:
            lowest = seeds[0]  # a classifier decides in the place of seeds, unless these were given
            seeded = [one.large(CANDIDATE_NM3, lowest) for one in candidates]
            for score in sorted(grid.scores):
                kept = [large & (scores >= score) for large, scores in zip(seeded, judged.scores, strict=True)]
                chosen = point.changed(seed_threshold=lowest, min_size_nm3=CANDIDATE_NM3, min_score=score)
                points.append(_scored(chosen, candidates, kept, judged.scores))
        return cls(point, candidates, judged, points)

    @property
    def best(self) -> _ScoredChoice:
        """The best of its points."""
        return min(self.points, key=lambda scored: order(scored.point))

    def classifiers(self) -> tuple[ObjectClassifier, ...]:
        """Return classifiers fitted to all components: with raw, where every region has it, and without."""
        return () if self.judged is None else self.judged.classifiers()


def _best(
    regions: Sequence[TuningRegion], settings: SynapseSettings, grid: TuningSettings
) -> tuple[_Pool, list[TuningPoint]]:
    """Return the components at the best threshold and gap, and the points of all other thresholds and gaps."""
    given = settings.seed_threshold
    seeds = sorted(grid.seed_thresholds) if given is None else [given]
    highest = max(seed or 1.0 for seed in seeds)
    thresholds = sorted({t for t in (*grid.thresholds, *(region.threshold for region in regions)) if t <= highest})
    gaps = grid.gaps if settings.gap is None else (settings.gap,)
    places = [(threshold, gap) for threshold in thresholds for gap in gaps]
    hole = {} if settings.hole_nm is None else {"hole_nm": settings.hole_nm}
    best: _Pool | None = None
    others: list[TuningPoint] = []
    for threshold, gap in track(places, "tuning", len(places)):
        point = OperatingPoint(threshold=threshold, gap=gap, **hole)
        pool = _Pool.of(regions, point, grid, [seed for seed in seeds if not 0 < seed < threshold])
        if best is None:
            best = pool
            continue
        better, worse = (pool, best) if order(pool.best.point) < order(best.best.point) else (best, pool)
        best = better
        others += [scored.point for scored in worse.points]
    if best is None:
        raise InputError(
            f"no threshold to try is at most seed_threshold={highest:g}; give a higher one, or lower thresholds"
        )
    return best, others


def _scored(
    point: OperatingPoint, candidates: Sequence[Candidates], kept: list[Mask], scores: Sequence[Floats]
) -> _ScoredChoice:
    """Score the components that are kept, over all regions."""
    pairs = [one.matched(mask) for one, mask in zip(candidates, kept, strict=True)]
    objects = [each.scores for each in pairs]
    total = ObjectScores(
        *(sum(getattr(one, name) for one in objects) for name in ("true", "predicted", "matched", "splits", "merges"))
    )
    precisions = [
        ScoreCurve.of(values[mask], each.predicted, len(each.true)).average_precision
        for values, mask, each in zip(scores, kept, pairs, strict=True)
        if len(each.true)
    ]
    counts = zip(*(one.voxel_counts(mask) for one, mask in zip(candidates, kept, strict=True)), strict=True)
    hits, found, true = (sum(numbers) for numbers in counts)
    return _ScoredChoice(
        TuningPoint(
            threshold=point.threshold,
            seed_threshold=point.seed_threshold,
            gap=point.gap,
            min_size_nm3=point.min_size_nm3,
            min_score=point.min_score,
            object_f1=total.f1,
            object_precision=total.precision,
            object_recall=total.recall,
            predicted=total.predicted,
            matched=total.matched,
            true=total.true,
            splits=total.splits,
            merges=total.merges,
            average_precision=mean_defined(precisions),
            voxel_f1=2 * hits / (found + true) if found + true else None,
        ),
        kept,
    )


def _listed(sources: Source | Sequence[Source | None]) -> list[Any]:
    """Return several sources as a list, and one as a list of one."""
    return list(sources) if isinstance(sources, list | tuple) else [sources]
