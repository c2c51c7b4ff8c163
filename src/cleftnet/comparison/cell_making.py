"""Makes one cell of a comparison: trains a row with a seed, predicts the validation regions, and scores them."""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from pydantic import JsonValue

from cleftnet.comparison.boosting import train_trees
from cleftnet.comparison.cells import Cell, CellFolder, Effort, FoldChoice, FoldRecord
from cleftnet.comparison.folds import open_whole, raw_around
from cleftnet.comparison.forest import ForestSettings, train_forest
from cleftnet.comparison.out_of_fold import FoldLogits, score_out_of_fold
from cleftnet.comparison.recipe import Comparison
from cleftnet.comparison.region_scores import score_regions
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.models.checkpoint import Model, load_model, save_trees
from cleftnet.prediction import PredictionSettings, best_device, predict, whole_logits
from cleftnet.training.data import as_seen, open_region
from cleftnet.training.log import METRICS
from cleftnet.training.provenance import fingerprint, provenance
from cleftnet.training.recipe import Recipe, dump
from cleftnet.training.runs import RUN, train
from cleftnet.training.validation import Region
from cleftnet.volumes import PROBABILITY_NAME, Array, Volume, write_volume

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


def make_cell(comparison: Comparison, row: str, seed: int, folder: CellFolder) -> Cell:
    """Train, predict and score a cell in its folder; a training that an earlier process began there is resumed.

    Args:
        comparison: The comparison.
        row: Name of the row.
        seed: Seed of weights and patches.
        folder: Folder for run directory, predictions and synapses.

    Raises:
        InputError: when the training cannot be resumed, its loss diverged, or a volume cannot be read.
        TrainingInterrupted: when SIGTERM ended the training; its state is saved.
    """
    settings = comparison.rows[row]
    choices: tuple[FoldChoice, ...] = ()
    if comparison.folds is not None:
        predicted = _average_folds if settings.mean_of else _predict_folds
        region, folds = predicted(comparison, row, seed, folder)
        effort, about = _together(folds)
        scored, choices, stitched = score_out_of_fold([fold.prediction for fold in folds], region, comparison.synapses)
        write_volume(stitched, folder.prediction(0), default=PROBABILITY_NAME, overwrite=True)
    else:
        recipe = comparison.recipe(row, seed)
        regions = [open_region(volume) for volume in recipe.data.validate_on]
        if settings.classical is None:
            predictions, effort, about = _train_network(recipe, regions, folder)
        else:
            predictions, effort, about = _train_forest(settings.classical, recipe, regions, folder)
        scored = score_regions(predictions, regions, comparison.synapses)
    return Cell(
        row=row,
        label=settings.label,
        seed=seed,
        threshold=scored.threshold,
        scores=scored.scores,
        objects=scored.objects,
        territories=scored.territories,
        effort=effort,
        recipe=comparison.described(row, seed),
        synapse_grid=dump(comparison.synapses),
        provenance={key: value for key, value in about.items() if key != "recipe"},
        folds=choices,
    )


Provenance = dict[str, JsonValue]


def _train_forest(
    settings: ForestSettings, recipe: Recipe, regions: list[Region], folder: CellFolder
) -> tuple[list[Volume], Effort, Provenance]:
    """Train a forest, calibrate it on the validation regions, and predict them."""
    seen = [as_seen(region, recipe) for region in regions]
    forest, effort, about = _grow(train_forest, settings, recipe, seen)
    forest = forest.calibrated(seen)
    predictions = [forest.predict(region.raw, folder.prediction(i), overwrite=True) for i, region in enumerate(seen)]
    return predictions, effort, about


def _train_network(
    recipe: Recipe, regions: list[Region], folder: CellFolder
) -> tuple[list[Volume], Effort, Provenance]:
    """Train a network, and predict the validation regions with its best checkpoint."""
    model, effort, about = _learn(recipe, folder)
    how = PredictionSettings(overlap=recipe.training.validation_overlap)
    predictions = [
        predict(model, region.raw, folder.prediction(i), settings=how, overwrite=True)
        for i, region in enumerate(regions)
    ]
    return predictions, effort, about


class _PredictedFold(NamedTuple):
    """The prediction of one fold, with its record."""

    prediction: FoldLogits
    record: FoldRecord


def _predict_folds(
    comparison: Comparison, row: str, seed: int, folder: CellFolder
) -> tuple[Region, list[_PredictedFold]]:
    """Train a row once for every fold and predict it; folds that an earlier process finished are read from the folder."""
    recipe = comparison.recipe(row, seed)
    region, origin = open_whole(recipe)
    folds = []
    for number, fold in enumerate(comparison.cut(row)):
        own, scored = folder.fold(number), fold.scored.relative_to(origin)
        if not own.logits.exists():
            log.info(f"fold {number + 1}: predicting {fold.scored} by a model that learns from the other folds")
            raw, inside = raw_around(region, scored, recipe)
            logits, record = _predict_fold(comparison, row, comparison.fold_recipe(row, seed, fold), raw, own)
            with replacing(own.record, overwrite=True) as temporary:
                temporary.write_text(record.model_dump_json(indent=1) + "\n")
            with replacing(own.logits, overwrite=True) as temporary, temporary.open("wb") as file:
                np.save(file, logits[inside], allow_pickle=False)
        prediction = FoldLogits(scored, np.load(own.logits, allow_pickle=False))
        folds.append(_PredictedFold(prediction, FoldRecord.model_validate_json(own.record.read_bytes())))
    return region, folds


