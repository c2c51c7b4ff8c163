"""What a page is made from, wherever it comes from: scenes, entries predicted on them, tables, a recipe, its provenance.

A run, a demo and a comparison are each turned into `Contents` by a loader of their own; the page knows only these.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from cleftnet.comparison.tables import TextTable
from cleftnet.geometry import IntZYX
from cleftnet.metrics.voxels import Floats
from cleftnet.training.log import LOSSES, METRICS
from cleftnet.volumes import Volume


class Scene(NamedTuple):
    """A labelled region that was predicted.

    Attributes:
        name: For headings.
        raw: Gray values z y x.
        truth: Cleft ids of the same shape, background 0.
        origin: Of its first voxel, z y x in voxels of the volume that it is a part of; places on the page count from there.
    """

    name: str
    raw: Volume
    truth: Volume
    origin: IntZYX = (0, 0, 0)


class Prediction(NamedTuple):
    """What a model said of one scene.

    Attributes:
        probability: uint8 0-255 or float 0-1, of the scene's shape.
        distance: Distance to the cleft's boundary, 0-1 in the same types; None where the model has no such head.
    """

    probability: Volume
    distance: Volume | None = None


@dataclass(frozen=True)
class History:
    """How a training went: the columns of its two tables, NaN where a value is missing; empty where a table is.

    Attributes:
        validations: Columns of `metrics.csv`, a value for each validation.
        steps: Columns of `losses.csv`, a value for each step.
    """

    validations: Mapping[str, Floats] = field(default_factory=dict)
    steps: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Path) -> History:
        """Read what a run directory holds of the two tables."""
        return cls(_columns(run / METRICS), _columns(run / LOSSES))


def _columns(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0] if rows else {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


@dataclass(frozen=True)
class Entry:
    """One model, and what it predicted.

    Attributes:
        key: Short name, distinct among the entries: letters, digits, hyphens.
        label: Name for people.
        predictions: One for each scene, in their order.
        threshold: Voxels of at least this probability are cleft.
        histories: Of its trainings, the first that of the model which predicted; empty for what was not trained in steps.
    """

    key: str
    label: str
    predictions: tuple[Prediction, ...]
    threshold: float
    histories: tuple[History, ...] = ()


@dataclass(frozen=True)
class Contents:
    """All that a page shows.

    Attributes:
        title: Of the page.
        about: What this is, in a sentence or two.
        scenes: What was predicted.
        entries: By what; the first is the one shown first.
        tables: Beside the scores that the page itself works out.
        recipe: As YAML.
        provenance: What somebody needs to do it again.
    """

    title: str
    about: str
    scenes: tuple[Scene, ...]
    entries: tuple[Entry, ...]
    tables: tuple[TextTable, ...] = ()
    recipe: str = ""
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)
