"""The verbs for predictions: their scores, and the file that the challenge takes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cleftnet.cli.options import Json, Kind, Overwrite, Roi, Threshold, VoxelSize, region, voxel_size_nm
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.cli.volumes import print_findings
from cleftnet.errors import InputError

if TYPE_CHECKING:
    from cleftnet.metrics.scores import Evaluation


def evaluate(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="PREDICTION TRUTH...",
            help="A prediction (a file, or an address of probability or labels) and its labels; or several such pairs.",
        ),
    ],
    threshold: Threshold = None,
    roi: Roi = None,
    kind: Kind = None,
    match_nm: Annotated[
        float | None,
        typer.Option(
            metavar="NM", help="Match clefts whose centroids lie at most so far apart; default: that share voxels."
        ),
    ] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score a grid of thresholds too.")] = False,
    sections: Annotated[bool, typer.Option("--sections", help="Show the scores of every section too.")] = False,
    as_json: Json = False,
) -> None:
    """Score predictions: CREMI score, F1, AUC, and whole clefts; of several pairs the mean too, as the challenge does."""
    from cleftnet.metrics.evaluation import ScoringSettings, evaluate
    from cleftnet.metrics.scores import mean_evaluation

    names = list(zip(pairs[::2], pairs[1::2], strict=False))
    if len(pairs) % 2:
        raise InputError(f"{len(pairs)} addresses are no pairs; give each prediction its truth: PREDICTION TRUTH...")
    box = region(roi)
    settings = ScoringSettings(match_nm=match_nm)
    found = [evaluate(p, t, threshold=threshold, roi=box, kind=kind, sweep=sweep, settings=settings) for p, t in names]
    if as_json:
        values = found[0].to_json() if len(found) == 1 else mean_evaluation(found).to_json()
        for entry, (prediction, truth) in zip(values.get("volumes", []), names, strict=False):
            entry |= {"prediction": prediction, "truth": truth}
        stdout.print_json(json.dumps(values))
        return
    for evaluation, (prediction, truth) in zip(found, names, strict=True):
        if len(found) > 1:
            stdout.print(f"{prediction} against {truth}", style="bold", markup=False)
        show(evaluation, sections)
    if len(found) > 1:
        stdout.print(f"mean over {len(found)} volumes", style="bold")
        print_table(mean_evaluation(found).rows())


def show(found: Evaluation, sections: bool) -> None:
    """Print one evaluation: its scores, then its sections and its sweep where they were asked for."""
    print_table(found.rows())
    for warning in found.warnings:
        warnings.warn(warning, stacklevel=1)
    values = found.to_json()
    for rows in (values["sections"] if sections else None, values["sweep"] and values["sweep"]["rows"]):
        if rows:
            stdout.print()
            print_table([tuple(text(v) for v in row.values()) for row in rows], tuple(rows[0]))
    if found.sweep is not None:
        for name, best in (("F1", values["sweep"]["best_f1"]), ("CREMI score", values["sweep"]["best_cremi_score"])):
            shown = "undefined" if best is None else "  ".join(f"{key} {text(value)}" for key, value in best.items())
            stdout.print(f"best {name}: {shown}")


def submit(
    prediction: Annotated[str, typer.Argument(help="A prediction file, or an address of probability or labels.")],
    out: Annotated[Path, typer.Argument(help="The challenge file to write (.hdf).")],
    threshold: Threshold = None,
    kind: Kind = None,
    one_id: Annotated[bool, typer.Option("--one-id", help="One id for all clefts: scores the same, any size.")] = False,
    raw: Annotated[
        str | None, typer.Option(help="The raw predicted from (A+.hdf): check that the clefts lie in it.")
    ] = None,
    voxel_size: VoxelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a file for the CREMI challenge, checked by reading it back."""
    from cleftnet.datasets.submission import write_submission
    from cleftnet.volumes import PREDICTION, open_volume

    predicted = open_volume(prediction, default=PREDICTION, voxel_size_nm=voxel_size_nm(voxel_size))
    found = write_submission(
        predicted, out, threshold=threshold, kind=kind, one_id=one_id, raw=raw, overwrite=overwrite
    )
    print_findings(str(out), found)
