"""The command line: verbs only, each calls one library function and prints what it returned.

stdout carries results, stderr progress and news. Exit 0: done; 2: the input is wrong, one line says what; 1: our fault.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import OVERLAP, Box, FloatZYX, IntZYX

if TYPE_CHECKING:
    from cleftnet.metrics.scores import Evaluation
    from cleftnet.volumes import Finding

app = typer.Typer(
    name="cleftnet",
    help="Find synaptic clefts in volume electron microscopy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# click.ClickException, of whichever click this typer carries
_ClickError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[2])
stdout = Console(highlight=False, soft_wrap=True)


def _region(text: str | None) -> Box | None:
    return None if text is None else Box.parse(text)


def _voxel_size(text: str | None) -> FloatZYX | None:
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"voxel size '{text}' is not three lengths in nm, z,y,x; try --voxel-size 40,4,4") from None
    return z, y, x


def _patch(text: str) -> IntZYX:
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"patch '{text}' is not three sides in voxels, z,y,x; try --patch 8,256,256") from None
    return z, y, x


Roi = Annotated[str | None, typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Only this part, in voxels.")]
VoxelSize = Annotated[str | None, typer.Option(metavar="Z,Y,X", help="Voxel size in nm, for formats that carry none.")]
Threshold = Annotated[
    float | None, typer.Option(help="Probability from which a voxel is cleft; default: the prediction's own.")
]
Kind = Annotated[
    str | None, typer.Option(help="What the prediction holds, where its type does not tell: probability, mask, labels.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _table(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...] | None = None) -> None:
    """Print rows in aligned columns."""
    table = Table(show_header=headers is not None, box=None, pad_edge=False, header_style="bold")
    for index in range(len(rows[0])):
        table.add_column(headers[index] if headers else "", justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    stdout.print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to fill.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of volume, weights and patches.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Synthetic volume, training, prediction of a held-out part, scores and a picture: a few minutes on two cores."""
    from cleftnet.demo import run_demo

    done = run_demo(out, seed=seed, overwrite=overwrite)
    stdout.print(f"held-out part {done.held_out} of {out / 'volume.hdf'}, synthetic, seed {seed}:")
    _table(done.evaluation.rows())
    stdout.print(f"""
picture: {out / "sections.png"}
The same on your own data:
  cleftnet info VOLUME                                     what is in it
  cleftnet train RECIPE --out RUN                          {out / "run" / "recipe.yaml"} is one to start from
  cleftnet predict RUN VOLUME OUT.hdf                      any volume with voxels of about the same size
  cleftnet evaluate OUT.hdf TRUTH                          CREMI score, F1, AUC, whole clefts
Synthetic tissue teaches nothing about yours: {out / "run"} is for trying things out, not for real volumes.""")


