"""Contents of a page: scenes, models with their predictions, tables, the recipe and its provenance."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from cleftnet.comparison.tables import TextTable
from cleftnet.errors import InputError
from cleftnet.geometry import IntZYX
from cleftnet.metrics.voxels import Floats
from cleftnet.training.log import LOSSES, METRICS
from cleftnet.volumes import Volume


class Scene(NamedTuple):
    """A labelled region that was predicted.

    Attributes:
        name: Name for headings.
        raw: Gray values z y x.
        truth: Cleft ids of the same shape, background 0.
        origin: First voxel z y x in the volume that the scene is cut from; coordinates on the page count from there.
    """

    name: str
    raw: Volume
    truth: Volume
    origin: IntZYX = (0, 0, 0)


class ScenePrediction(NamedTuple):
    """The prediction of one scene.

    Attributes:
        probability: uint8 0-255 or float 0-1, of the shape of the scene.
        distance: Distance to the boundary of a cleft, in the same range; None if the model does not predict it.
    """

    probability: Volume
    distance: Volume | None = None


@dataclass(frozen=True)
class History:
    """The two tables of a training by column; NaN where a value is missing, empty where a table is missing.

    Attributes:
        validations: Columns of `metrics.csv`, one value for each validation.
        steps: Columns of `losses.csv`, one value for each step.
    """

    validations: Mapping[str, Floats] = field(default_factory=dict)
    steps: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Path) -> History:
        """Read the tables of a run directory."""
        return cls(_columns(run / METRICS), _columns(run / LOSSES))


def _columns(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        names = [name for name in rows[0] if name is not None] if rows else []
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); correct the line, or move the file away") from None


@dataclass(frozen=True)
class Entry:
    """One model and its predictions.

    Attributes:
        key: Short unique name of letters, digits and hyphens.
        label: Name to print.
        predictions: One for each scene, in order.
        threshold: Voxels of at least this probability are cleft.
        histories: Histories of its trainings, first that of the model which predicted; empty for a random forest.
    """

    key: str
    label: str
    predictions: tuple[ScenePrediction, ...]
    threshold: float
    histories: tuple[History, ...] = ()


@dataclass(frozen=True)
class Contents:
    """All that a page shows.

    Attributes:
        title: Title of the page.
        about: One or two sentences on what is shown.
        scenes: Scenes that were predicted.
        entries: Models; the first is shown first.
        tables: Tables in addition to the scores that the page computes.
        recipe: Recipe as YAML.
        provenance: Versions, data and machine, for reproducing the results.
    """

    title: str
    about: str
    scenes: tuple[Scene, ...]
    entries: tuple[Entry, ...]
    tables: tuple[TextTable, ...] = ()
    recipe: str = ""
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)
