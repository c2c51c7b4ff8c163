"""Recipe of a comparison: a base recipe, the rows with their changes to it, the seeds, and the tables to print."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from cleftnet.comparison.boosting import BoostingSettings
from cleftnet.comparison.folds import Fold, FoldSettings, cut
from cleftnet.comparison.forest import ForestSettings
from cleftnet.errors import InputError, nearest
from cleftnet.geometry import Box
from cleftnet.settings import Settings
from cleftnet.synapses import TuningSettings
from cleftnet.training.recipe import DataSettings, Recipe, VolumeSettings, dump, find_recipe, read_yaml, set_key

PaperScore = Literal["cremi_score", "auc", "f1"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # of rows, which name folders


class Row(Settings):
    """One row of a comparison: a network, decision trees, or the mean of other rows.

    Attributes:
        label: Name in the tables.
        changes: Dotted keys of the base recipe and their values in this row (`set` in the file).
        classical: A random forest instead of a network; it uses the data of the base recipe.
        boosted: Boosted trees instead of a network, on the same data. Only with folds.
        mean_of: Rows whose out-of-fold logits are averaged, seed by seed; nothing is trained. Only with folds.
    """

    label: str
    changes: dict[str, JsonValue] = Field({}, alias="set")
    classical: ForestSettings | None = None
    boosted: BoostingSettings | None = None
    mean_of: tuple[str, ...] = ()

    @property
    def has_network(self) -> bool:
        """Whether the row trains a network."""
        return self.classical is None and self.boosted is None and not self.mean_of

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [
            name for name in ("changes", "classical", "boosted", "mean_of") if getattr(self, name) not in ({}, None, ())
        ]
        if len(given) > 1:
            names = " and ".join("set" if name == "changes" else name for name in given)
            raise ValueError(f"{names} exclude each other: set changes a network, the others make a row without one")
        return self


class TableSettings(Settings):
    """One table to print.

    Attributes:
        title: Heading of the table.
        rows: Names of its rows, in order.
        reference: Row whose scores the others are subtracted from; default: that of the comparison.
        paper: Scores that the paper reports for a row; they are printed beside ours.
    """

    title: str
    rows: tuple[str, ...] = Field(min_length=1)
    reference: str | None = None
    paper: dict[str, dict[PaperScore, float]] = Field({})


class Comparison(Settings):
    """A comparison.

    Attributes:
        base: Training recipe without a seed; in the file, its keys or the path of a recipe beside the file.
        seeds: Every row is trained once with each seed.
        rows: Rows by name; they run in this order, seed by seed.
        tables: Tables to print; default: one of all rows.
        reference: Row whose scores the others are subtracted from; default: the first one.
        synapses: Values to try for whole synapses, the same for every cell.
        folds: Cuts the one training volume of the base into folds, each predicted by a network that learned from the
            others; the base then has no validation data.
    """

    base: dict[str, JsonValue]
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    tables: tuple[TableSettings, ...] = ()
    reference: str | None = None
    synapses: TuningSettings = TuningSettings()
    folds: FoldSettings | None = None

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Self:
        if "seed" in self.base:
            raise ValueError("base.seed is not allowed; list the seeds as seeds: [0, 1]")
        for name, row in self.rows.items():
            if "seed" in row.changes:
                raise ValueError(f"rows.{name} sets seed; list the seeds as seeds: [0, 1]")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} contain one twice")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name in self.rows:
            if not re.match(NAME, name):
                raise ValueError(f"row '{name}' cannot name a folder; use letters, digits, '-', '_' and '.'")
        named = [("reference", name) for name in [self.reference] if name is not None]
        for name, row in self.rows.items():
            named += [(f"rows.{name}.mean_of", other) for other in row.mean_of]
            if row.mean_of and (self.folds is None or any(self.rows[o].mean_of for o in row.mean_of if o in self.rows)):
                raise ValueError(
                    f"rows.{name}.mean_of averages out-of-fold logits; expected folds, and rows that are no means themselves"
                )
        for table in self.tables:
            own = [] if table.reference is None else [table.reference]
            named += [(f"table '{table.title}'", name) for name in [*table.rows, *own, *table.paper]]
        for where, name in named:
            if name not in self.rows:
                raise ValueError(f"{where} names an unknown row '{name}'; {nearest(name, list(self.rows))}")
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of a reference and a row to subtract from it, for the comparison and for each table."""
        wanted = [(self.against, row) for row in self.rows]
        for table in self.tables:
            wanted += [(table.reference or self.against, row) for row in table.rows]
        return [(reference, row) for reference, row in dict.fromkeys(wanted) if row != reference]

    @property
    def against(self) -> str:
        """The row whose scores the others are subtracted from."""
        return self.reference or next(iter(self.rows))

    def recipe(self, row: str, seed: int) -> Recipe:
        """Return the training recipe of a cell.

        Raises:
            InputError: when the changes of the row make the recipe invalid.
        """
        content: dict[str, Any] = copy.deepcopy(dict(self.base))
        for key, value in self.rows[row].changes.items():
            set_key(content, key, copy.deepcopy(value))
        try:
            return Recipe(**content | {"seed": seed})
        except InputError as error:
            raise InputError(f"row {row}: {error}") from None

    def scored(self, row: str) -> tuple[VolumeSettings, ...]:
        """Return the volumes that a row is scored on: the validation data, or the volume that is cut into folds."""
        data = self.recipe(row, self.seeds[0]).data
        return data.validate_on if self.folds is None else data.train

    def cut(self, row: str) -> list[Fold]:
        """Return the folds of a row, in voxels of the labels; networks with larger patches learn farther from them.

        Raises:
            InputError: when the volume cannot be cut so.
        """
        assert self.folds is not None
        recipe = self.recipe(row, self.seeds[0])
        return cut(Box.parse(recipe.data.train[0].roi or ""), self.folds, recipe.net.patch)

    def fold_recipe(self, row: str, seed: int, fold: Fold) -> Recipe:
        """Return the training recipe of one fold: it learns from the other folds and validates on nothing.

        Validation chooses checkpoints, and nothing may be chosen on the scored fold; so the last checkpoint counts.
        """
        recipe = self.recipe(row, seed)
        (whole,) = recipe.data.train
        parts = tuple(whole.model_copy(update={"roi": str(part)}) for part in fold.learned)
        training = recipe.training.model_copy(update={"validate_every": recipe.training.steps})
        return recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": parts}), "training": training})

    def described(self, row: str, seed: int) -> dict[str, JsonValue]:
        """Return what determines a cell, as plain values: its recipe; for a random forest, its seed, data and settings.

        With folds, the patch determines how far from a fold a forest learns too. A mean is determined by its rows.
        """
        if members := self.rows[row].mean_of:
            return {"mean_of": {name: self.described(name, seed) for name in members}}
        recipe, settings = self.recipe(row, seed), self.rows[row]
        described = dump(recipe)
        if not settings.has_network:
            trees = {"classical": settings.classical, "boosted": settings.boosted}
            given = {kind: dump(one) for kind, one in trees.items() if one is not None}
            described = {"seed": recipe.seed, "data": described["data"], **given}
            if self.folds is not None:
                described["patch"] = list(recipe.net.patch)
        return described if self.folds is None else described | {"folds": dump(self.folds)}

    def check(self) -> None:
        """Check the recipe of every row.

        Raises:
            InputError: when one is invalid, or has other validation data than the rest, so that scores cannot be compared.
        """
        first = next(iter(self.rows))
        validate_on = self.recipe(first, self.seeds[0]).data.validate_on
        if self.folds is None and not validate_on:
            raise InputError(
                "there is no data to score on; give data.validate in the base, or cut its volume into folds"
            )
        for row in self.rows:
            if self.folds is not None:
                self._check_folds(row)
            elif self.rows[row].boosted is not None:
                raise InputError(f"row {row}: boosted trees are scored out of fold only; give folds in the comparison")
            if self.recipe(row, self.seeds[0]).data.validate_on != validate_on:
                raise InputError(
                    f"row {row} has other validation data than row {first}, so their scores cannot be compared; set "
                    f"data.validate in the base only"
                )

    def _check_folds(self, row: str) -> None:
        """Raise InputError when the data of a row cannot be cut into folds."""
        data = self.recipe(row, self.seeds[0]).data
        if len(data.train) != 1 or data.train[0].roi is None or data.validate_on:
            raise InputError(
                f"row {row}: folds are cut from one volume; expected one entry with a roi in data.train, and none in "
                f"data.validate"
            )
        self.cut(row)


