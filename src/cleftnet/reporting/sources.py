"""Collects the contents of a page from a run directory, the output of a demo, or the output of a comparison."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import JsonValue, ValidationError

from cleftnet.comparison import RESULTS, Cell, CellFolder, Comparison, Results
from cleftnet.comparison.tables import about, text_tables
from cleftnet.errors import InputError
from cleftnet.files import json_object
from cleftnet.geometry import Box
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD
from cleftnet.models.checkpoint import find_model, load_card
from cleftnet.prediction import PredictionSettings, predict_in_memory
from cleftnet.reporting.contents import Contents, Entry, History, Scene, ScenePrediction
from cleftnet.training.data import open_region
from cleftnet.training.recipe import VolumeSettings, load_recipe
from cleftnet.training.runs import RECIPE, RUN
from cleftnet.volumes import DISTANCE_NAME, LABELS, PREDICTION, Volume, list_arrays, open_volume, place

log = logging.getLogger(__name__)


def run_contents(run: Path) -> Contents:
    """Predict the validation regions of a run in memory with its best checkpoint, as a validation does.

    Args:
        run: A run directory.

    Raises:
        InputError: when the folder is no run directory, or its data cannot be opened.
    """
    recipe, checkpoint = load_recipe(run / RECIPE), find_model(run)
    card = load_card(checkpoint)
    scenes = open_scenes(recipe.data.validate_on)
    settings = PredictionSettings(overlap=recipe.training.validation_overlap)
    predictions = []
    for scene in scenes:
        log.info(f"predicting {scene.name} with {checkpoint}")
        predictions.append(ScenePrediction(**predict_in_memory(checkpoint, scene.raw, settings=settings)))
    return Contents(
        title=run.resolve().name,
        about=f"The checkpoint of step {card.step} of {recipe.training.steps}, on its validation regions. "
        "Checkpoint and threshold were chosen on these regions, so other tissue will score lower.",
        scenes=scenes,
        entries=(Entry("run", run.resolve().name, tuple(predictions), card.threshold, (History.read(run),)),),
        recipe=(run / RECIPE).read_text(),
        provenance=_provenance(run),
    )


def demo_contents(demo: Path) -> Contents:
    """Return the held-out part of a demo and its prediction.

    Args:
        demo: Output folder of `cleftnet demo`.

    Raises:
        InputError: when a file is missing.
    """
    volume, run = demo / "volume.hdf", demo / "run"
    prediction = open_prediction(demo / "prediction.hdf")
    raw, truth = open_volume(volume), open_volume(volume, default=LABELS)
    held_out = place(prediction.probability, truth).truth_box
    threshold = prediction.probability.threshold
    entry = Entry(
        "demo", "demo", (prediction,), DEFAULT_THRESHOLD if threshold is None else threshold, (History.read(run),)
    )
    return Contents(
        title="Demo",
        about="A small CleftNet, trained for minutes on synthetic tissue, on a held-out part of it. The demo shows that the "
        "installation works; it says nothing about real tissue.",
        scenes=(Scene("held-out part", raw.crop(held_out), truth.crop(held_out), held_out.start),),
        entries=(entry,),
        recipe=(run / RECIPE).read_text(),
        provenance=_provenance(run),
    )


def open_scenes(volumes: Sequence[VolumeSettings]) -> tuple[Scene, ...]:
    """Open the regions that predictions are shown on.

    Raises:
        InputError: when one cannot be opened.
    """
    return tuple(_scene(volume) for volume in volumes)


def _scene(volume: VolumeSettings) -> Scene:
    region = open_region(volume)
    origin = (0, 0, 0) if volume.roi is None else Box.parse(volume.roi).start
    name = short_name(volume.raw) + (f", {volume.roi}" if volume.roi else "")
    return Scene(name, region.raw, region.labels, origin)


def short_name(address: str) -> str:
    """Return the file name in an address, without folders and extension.

    Example:
        >>> short_name("../data/A.hdf/volumes/raw"), short_name("precomputed://gs://bucket/fly")
        ('A', 'fly')
    """
    parts = address.rstrip("/").split("/")
    return next((Path(part).stem for part in reversed(parts) if Path(part).suffix), parts[-1])


def open_prediction(path: Path) -> ScenePrediction:
    """Open a prediction file, with its distance if it has one.

    Raises:
        InputError: when the file does not exist, or holds no prediction.
    """
    probability = open_volume(path, default=PREDICTION)
    distance: Volume | None = None
    if any(address.endswith(DISTANCE_NAME) for address in list_arrays(path)):
        distance = open_volume(path, default=(DISTANCE_NAME,))
    return ScenePrediction(probability, distance)


def _provenance(run: Path) -> dict[str, JsonValue]:
    """Return the contents of `run.json` without the recipe, which the page shows separately."""
    path = run / RUN
    about = json_object(path.read_bytes(), path) if path.is_file() else {}
    return {name: value for name, value in about.items() if name != "recipe"}


def comparison_contents(out: Path) -> Contents:
    """Return the finished cells of a comparison: the reference first, predictions those of the first seed of each row.

    Args:
        out: Output folder of `cleftnet compare`.

    Raises:
        InputError: when no cell is finished, a prediction is missing, or another version wrote the results.
    """
    try:
        results = Results.model_validate_json((out / RESULTS).read_bytes())
        comparison = Comparison.model_validate(results.recipe)
    except ValidationError as error:
        reason = error.errors()[0]
        raise InputError(
            f"{out / RESULTS} is not of this version of cleftnet ({'.'.join(map(str, reason['loc']))}: {reason['msg']}); run "
            f"the same comparison again"
        ) from None
    cells = {row: [cell for cell in results.cells if cell.row == row] for row in comparison.rows}
    rows = sorted((row for row in comparison.rows if cells[row]), key=lambda row: row != comparison.against)
    if not rows:
        raise InputError(f"{out} has no finished cell yet, and a report needs one; continue the comparison first")
    scenes = open_scenes(comparison.scored(rows[0]))
    return Contents(
        title=out.resolve().name,
        about=" ".join(
            [
                _progress(results),
                about(comparison),
                "Scores, curves and pictures are those of the first seed of each row.",
            ]
        ),
        scenes=scenes,
        entries=tuple(_entry(out, cells[row], len(scenes)) for row in rows),
        tables=tuple(text_tables(comparison, results.tables, results.differences)),
        recipe=yaml.safe_dump(results.recipe, sort_keys=False, allow_unicode=True),
        provenance={
            **results.provenance,
            "cells": {f"{cell.row}, seed {cell.seed}": dict(cell.provenance) for cell in results.cells},
        },
    )


def _progress(results: Results) -> str:
    text = f"{len(results.cells)} of {len(results.cells) + len(results.failed) + results.missing} cells are finished"
    failed = ", ".join(f"{failure.row} with seed {failure.seed}" for failure in results.failed)
    return f"{text}; failed: {failed}." if failed else f"{text}."


def _entry(out: Path, cells: list[Cell], regions: int) -> Entry:
    """Return a row with the predictions of its first seed."""
    folders = [CellFolder.of(out, cell.row, cell.seed) for cell in cells]
    paths = [folders[0].prediction(number) for number in range(regions)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing; remove {folders[0].file} and run the comparison again")
    return Entry(
        cells[0].row,
        cells[0].label,
        tuple(open_prediction(path) for path in paths),
        cells[0].threshold,
        tuple(History.read(run) for folder in folders for run in folder.runs),
    )
