"""The verb for reports: one HTML page on what another verb left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Overwrite
from cleftnet.cli.printing import stdout


def report(
    source: Annotated[Path, typer.Argument(help="A run directory, or what compare or demo wrote.")],
    out: Annotated[Path | None, typer.Option(help="The page; default report.html in that folder.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page that needs nothing else: scores, curves, slices to browse, the largest mistakes, the recipe.

    Of a run directory the validation regions are predicted first, by its best checkpoint.
    """
    from cleftnet.report import report

    stdout.print(str(report(source, out, overwrite=overwrite)), markup=False)
