"""Verbs for results: score predictions, write a challenge file, write a report, look at layers."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cleftnet.cli.data import print_findings
from cleftnet.cli.options import Json, Kind, Overwrite, PredictionArgument, Threshold, VoxelSize, voxel_size_nm
from cleftnet.cli.printing import print_json, print_table, text
from cleftnet.errors import InputError

if TYPE_CHECKING:
    from cleftnet.metrics.scores import Evaluation


def evaluate(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="PREDICTION TRUTH",
            help="A prediction (a file, or the address of a probability or label array) and its labels; or several pairs.",
        ),
    ],
    threshold: Threshold = None,
    roi: Annotated[
        str | None, typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Only this region, in voxels of the truth.")
    ] = None,
    kind: Kind = None,
    match_nm: Annotated[
        float | None,
        typer.Option(
            metavar="NM",
            help="Match clefts whose centroids are at most this far apart; default: clefts match when they share voxels.",
        ),
    ] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also score a grid of thresholds.")] = False,
    sections: Annotated[bool, typer.Option("--sections", help="Also print the scores of every section.")] = False,
    as_json: Json = False,
) -> None:
    """Score predictions against labels: CREMI score, F1, AUC.

    Precision, recall and F1 of whole clefts are printed too. For several pairs, the mean of the scores follows, as in
    the CREMI challenge, and F1, precision, recall and AUC over all voxels together (pooled).
    """
    from cleftnet.geometry import Box
    from cleftnet.metrics.evaluation import ScoringSettings
    from cleftnet.metrics.evaluation import evaluate as evaluate_pair
    from cleftnet.metrics.pooling import mean_evaluation

    names = list(zip(pairs[::2], pairs[1::2], strict=False))
    if len(pairs) % 2:
        raise InputError(f"{len(pairs)} addresses are no pairs; give each prediction its truth: PREDICTION TRUTH...")
    box, settings = None if roi is None else Box.parse(roi), ScoringSettings(match_nm=match_nm, sweep=sweep)
    found = [evaluate_pair(p, t, threshold=threshold, roi=box, kind=kind, settings=settings) for p, t in names]
    if as_json:
        values = found[0].to_json() if len(found) == 1 else mean_evaluation(found).to_json()
        for entry, (prediction, truth) in zip(values.get("volumes", []), names, strict=False):
            entry |= {"prediction": prediction, "truth": truth}
        print_json(values)
        return
    for evaluation, (prediction, truth) in zip(found, names, strict=True):
        if len(found) > 1:
            print(f"{prediction} against {truth}")
        _print_evaluation(evaluation, sections)
    if len(found) > 1:
        print(f"mean over {len(found)} volumes, and the voxels of all counted together (pooled)")
        print_table(mean_evaluation(found).rows())


def _print_evaluation(found: Evaluation, sections: bool) -> None:
    """Print scores, then those of every section and of every threshold where they were requested."""
    print_table(found.rows())
    for warning in found.warnings:
        warnings.warn(warning, stacklevel=1)
    values = found.to_json()
    for rows in (values["sections"] if sections else None, values["sweep"] and values["sweep"]["rows"]):
        if rows:
            print()
            print_table([tuple(text(v) for v in row.values()) for row in rows], tuple(rows[0]))
    if found.sweep is not None:
        for name, best in (("F1", values["sweep"]["best_f1"]), ("CREMI score", values["sweep"]["best_cremi_score"])):
            shown = "undefined" if best is None else "  ".join(f"{key} {text(value)}" for key, value in best.items())
            print(f"best {name}: {shown}")


def submit(
    prediction: PredictionArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Challenge file to write (.hdf).")],
    threshold: Threshold = None,
    kind: Kind = None,
    one_id: Annotated[
        bool, typer.Option("--one-id", help="Give all clefts one id: same score, works for any size.")
    ] = False,
    raw: Annotated[str | None, typer.Option(help="Raw volume (A+.hdf); checks that the clefts lie inside it.")] = None,
    voxel_size: VoxelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a prediction as a CREMI challenge file, and check it."""
    from cleftnet.datasets import write_submission
    from cleftnet.volumes import PREDICTION, open_volume

    predicted = open_volume(prediction, default=PREDICTION, voxel_size_nm=voxel_size_nm(voxel_size))
    found = write_submission(
        predicted, out, threshold=threshold, kind=kind, one_id=one_id, raw=raw, overwrite=overwrite
    )
    print_findings(str(out), found)


def report(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_COMPARISON", help="What train, compare or demo wrote.")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; default: report.html in that folder.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write an HTML page about a run, a comparison or a demo.

    The page shows scores, curves, slices, the largest mistakes and the recipe, and needs no other file. For a run
    directory, the validation regions are predicted first, with its best checkpoint.
    """
    from cleftnet.reporting import report as write_report

    print(write_report(source, out, overwrite=overwrite))


def view(
    volume: Annotated[
        str | None,
        typer.Argument(metavar="VOLUME", help="Raw volume, as for predict; with --review that of the review."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LAYER...]",
            help="Addresses, or NAME=ADDRESS: a prediction, labels, the output folder of synapses, truth=LABELS.",
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="NAME=KIND",
            help="What a layer holds: raw, probability, distance, labels or truth; repeatable.",
        ),
    ] = None,
    review: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Decide about the candidates of this review by keys.")
    ] = None,
    voxel_size: VoxelSize = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 0,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Open no browser, as on a server; the address is printed.")
    ] = False,
) -> None:
    """Show volumes, predictions, labels and synapses in a browser.

    Voxels are read when they come into sight. With labels and truth=LABELS, right, false and missed clefts are shown in
    colors of their own. The page is served on this machine only, to those who have its address, until Ctrl-C. Needs the
    extra `view`.
    """
    import contextlib

    from cleftnet.viewing import view as show

    viewer = show(
        volume,
        layers or [],
        voxel_size_nm=voxel_size_nm(voxel_size),
        kinds=dict(_name_and_kind(text) for text in kinds or []),
        review=review,
        port=port,
        open_browser=not no_open,
    )
    with viewer, contextlib.suppress(KeyboardInterrupt):
        print(viewer.url, flush=True)
        if no_open:
            print(
                f"from another computer, type there: ssh -L {viewer.port}:127.0.0.1:{viewer.port} {_this_machine()}\n"
                "and open the address above in its browser; Ctrl-C here stops the viewer",
                file=sys.stderr,
            )
        viewer.wait()


def _name_and_kind(text: str) -> tuple[str, str]:
    name, sign, kind = text.partition("=")
    if not (name and sign and kind):
        raise InputError(f"--kind '{text}' is not NAME=KIND; try --kind mine=labels")
    return name, kind


def _this_machine() -> str:
    """Return user and name of this machine, as ssh takes them."""
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}"
