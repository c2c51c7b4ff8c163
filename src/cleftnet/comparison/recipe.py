"""A comparison said in one file: a base recipe, the rows that change something of it, the seeds, and the tables to print."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from cleftnet.comparison.forest import ForestSettings
from cleftnet.errors import InputError, nearest
from cleftnet.settings import Settings
from cleftnet.synapses.tuning import SIZES_NM3, THRESHOLDS
from cleftnet.training.recipe import Recipe, dump, find_recipe, read_yaml, set_key

PaperScore = Literal["cremi_score", "auc", "f1"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # rows are folders


class Row(Settings):
    """What is compared.

    Attributes:
        label: Its name in the tables.
        changes: Dotted keys of the base recipe with the values that they have in this row (`set` in the file).
        classical: Filters and a random forest instead of a network; the base recipe gives it the data.
    """

    label: str
    changes: dict[str, JsonValue] = Field({}, alias="set")
    classical: ForestSettings | None = None

    @model_validator(mode="after")
    def _a_forest_has_no_network(self) -> Self:
        if self.classical is not None and self.changes:
            raise ValueError(
                f"set changes a network's recipe ({', '.join(self.changes)}), and a classical row has none"
            )
        return self


class TableSettings(Settings):
    """One table to print.

    Attributes:
        title: Stands above it.
        rows: The rows it has, in its order.
        reference: The row that the others of this table are subtracted from; that of the comparison when None.
        paper: What the paper reports for a row, shown beside ours.
    """

    title: str
    rows: tuple[str, ...] = Field(min_length=1)
    reference: str | None = None
    paper: dict[str, dict[PaperScore, float]] = Field({})


class TuningSettings(Settings):
    """The grid that threshold and smallest size of whole synapses are chosen on, the same for every cell.

    Attributes:
        thresholds: Probabilities.
        sizes_nm3: Smallest sizes in nm³.
    """

    thresholds: tuple[float, ...] = Field(THRESHOLDS, min_length=1)
    sizes_nm3: tuple[float, ...] = Field(SIZES_NM3, min_length=1)


class Comparison(Settings):
    """All of a comparison.

    Attributes:
        base: A recipe without its seed; in the file, its keys or the path of a recipe beside it.
        seeds: Every row is trained once with each.
        rows: By their names, which are folders of the output; they run in this order, seed by seed.
        tables: What is printed.
        reference: The row that the others are subtracted from; the first one when None.
        synapses: How whole synapses are made.
    """

    base: dict[str, JsonValue]
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    tables: tuple[TableSettings, ...] = ()
    reference: str | None = None
    synapses: TuningSettings = TuningSettings()

    @model_validator(mode="after")
    def _seeds_are_said_once(self) -> Self:
        if "seed" in self.base:
            raise ValueError("base.seed is not taken; say seeds: [0, 1], which every row is trained with")
        for name, row in self.rows.items():
            if "seed" in row.changes:
                raise ValueError(f"rows.{name} sets seed; say seeds: [0, 1], which every row is trained with")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} name one twice")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name in self.rows:
            if not re.match(NAME, name):
                raise ValueError(f"row '{name}' is to be a folder; use letters, digits, '-', '_' and '.'")
        named = [("reference", name) for name in [self.reference] if name is not None]
        for table in self.tables:
            own = [] if table.reference is None else [table.reference]
            named += [(f"table '{table.title}'", name) for name in [*table.rows, *own, *table.paper]]
        for where, name in named:
            if name not in self.rows:
                raise ValueError(f"{where} names a row '{name}' that is not there; {nearest(name, list(self.rows))}")
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """A reference and a row that is subtracted from it, for every difference that somebody wants to see."""
        wanted = [(self.against, row) for row in self.rows]
        for table in self.tables:
            wanted += [(table.reference or self.against, row) for row in table.rows]
        return [(reference, row) for reference, row in dict.fromkeys(wanted) if row != reference]

    @property
    def against(self) -> str:
        """The row that the others are subtracted from."""
        return self.reference or next(iter(self.rows))

    def recipe(self, row: str, seed: int) -> Recipe:
        """Return the ordinary recipe of a cell.

        Raises:
            InputError: when the row's changes make no valid recipe.
        """
        content: dict[str, Any] = copy.deepcopy(dict(self.base))
        for key, value in self.rows[row].changes.items():
            set_key(content, key, copy.deepcopy(value))
        try:
            return Recipe(**content | {"seed": seed})
        except InputError as error:
            raise InputError(f"row {row}: {error}") from None

    def described(self, row: str, seed: int) -> dict[str, JsonValue]:
        """Return all that decides a cell as plain values: its recipe, or of what is no network its seed, data and settings."""
        recipe, classical = dump(self.recipe(row, seed)), self.rows[row].classical
        if classical is None:
            return recipe
        return {"seed": recipe["seed"], "data": recipe["data"], "classical": dump(classical)}

    def check(self) -> None:
        """Make the recipe of every row.

        Raises:
            InputError: when one is not valid, or is validated on other data than the rest: such scores do not compare.
        """
        first = next(iter(self.rows))
        validate_on = self.recipe(first, self.seeds[0]).data.validate_on
        for row in self.rows:
            if self.recipe(row, self.seeds[0]).data.validate_on != validate_on:
                raise InputError(
                    f"row {row} is validated on other data than row {first}; their scores would not compare: leave "
                    f"data.validate to the base"
                )


def load_comparison(path: str | Path) -> Comparison:
    """Read the file of a comparison, and the base recipe that it may name; every row's recipe is made and checked.

    Args:
        path: A YAML file, or the name of one that ships with the package, such as `tables-vnc-l3`.

    Raises:
        InputError: when a file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    file = find_recipe(path)
    content = read_yaml(file)
    base = content.get("base")
    if isinstance(base, str):
        content["base"] = read_yaml(file.parent / base)
        content["base"].pop("seed", None)  # an ordinary recipe's own
    try:
        comparison = Comparison(**content)
        comparison.check()
    except InputError as error:
        raise InputError(f"recipe {path}: {error}") from None
    return comparison
