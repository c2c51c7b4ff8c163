"""The verb for comparisons: the paper's tables from one recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Json
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.errors import InputError


def compare(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/tables-vnc-l3-cpu.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Output folder; default runs/ with the recipe's name.")] = None,
    rows: Annotated[str | None, typer.Option(metavar="A,B", help="Only these rows.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1", help="Only these seeds.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the cells, write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train, predict and score every row with every seed: OUT/tables.md has the tables, OUT/results.json all of it.

    The same command goes on where it stopped; several at once share the cells. Exit code 1: a cell failed, the others are made.
    """
    from cleftnet.comparison import TABLES, Plan, carry_out

    plan = Plan.of(
        recipe, out, rows=None if rows is None else rows.split(","), seeds=None if seeds is None else _numbers(seeds)
    )
    if dry_run:
        cells = [(cell.row, str(cell.seed), text(cell.parameters), cell.state) for cell in plan.cells()]
        print_table(cells, ("row", "seed", "parameters", "state"))
        return
    results = carry_out(plan)
    if as_json:
        stdout.print_json(results.model_dump_json())
    else:
        stdout.print((plan.out / TABLES).read_text(), markup=False)
    for failure in results.failed:
        print(f"error: {failure.row}, seed {failure.seed}: {failure.error}", file=sys.stderr)
    if results.failed:
        raise SystemExit(1)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"seeds '{text}' are not whole numbers; try --seeds 0,1") from None
