"""Cell after cell until the comparison is whole: what is finished stays, what fails is told, processes share the work."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import yaml

from cleftnet.comparison.making import make_cell
from cleftnet.comparison.plan import Plan
from cleftnet.comparison.recipe import Comparison
from cleftnet.comparison.results import Results, write_results
from cleftnet.files import holding, replacing
from cleftnet.training.recipe import dump
from cleftnet.training.runs import RECIPE

log = logging.getLogger(__name__)


def compare(
    recipe: str | Path | Comparison,
    out: str | Path | None = None,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Results:
    """Make every cell of a comparison that is not there yet, and its tables.

    The same call goes on after a crash, a kill or an interrupt: finished cells are kept, the one that was under way continues
    from its last saved state. Several processes on the same folder share the cells out. A cell that fails is told, and the
    others go on.

    Args:
        recipe: The file of a comparison, or a comparison.
        out: The output folder; default `runs/` with the recipe's name.
        rows: Only these; all when None.
        seeds: Only these; all when None.

    Returns:
        What `results.json` holds, which is written anew after every cell, as is `tables.md`.

    Raises:
        InputError: for anything wrong with recipe, data or folder, before anything is trained.
        SystemExit: with code 143 when a SIGTERM ended a training, its state saved.
    """
    return carry_out(Plan.of(recipe, out, rows=rows, seeds=seeds))


def carry_out(plan: Plan) -> Results:
    """Make the cells of a plan that are not there yet (see `compare`)."""
    with replacing(plan.out / RECIPE, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(dump(plan.comparison), sort_keys=False, allow_unicode=True))
    for number, (row, seed) in enumerate(plan.wanted, start=1):
        folder = plan.folder(row, seed)
        if folder.file.exists():
            continue
        with holding(folder.lock) as mine:
            if not mine:
                log.info(f"cell {number} of {len(plan.wanted)}: {row}, seed {seed}: another process is at it")
                continue
            if folder.file.exists():
                continue  # another process has just finished it
            log.info(f"cell {number} of {len(plan.wanted)}: {row}, seed {seed}")
            try:
                folder.save(make_cell(plan.comparison, row, seed, folder))
            except Exception as error:  # one cell's crash must not cost the night's others; it is told at the end
                with replacing(folder.failure, overwrite=True) as temporary:
                    temporary.write_text(traceback.format_exc())
                log.warning(f"cell {row}, seed {seed} failed: {error}; {folder.failure} has the whole of it")
        write_results(plan)
    return write_results(plan)