@app.command()
def info(
    volumes: Annotated[list[str], typer.Argument(help="Addresses: files, or arrays in them.")],
    voxel_size: VoxelSize = None,
    as_json: Json = False,
) -> None:
    """Tell shape, type, voxel size and offset of every array, and what a label array holds."""
    from cleftnet.volumes.description import describe

    found = [d.to_json() for address in volumes for d in describe(address, voxel_size_nm=_voxel_size(voxel_size))]
    if as_json:
        stdout.print_json(json.dumps(found))
        return
    for entry in found:
        stdout.print(entry.pop("address"), style="bold")
        _table([(f"  {name.replace('_', ' ')}", _text(value)) for name, value in entry.items() if value is not None])


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One network; all without.")] = None,
    patch: Annotated[str, typer.Option(metavar="Z,Y,X", help="Patch size in voxels.")] = "8,256,256",
    max_keys: Annotated[int | None, typer.Option(help="Bound on the keys of every attention; exact without.")] = None,
    as_json: Json = False,
) -> None:
    """List the paper's networks with their parameters, operations and memory for one patch."""
    from cleftnet.nets.costs import cost
    from cleftnet.nets.zoo import ZOO, spec

    names = list(ZOO) if name is None else [name]
    size = _patch(patch)
    costs = {n: cost(spec(n, patch=size, max_keys=max_keys)) for n in names}
    if as_json:
        stdout.print_json(json.dumps({n: vars(c) for n, c in costs.items()}))
        return
    rows = [
        (
            n,
            f"{c.parameters:,}",
            f"{c.query_parameters:,}",
            f"{c.flops / 1e12:.3f}",
            f"{c.attention_flops / 1e12:.3f}",
            f"{c.training_bytes / 2**30:.2f}",
        )
        for n, c in costs.items()
    ]
    keys = "all keys" if max_keys is None else f"at most {max_keys} keys"
    stdout.print(f"one patch of {'×'.join(map(str, size))} voxels, widths as in the paper, {keys}:")
    _table(rows, ("network", "parameters", "in queries", "TFLOP", "in attention", "GiB to train"))


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/vnc-l3-quick.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/ with the recipe's name.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the recipe.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network by a recipe; the best checkpoint is kept."""
    from cleftnet.recipe import train

    run = train(recipe, out, changes=changes or (), overwrite=overwrite)
    stdout.print(f"best checkpoint: {run.best}")
    _table([(name, _text(value)) for name, value in vars(run.scores).items()])


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A run directory or a checkpoint file.")],
    volume: Annotated[str, typer.Argument(help="Raw: A.hdf, A.hdf/volumes/raw, stack.tif, 'stack/*.tif'.")],
    out: Annotated[Path, typer.Argument(help="Prediction to write (.hdf).")],
    roi: Roi = None,
    voxel_size: VoxelSize = None,
    overlap: Annotated[
        float,
        typer.Option(help="Share of the patch that neighbouring tiles have in common, 0 to 0.9; 0 as in the paper."),
    ] = OVERLAP,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips and rotations: 16 times the work.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict a volume: probability and, where the model has it, distance."""
    from cleftnet.prediction import predict
    from cleftnet.volumes import open_volume

    raw = open_volume(volume, voxel_size_nm=_voxel_size(voxel_size))
    predict(model, raw, out, roi=_region(roi), overlap=overlap, tta=tta, overwrite=overwrite)
    stdout.print(str(out))


@app.command()
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
    sweep: Annotated[bool, typer.Option("--sweep", help="Score a grid of thresholds too.")] = False,
    sections: Annotated[bool, typer.Option("--sections", help="Show the scores of every section too.")] = False,
    as_json: Json = False,
) -> None:
    """Score predictions: CREMI score, F1, AUC, and whole clefts; of several pairs the mean too, as the challenge does."""
    from cleftnet.metrics.evaluation import evaluate
    from cleftnet.metrics.scores import mean_evaluation

    names = list(zip(pairs[::2], pairs[1::2], strict=False))
    if len(pairs) % 2:
        raise InputError(f"{len(pairs)} addresses are no pairs; give each prediction its truth: PREDICTION TRUTH...")
    region = _region(roi)
    found = [evaluate(p, t, threshold=threshold, roi=region, kind=kind, sweep=sweep) for p, t in names]
    if as_json:
        values = found[0].to_json() if len(found) == 1 else mean_evaluation(found).to_json()
        for entry, (prediction, truth) in zip(values.get("volumes", []), names, strict=False):
            entry |= {"prediction": prediction, "truth": truth}
        stdout.print_json(json.dumps(values))
        return
    for evaluation, (prediction, truth) in zip(found, names, strict=True):
        if len(found) > 1:
            stdout.print(f"{prediction} against {truth}", style="bold", markup=False)
        _show(evaluation, sections)
    if len(found) > 1:
        stdout.print(f"mean over {len(found)} volumes", style="bold")
        _table(mean_evaluation(found).rows())


def _show(found: Evaluation, sections: bool) -> None:
    """Print one evaluation: its scores, then its sections and its sweep where they were asked for."""
    _table(found.rows())
    for warning in found.warnings:
        warnings.warn(warning, stacklevel=1)
    values = found.to_json()
    for rows in (values["sections"] if sections else None, values["sweep"] and values["sweep"]["rows"]):
        if rows:
            stdout.print()
            _table([tuple(_text(v) for v in row.values()) for row in rows], tuple(rows[0]))
    if found.sweep is not None:
        for name, best in (("F1", values["sweep"]["best_f1"]), ("CREMI score", values["sweep"]["best_cremi_score"])):
            text = "undefined" if best is None else "  ".join(f"{key} {_text(value)}" for key, value in best.items())
            stdout.print(f"best {name}: {text}")


@app.command()
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
    from cleftnet.submission import write_submission
    from cleftnet.volumes import PREDICTION, open_volume

    predicted = open_volume(prediction, default=PREDICTION, voxel_size_nm=_voxel_size(voxel_size))
    found = write_submission(
        predicted, out, threshold=threshold, kind=kind, one_id=one_id, raw=raw, overwrite=overwrite
    )
    _findings(str(out), found)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="CREMI files (.hdf).")],
    submission: Annotated[bool, typer.Option("--submission", help="As predictions for the challenge.")] = False,
    raw: Annotated[str | None, typer.Option(help="The raw that the labels belong to, where the file has none.")] = None,
    as_json: Json = False,
) -> None:
    """Tell in plain language whether CREMI files are sound; exit code 2 where one is not."""
    from cleftnet.volumes import check_cremi, open_volume, overall

    around = None if raw is None else open_volume(raw)
    found = {file: check_cremi(file, submission=submission, raw=around) for file in files}
    if as_json:
        entries = [{"file": f, "verdict": overall(fs), "findings": [vars(x) for x in fs]} for f, fs in found.items()]
        stdout.print_json(json.dumps(entries))
    else:
        for file, findings in found.items():
            _findings(file, findings)
    broken = [file for file, findings in found.items() if overall(findings) == "error"]
    if broken:
        raise InputError(f"not sound: {', '.join(broken)}; what is marked 'error' above says what to change")


def _findings(file: str, findings: Sequence[Finding]) -> None:
    from cleftnet.volumes import overall

    stdout.print(f"{file}: {overall(findings)}", style="bold", markup=False)
    for finding in findings:
        stdout.print(f"  {finding}", markup=False)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Any readable address; a CREMI file alone means its raw.")
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="out.hdf, out.hdf/some/dataset, out.tif, 'out/*.tif'.")],
    labels: Annotated[bool, typer.Option("--labels", help="SRC holds cleft ids, or: take its labels.")] = False,
    voxel_size: VoxelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy an array into another format; labels in a CREMI file get CREMI's ids, everywhere else background is 0."""
    from cleftnet.progress import bar
    from cleftnet.volumes.conversion import convert

    size = _voxel_size(voxel_size)
    with bar("converting") as progress:
        convert(source, target, labels=labels, voxel_size_nm=size, overwrite=overwrite, progress=progress)
    stdout.print(target, markup=False)


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help="cremi.")],
    dest: Annotated[Path, typer.Option(help="Folder to fetch into.")] = Path("cremi"),
    sample: Annotated[
        list[str] | None, typer.Option(metavar="A", help="A, B, C, A+, A_padded, A+_padded...; default A, B and C.")
    ] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A folder with the same files, tried before CREMI's site.")
    ] = None,
) -> None:
    """Fetch the volumes of the CREMI challenge; what was cut off goes on, and every file is checked."""
    from cleftnet.volumes.download import download_cremi

    if dataset != "cremi":
        raise InputError(f"there is no data set '{dataset}' to download; {nearest(dataset, ['cremi'])}")
    for path in download_cremi(sample or ("A", "B", "C"), dest, mirrors=mirror or ()):
        stdout.print(str(path), markup=False)


@app.command()
def doctor() -> None:
    """Tell versions and devices, and test the main path in seconds."""
    from cleftnet.doctor import examine

    report = examine()
    _table(report.facts)
    for check, problem in report.checks:
        stdout.print(f"{'failed' if problem else 'ok':<7} {check}{': ' + problem if problem else ''}")
    if not report.healthy:
        raise SystemExit(1)


def _text(value: Any) -> str:
    """Write a value for people: four significant digits, thousands separated, a dash where undefined."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "×".join(_text(v) for v in value) if isinstance(value, list | tuple) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the entry point of the `cleftnet` program."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    warnings.showwarning = _warn
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False)
    except (InputError, _ClickError) as error:
        if debug:
            raise
        text = str(error) if isinstance(error, InputError) else error.format_message()
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
