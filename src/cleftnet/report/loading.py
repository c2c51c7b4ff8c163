"""Contents of a page from a run directory, whose validation regions are predicted for it, or from the folder of a demo."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from cleftnet.geometry import Box
from cleftnet.metrics.predictions import DEFAULT_THRESHOLD
from cleftnet.models.checkpoint import find_model, load_model
from cleftnet.prediction import PredictionSettings, predict
from cleftnet.report.contents import Contents, Entry, History, Prediction, Scene
from cleftnet.training.recipe import Recipe, VolumeSettings, load_recipe
from cleftnet.training.runs import RECIPE, RUN
from cleftnet.volumes import DISTANCE_NAME, LABELS, PREDICTION, Volume, list_arrays, open_volume, place

log = logging.getLogger(__name__)


@contextmanager
def run_contents(run: Path) -> Iterator[Contents]:
    """Predict the validation regions of a run by its best checkpoint, as its validations did; they last as long as the body.

    Args:
        run: A run directory.

    Raises:
        InputError: when it is none, or its data cannot be opened.
    """
    recipe, checkpoint = load_recipe(run / RECIPE), find_model(run)
    card = load_model(checkpoint).card
    scenes = recipe_scenes(recipe)
    with tempfile.TemporaryDirectory(prefix="cleftnet-report-") as folder:
        predictions = []
        for number, scene in enumerate(scenes):
            log.info(f"predicting {scene.name} by {checkpoint}")
            out, how = (
                Path(folder, f"prediction-{number}.hdf"),
                PredictionSettings(overlap=recipe.training.validation_overlap),
            )
            predict(checkpoint, scene.raw, out, settings=how)
            predictions.append(open_prediction(out))
        entry = Entry("run", run.resolve().name, tuple(predictions), card.threshold, (History.read(run),))
        yield Contents(
            title=run.resolve().name,
            about=f"The checkpoint of step {card.step} of {recipe.training.steps}, on the regions that it and its threshold "
            "were chosen on: tissue that nobody chose on will score lower.",
            scenes=scenes,
            entries=(entry,),
            recipe=(run / RECIPE).read_text(),
            provenance=_provenance(run),
        )


def demo_contents(demo: Path) -> Contents:
    """Return what `cleftnet demo` left in a folder: the held-out part, and what was predicted there.

    Args:
        demo: The folder.

    Raises:
        InputError: when a file of it is missing.
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
        about="A small CleftNet, trained for minutes on synthetic tissue, on a part of it that nobody trained or chose on. It "
        "shows that everything works; it says nothing about real tissue.",
        scenes=(Scene("held-out part", raw.crop(held_out), truth.crop(held_out), held_out.start),),
        entries=(entry,),
        recipe=(run / RECIPE).read_text(),
        provenance=_provenance(run),
    )


def recipe_scenes(recipe: Recipe) -> tuple[Scene, ...]:
    """Open the regions that a recipe validates on.

    Raises:
        InputError: when one cannot be opened.
    """
    return tuple(_scene(volume) for volume in recipe.data.validate_on)


def _scene(volume: VolumeSettings) -> Scene:
    region = volume.open()
    origin = (0, 0, 0) if volume.roi is None else Box.parse(volume.roi).start
    name = short_name(volume.raw) + (f", {volume.roi}" if volume.roi else "")
    return Scene(name, region.raw, region.labels, origin)


def short_name(address: str) -> str:
    """Return the name of the file in an address, without folders and ending.

    Example:
        >>> short_name("../data/A.hdf/volumes/raw"), short_name("precomputed://gs://bucket/fly")
        ('A', 'fly')
    """
    parts = address.rstrip("/").split("/")
    return next((Path(part).stem for part in reversed(parts) if Path(part).suffix), parts[-1])


def open_prediction(path: Path) -> Prediction:
    """Open a prediction file, with its distance where it has one.

    Raises:
        InputError: when there is no such file, or no prediction in it.
    """
    probability = open_volume(path, default=PREDICTION)
    distance: Volume | None = None
    if any(address.endswith(DISTANCE_NAME) for address in list_arrays(path)):
        distance = open_volume(path, default=(DISTANCE_NAME,))
    return Prediction(probability, distance)


def _provenance(run: Path) -> dict[str, JsonValue]:
    """What `run.json` says, but for the recipe, which the page has anyway."""
    path = run / RUN
    about = json.loads(path.read_text()) if path.is_file() else {}
    return {name: value for name, value in about.items() if name != "recipe"}