def with_defaults(described: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return what determines a stored cell, with the defaults of settings that are newer than the cell.

    Args:
        described: What `Comparison.described` returned when the cell was made.

    Raises:
        InputError: when it holds settings that no longer exist.
    """
    if "mean_of" in described:
        return {"mean_of": {name: with_defaults(member) for name, member in described["mean_of"].items()}}
    rest = {key: value for key, value in described.items() if key != "folds"}
    trees: dict[str, type[Settings]] = {"classical": ForestSettings, "boosted": BoostingSettings}
    if kind := next((kind for kind in trees if kind in rest), None):
        rest["data"] = dump(DataSettings(**rest["data"]))
        rest[kind] = dump(trees[kind](**rest[kind]))
    else:
        rest = dump(Recipe(**rest))
    return rest if "folds" not in described else rest | {"folds": described["folds"]}


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison recipe and its base recipe, and check the recipe of every row.

    Args:
        path: A YAML file, or the name of one that ships with the package, such as `tables-vnc-l3`.

    Raises:
        InputError: when a file cannot be read, a key is unknown, or a value has the wrong type.
    """
    file = find_recipe(path)
    content = read_yaml(file)
    base = content.get("base")
    if isinstance(base, str):
        content["base"] = read_yaml(file.parent / base)
        content["base"].pop("seed", None)  # of a training recipe
    try:
        comparison = Comparison(**content)
        comparison.check()
    except InputError as error:
        raise InputError(f"recipe {path}: {error}") from None
    return comparison
