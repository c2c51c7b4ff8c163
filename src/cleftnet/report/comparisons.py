"""Contents of a page from the output folder of `cleftnet compare`: every row that has a finished cell."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from cleftnet.comparison import RESULTS, Cell, CellFolder, Comparison, Results
from cleftnet.comparison.tables import ABOUT, text_tables
from cleftnet.errors import InputError
from cleftnet.report.contents import Contents, Entry, History
from cleftnet.report.loading import open_prediction, recipe_scenes


def comparison_contents(out: Path) -> Contents:
    """Return what a comparison has finished so far; the reference comes first, pictures are of each row's first seed.

    Args:
        out: Its output folder.

    Raises:
        InputError: when no cell is finished, a prediction is gone, or the results are of another version.
    """
    try:
        results = Results.model_validate_json((out / RESULTS).read_bytes())
        comparison = Comparison.model_validate(results.recipe)
    except ValidationError as error:
        reason = error.errors()[0]
        raise InputError(
            f"{out / RESULTS} is not of this version of cleftnet ({'.'.join(map(str, reason['loc']))}: {reason['msg']}); run "
            f"the same cleftnet compare once more"
        ) from None
    cells = {row: [cell for cell in results.cells if cell.row == row] for row in comparison.rows}
    rows = sorted((row for row in comparison.rows if cells[row]), key=lambda row: row != comparison.against)
    if not rows:
        raise InputError(f"{out} has no finished cell yet; expected at least one: let cleftnet compare go on")
    scenes = recipe_scenes(comparison.recipe(rows[0], cells[rows[0]][0].seed))
    return Contents(
        title=out.resolve().name,
        about=" ".join([_progress(results), ABOUT, "Scores, curves and pictures are of each row's first seed."]),
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
    """A row, its predictions those of its first seed."""
    folders = [CellFolder.of(out, cell.row, cell.seed) for cell in cells]
    paths = [folders[0].prediction(number) for number in range(regions)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is gone; remove {folders[0].file} and run the comparison again to make it anew")
    return Entry(
        cells[0].row,
        cells[0].label,
        tuple(open_prediction(path) for path in paths),
        cells[0].threshold,
        tuple(History.read(folder.run) for folder in folders),
    )
