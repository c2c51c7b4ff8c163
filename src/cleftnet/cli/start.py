"""Verbs to start with: a demonstration, and a check of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Json, Overwrite
from cleftnet.cli.printing import print_json, print_table


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the volume, the weights and the patches.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train and test a small network on a synthetic volume, in minutes.

    A held-out part of the volume is predicted and scored, its synapses are listed, and a page shows the results.
    """
    from cleftnet.cli.demo import run_demo

    done = run_demo(out, seed=seed, overwrite=overwrite)
    print(f"held-out part {done.held_out} of {out / 'volume.hdf'}, synthetic, seed {seed}:")
    print_table(done.evaluation.rows())
    print(f"""
results to look at: {done.page}
synapses found: {len(done.synapses.table)}, in truth: {done.true_synapses}; table: {done.synapses.table_path}
Do the same with your own data:
  cleftnet info VOLUME                 print shape, voxel size and data type
  cleftnet train RECIPE --out RUN      {out / "run" / "recipe.yaml"} is a recipe to start from
  cleftnet predict RUN VOLUME OUT.hdf  any volume with voxels of about the same size
  cleftnet synapses OUT.hdf FOLDER     a table of synapses, and a mask of ids
  cleftnet evaluate OUT.hdf TRUTH      CREMI score, F1, AUC, scores of whole clefts
  cleftnet report RUN                  a page like the one above
The network in {out / "run"} has seen synthetic tissue only: it is for trying things out, not for real volumes.""")


def doctor(as_json: Json = False) -> None:
    """Check the installation: versions, devices and a tiny run.

    Issues ask for the output of `cleftnet doctor --json`. Exit code 1: a check failed.
    """
    from cleftnet.cli.doctor import examine

    report = examine()
    if as_json:
        print_json(report.to_json())
    else:
        print_table(report.facts)
        for check, problem in report.checks:
            print(f"{'failed' if problem else 'ok':<7} {check}{': ' + problem if problem else ''}")
    if not report.healthy:
        raise SystemExit(1)
