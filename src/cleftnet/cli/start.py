"""The verbs that need nothing of the user's: a demonstration, and a look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Overwrite
from cleftnet.cli.printing import print_table, stdout


def demo(
    out: Annotated[Path, typer.Argument(help="Folder to fill.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of volume, weights and patches.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Synthetic volume, training, prediction of a held-out part, synapses, scores and a page: a few minutes on two cores."""
    from cleftnet.cli.demo import run_demo

    done = run_demo(out, seed=seed, overwrite=overwrite)
    stdout.print(f"held-out part {done.held_out} of {out / 'volume.hdf'}, synthetic, seed {seed}:")
    print_table(done.evaluation.rows())
    stdout.print(f"""
to look at: {done.page}
{len(done.synapses.table)} synapses: {done.synapses.table_path}, masks in {done.synapses.labels_path}
The same on your own data:
  cleftnet info VOLUME                                     what is in it
  cleftnet train RECIPE --out RUN                          {out / "run" / "recipe.yaml"} is one to start from
  cleftnet predict RUN VOLUME OUT.hdf                      any volume with voxels of about the same size
  cleftnet synapses OUT.hdf FOLDER                         a table, and a mask of ids
  cleftnet evaluate OUT.hdf TRUTH                          CREMI score, F1, AUC, whole clefts
  cleftnet report RUN                                      a page like this one
Synthetic tissue teaches nothing about yours: {out / "run"} is for trying things out, not for real volumes.""")


def doctor() -> None:
    """Tell versions and devices, and test the main path in seconds."""
    from cleftnet.cli.doctor import examine

    report = examine()
    print_table(report.facts)
    for check, problem in report.checks:
        stdout.print(f"{'failed' if problem else 'ok':<7} {check}{': ' + problem if problem else ''}")
    if not report.healthy:
        raise SystemExit(1)
