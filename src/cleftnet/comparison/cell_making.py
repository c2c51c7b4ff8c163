"""Makes one cell of a comparison: trains a row with a seed, predicts the validation regions, and scores them."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from cleftnet.comparison.cells import Cell, CellFolder, Effort
from cleftnet.comparison.forest import ForestSettings, train_forest
from cleftnet.comparison.recipe import Comparison
from cleftnet.comparison.region_scores import score_regions
from cleftnet.models.checkpoint import load_model
from cleftnet.prediction import PredictionSettings, best_device, predict
from cleftnet.training.data import open_region
from cleftnet.training.log import METRICS
from cleftnet.training.provenance import fingerprint, provenance
from cleftnet.training.recipe import Recipe, dump
from cleftnet.training.runs import RUN, train
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume


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
    recipe = comparison.recipe(row, seed)
    regions = [open_region(volume) for volume in recipe.data.validate_on]
    classical = comparison.rows[row].classical
    made = (
        _train_network(recipe, regions, folder)
        if classical is None
        else _train_forest(classical, recipe, regions, folder)
    )
    folders = [folder.synapses(i) for i in range(len(regions))]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed while scoring
    scored = score_regions(made.predictions, regions, comparison.synapses, folders)
    return Cell(
        row=row,
        label=comparison.rows[row].label,
        seed=seed,
        threshold=scored.threshold,
        scores=scored.scores,
        objects=scored.objects,
        territories=scored.territories,
        effort=made.effort,
        recipe=comparison.described(row, seed),
        synapse_grid=dump(comparison.synapses),
        provenance={key: value for key, value in made.provenance.items() if key != "recipe"},
    )


class _CellTraining(NamedTuple):
    """The outcome of a training: the prediction of every region, the effort, and the provenance."""

    predictions: list[Volume]
    effort: Effort
    provenance: dict[str, JsonValue]


def _train_forest(settings: ForestSettings, recipe: Recipe, regions: list[Region], folder: CellFolder) -> _CellTraining:
    learned = [open_region(volume) for volume in recipe.data.train]
    sums = {"train": [fingerprint(*r) for r in learned], "validate": [fingerprint(*r) for r in regions]}
    about = provenance(None) | {"data": cast(JsonValue, sums)}
    began = time.monotonic()
    forest = train_forest(settings, learned, recipe.seed).calibrated(regions)
    minutes = round((time.monotonic() - began) / 60, 2)
    predictions = [forest.predict(region.raw, folder.prediction(i), overwrite=True) for i, region in enumerate(regions)]
    return _CellTraining(
        predictions, Effort(parameters=None, steps=None, minutes=minutes, seconds_per_step=None), about
    )


def _train_network(recipe: Recipe, regions: list[Region], folder: CellFolder) -> _CellTraining:
    if folder.run.exists() and not (folder.run / RUN).exists():
        shutil.rmtree(folder.run)  # left by a process that was killed before the training began
    run = train(recipe, folder.run, resume=True)
    model = load_model(run.best, best_device())
    how = PredictionSettings(overlap=recipe.training.validation_overlap)
    predictions = [
        predict(model, region.raw, folder.prediction(i), settings=how, overwrite=True)
        for i, region in enumerate(regions)
    ]
    parameters = sum(p.numel() for p in model.net.parameters())
    effort = _effort(folder.run / METRICS, parameters, recipe.training.batch)
    return _CellTraining(predictions, effort, json.loads((folder.run / RUN).read_text()))


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
