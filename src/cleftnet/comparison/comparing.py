"""Runs a comparison: trains and scores the missing cells, and writes `results.json` and `tables.md`."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import JsonValue

from cleftnet.comparison.cell_making import make_cell
from cleftnet.comparison.cells import Cell, ResultRecord
from cleftnet.comparison.differences import Difference, differences
from cleftnet.comparison.plan import Plan
from cleftnet.comparison.recipe import Comparison
from cleftnet.comparison.tables import SCORES, ScoreTable, markdown, tabulate
from cleftnet.errors import InputError, TrainingInterrupted
from cleftnet.files import disk_full, holding, replacing
from cleftnet.training.provenance import provenance
from cleftnet.training.recipe import dump
from cleftnet.training.runs import RECIPE

log = logging.getLogger(__name__)

_OF_INPUT = f"{InputError.__module__}.{InputError.__qualname__}: "  # begins the last line of a traceback
RESULTS, TABLES = "results.json", "tables.md"  # file names in an output folder


class Failure(ResultRecord):
    """A cell that failed.

    Attributes:
        row: Name of the row.
        seed: Seed of the cell.
        error: Last line of the traceback; `failed.txt` in the cell's folder has all of it.
    """

    row: str
    seed: int
    error: str

    @property
    def is_of_input(self) -> bool:
        """Whether data or recipe are at fault, as far as the error says."""
        return self.error.startswith(_OF_INPUT)

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.row}, seed {self.seed}: {self.error.removeprefix(_OF_INPUT)}"


class Results(ResultRecord):
    """The contents of `results.json`.

    Attributes:
        recipe: The comparison recipe.
        cells: Finished cells.
        failed: Failed cells.
        missing: Number of cells that are neither finished nor failed.
        tables: Scores over seeds.
        differences: Scores of a reference minus those of the other rows.
        provenance: Versions, machine and git state of the process that wrote the file; each cell has its own too.
    """

    recipe: dict[str, JsonValue]
    cells: tuple[Cell, ...]
    failed: tuple[Failure, ...]
    missing: int
    tables: tuple[ScoreTable, ...]
    differences: tuple[Difference, ...]
    provenance: dict[str, JsonValue]

    @property
    def scores(self) -> list[dict[str, str | float | None]]:
        """The scores of the finished cells, a dictionary for each: ready for `pandas.DataFrame`; lengths in nm."""
        return [
            {
                "row": c.row,
                "seed": c.seed,
                "threshold": c.threshold,
                **{k: score(c) for k, (*_, score) in SCORES.items()},
            }
            for c in self.cells
        ]


def compare(
    recipe: str | Path | Comparison,
    out: str | Path | None = None,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Results:
    """Train, predict and score every row of a comparison with every seed, and write its tables.

    The same call resumes after an interruption: finished cells are kept, and the cell in progress continues from its last
    saved state. Several processes with the same output folder share the cells. If a cell fails, the others still run; the
    results list the failure.

    Args:
        recipe: A comparison, its YAML file, or the name of a shipped recipe.
        out: Output folder, for trainings, predictions, `results.json` and `tables.md`; default: `runs/` and the recipe's name.
        rows: Names of the rows to run; default: all.
        seeds: Seeds to run; default: all.

    Returns:
        The results of all finished cells. `results.scores` has a dictionary of scores for each; CREMI scores are in nm.

    Raises:
        InputError: when the recipe, the data or the folder cannot be used; nothing has been trained then.
        TrainingInterrupted: when SIGTERM ended a training; its state is saved.

    Example:
        >>> import cleftnet
        >>> results = cleftnet.compare("tables-vnc-l3-cpu", "runs/tables")  # doctest: +SKIP
        >>> {cell["row"]: cell["f1"] for cell in results.scores}  # doctest: +SKIP
    """
    return carry_out(Plan.of(recipe, out, rows=rows, seeds=seeds))


def carry_out(plan: Plan) -> Results:
    """Train and score the missing cells of a plan (see `compare`)."""
    with replacing(plan.out / RECIPE, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(dump(plan.comparison), sort_keys=False, allow_unicode=True))
    for number, (row, seed) in enumerate(plan.wanted, start=1):
        folder = plan.folder(row, seed)
        if folder.file.exists():
            continue
        with holding(folder.lock) as mine:
            if not mine:
                log.info(f"cell {number} of {len(plan.wanted)}: {row}, seed {seed}: another process works on it")
                continue
            if folder.file.exists():
                continue  # another process has just finished it
            log.info(f"cell {number} of {len(plan.wanted)}: {row}, seed {seed}")
            try:
                folder.save(make_cell(plan.comparison, row, seed, folder))
            except TrainingInterrupted:
                raise
            except Exception as error:  # one failure must not stop the other cells; the results list it
                if disk_full(error) is not None:  # it would stop them all
                    raise
                with replacing(folder.failure, overwrite=True) as temporary:
                    temporary.write_text(traceback.format_exc())
                log.info(f"cell {row}, seed {seed} failed: {error}; {folder.failure} has the traceback")
        write_results(plan)
    return write_results(plan)


def write_results(plan: Plan) -> Results:
    """Write `results.json` and `tables.md`, and repeat that if another process has finished a cell meanwhile."""
    while True:
        results = collect(plan)
        with replacing(plan.out / RESULTS, overwrite=True) as temporary:
            temporary.write_text(results.model_dump_json(indent=1) + "\n")
        with replacing(plan.out / TABLES, overwrite=True) as temporary:
            temporary.write_text(markdown(plan.comparison, results.tables, results.differences))
        finished = sum(plan.folder(row, seed).file.exists() for row, seed in plan.every)
        if finished == len(results.cells):
            return results


def collect(plan: Plan) -> Results:
    """Return the results of all finished cells."""
    cells, failed, missing = [], [], 0
    for row, seed in plan.every:
        folder = plan.folder(row, seed)
        cell = folder.load()
        if cell is not None:
            cells.append(cell)
        elif folder.failure.exists():
            failed.append(Failure(row=row, seed=seed, error=folder.failure.read_text().strip().splitlines()[-1]))
        else:
            missing += 1
    by_row = {row: [cell for cell in cells if cell.row == row] for row in plan.comparison.rows}
    return Results(
        recipe=dump(plan.comparison),
        cells=tuple(cells),
        failed=tuple(failed),
        missing=missing,
        tables=tuple(tabulate(plan.comparison, cells)),
        differences=tuple(
            difference
            for reference, row in plan.comparison.pairs
            for difference in differences(by_row[reference], by_row[row])
        ),
        provenance={key: value for key, value in provenance(None).items() if key != "recipe"},
    )