def _average_folds(
    comparison: Comparison, row: str, seed: int, folder: CellFolder
) -> tuple[Region, list[_PredictedFold]]:
    """Average the out-of-fold logits of other rows with the same seed.

    Raises:
        InputError: when one of these rows is not finished.
    """
    region, origin = open_whole(comparison.recipe(row, seed))
    members = {name: folder.of_row(name) for name in comparison.rows[row].mean_of}
    for name, member in members.items():
        if not member.file.exists():
            raise InputError(f"row {row} averages row {name}, which is not finished with seed {seed}; run it first")
    effort, folds = Effort(parameters=None, steps=None, minutes=0.0, seconds_per_step=None), []
    for number, fold in enumerate(comparison.cut(row)):
        own = [member.fold(number) for member in members.values()]
        logits = np.stack([np.load(one.logits, allow_pickle=False) for one in own]).mean(axis=0, dtype=np.float32)
        record = FoldRecord.model_validate_json(own[0].record.read_bytes())
        prediction = FoldLogits(fold.scored.relative_to(origin), logits)
        folds.append(_PredictedFold(prediction, record.model_copy(update={"effort": effort})))
    return region, folds


def _predict_fold(
    comparison: Comparison, row: str, recipe: Recipe, raw: Volume, folder: CellFolder
) -> tuple[Array, FoldRecord]:
    """Train a row for one fold, and return the logits of raw, z y x."""
    settings, described = comparison.rows[row], comparison.described(row, recipe.seed)
    if settings.classical is not None:
        forest, effort, about = _grow(train_forest, settings.classical, recipe, [])
        return forest.log_odds(raw), FoldRecord(recipe=described, effort=effort, provenance=about)
    if settings.boosted is not None:
        trees, effort, about = _grow(train_trees, settings.boosted, recipe, [])
        save_trees(folder.trees, trees)
        return trees.log_odds(raw.read(), raw.box, raw.box), FoldRecord(
            recipe=described, effort=effort, provenance=about
        )
    model, effort, about = _learn(recipe, folder)
    logits = whole_logits(model.net, raw, overlap=recipe.training.validation_overlap)[0]
    return logits, FoldRecord(recipe=described, effort=effort, provenance=about)


def _together(folds: Sequence[_PredictedFold]) -> tuple[Effort, Provenance]:
    """Return the effort of all folds, and the provenance of the first with the data of all."""
    efforts, about = [fold.record.effort for fold in folds], [fold.record.provenance for fold in folds]
    paces = [effort.seconds_per_step for effort in efforts if effort.seconds_per_step is not None]
    effort = efforts[0].model_copy(
        update={
            "minutes": round(sum(effort.minutes for effort in efforts), 2),
            "seconds_per_step": round(sum(paces) / len(paces), 4) if paces else None,
        }
    )
    return effort, about[0] | {"data": {"folds": [one["data"] for one in about]}}


def _grow(
    train_on: Callable[[S, Sequence[Region], int], T], settings: S, recipe: Recipe, regions: Sequence[Region]
) -> tuple[T, Effort, Provenance]:
    """Train trees that are not calibrated; the regions are those that they will be validated on."""
    learned = [as_seen(open_region(volume), recipe) for volume in recipe.data.train]
    sums = {"train": [fingerprint(*r) for r in learned], "validate": [fingerprint(*r) for r in regions]}
    began = time.monotonic()
    trees = train_on(settings, learned, recipe.seed)
    minutes = round((time.monotonic() - began) / 60, 2)
    effort = Effort(parameters=None, steps=None, minutes=minutes, seconds_per_step=None)
    return trees, effort, provenance(None) | {"data": cast(JsonValue, sums)}


def _learn(recipe: Recipe, folder: CellFolder) -> tuple[Model, Effort, Provenance]:
    """Train a network in the run directory of a folder, resuming what is there, and load its best checkpoint."""
    run = train(recipe, folder.run, resume=True)
    model = load_model(run.best, best_device())
    parameters = sum(p.numel() for p in model.net.parameters())
    effort = _effort(folder.run / METRICS, parameters, recipe.training.batch)
    return model, effort, json.loads((folder.run / RUN).read_text())


def _effort(metrics: Path, parameters: int, batch: int) -> Effort:
    """Return what a training took, resumed parts included, from the rows that its validations wrote."""
    with metrics.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    steps, before, timed, seconds = 0, 0, 0, 0.0
    for row in rows:
        before, steps = steps, int(row["step"])
        if row["patches_per_second"]:  # empty where a resumed training began with a validation
            timed += steps - before
            seconds += (steps - before) * batch / float(row["patches_per_second"])
    return Effort(
        parameters=parameters,
        steps=steps,
        minutes=round(float(rows[-1]["seconds"]) / 60, 2),
        seconds_per_step=round(seconds / timed, 4) if timed else None,
    )
