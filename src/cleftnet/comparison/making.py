"""A cell made: its row trained with its seed, the validation regions predicted by the best checkpoint, and scored."""

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
from cleftnet.comparison.scoring import score_regions
from cleftnet.models.checkpoint import load_model
from cleftnet.prediction import PredictionSettings, best_device, predict
from cleftnet.training.log import METRICS
from cleftnet.training.provenance import fingerprint, provenance
from cleftnet.training.recipe import Recipe, dump
from cleftnet.training.runs import RUN, train
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume


def make_cell(comparison: Comparison, row: str, seed: int, folder: CellFolder) -> Cell:
    """Make a cell in its folder, going on with what an earlier process began there.

    Args:
        comparison: What is compared.
        row: A row of it.
        seed: Of weights and patches.
        folder: Where run directory, predictions and synapses are written.

    Raises:
        InputError: when the training cannot go on or its loss diverged, or a volume cannot be read.
        SystemExit: with code 143 when a SIGTERM ended the training, its state saved.
    """
    recipe = comparison.recipe(row, seed)
    regions = [volume.open() for volume in recipe.data.validate_on]
    classical = comparison.rows[row].classical
    made = (
        _train_network(recipe, regions, folder)
        if classical is None
        else _train_forest(classical, recipe, regions, folder)
    )
    folders = [folder.synapses(i) for i in range(len(regions))]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)  # of a process that was killed while it scored
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
    """What a training gave: a prediction of every region, what it took, and where it comes from."""

    predictions: list[Volume]
    effort: Effort
    provenance: dict[str, JsonValue]


def _train_forest(settings: ForestSettings, recipe: Recipe, regions: list[Region], folder: CellFolder) -> _CellTraining:
    learned = [volume.open() for volume in recipe.data.train]
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
        shutil.rmtree(folder.run)  # of a process that was killed before it had begun
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
    """What a training took, by the rows that each validation wrote, all legs together."""
    with metrics.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    steps, before, timed, seconds = 0, 0, 0, 0.0
    for row in rows:
        before, steps = steps, int(row["step"])
        if row["patches_per_second"]:  # a leg that began with a validation has none
            timed += steps - before
            seconds += (steps - before) * batch / float(row["patches_per_second"])
    return Effort(
        parameters=parameters,
        steps=steps,
        minutes=round(float(rows[-1]["seconds"]) / 60, 2),
        seconds_per_step=round(seconds / timed, 4) if timed else None,
    )
