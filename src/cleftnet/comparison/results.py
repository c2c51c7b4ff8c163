"""All that a comparison has found so far, as a function of its folder: `results.json` and `tables.md`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue

from cleftnet.comparison.cells import Cell
from cleftnet.comparison.differences import Difference, differences
from cleftnet.comparison.plan import Plan
from cleftnet.comparison.tables import ScoreTable, markdown, tabulate
from cleftnet.files import replacing
from cleftnet.training.provenance import provenance
from cleftnet.training.recipe import dump

RESULTS, TABLES = "results.json", "tables.md"  # the names inside an output folder


class Failure(BaseModel):
    """A cell that could not be made.

    Attributes:
        row: Its row.
        seed: Its seed.
        error: The last line of what went wrong; the whole of it is in the cell's `failed.txt`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    seed: int
    error: str


class Results(BaseModel):
    """What `results.json` holds.

    Attributes:
        recipe: The comparison as used.
        cells: Those that are finished.
        failed: Those that could not be made.
        missing: How many are neither.
        tables: Over seeds.
        differences: The reference minus every other row, and within tables the reference of each.
        provenance: Versions, machine and git state of the process that wrote it; each cell has its own too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: dict[str, JsonValue]
    cells: tuple[Cell, ...]
    failed: tuple[Failure, ...]
    missing: int
    tables: tuple[ScoreTable, ...]
    differences: tuple[Difference, ...]
    provenance: dict[str, JsonValue]


def write_results(plan: Plan) -> Results:
    """Write `results.json` and `tables.md` of what is finished, and again while other processes finish more."""
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
    """Return the results of what is finished."""
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
