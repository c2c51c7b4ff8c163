"""The verbs for networks: what they cost, how they learn, what they predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Json, Overwrite, Roi, VoxelSize, patch_size, region, voxel_size_nm
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.geometry import OVERLAP


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
    size = patch_size(patch)
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
    print_table(rows, ("network", "parameters", "in queries", "TFLOP", "in attention", "GiB to train"))


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/vnc-l3-quick.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/ with the recipe's name.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly from the run directory's newest state; begin where none is.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Open the data, take one step, tell memory and time; write nothing.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the recipe.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network by a recipe; the best checkpoint is kept, and a SIGTERM saves where it stands (exit code 143)."""
    from cleftnet.dry_run import rehearse
    from cleftnet.runs import train

    if dry_run:
        print_table(rehearse(recipe, changes=changes or ()).rows())
        return
    run = train(recipe, out, changes=changes or (), overwrite=overwrite, resume=resume)
    stdout.print(f"best checkpoint: {run.best}")
    print_table([(name, text(value)) for name, value in vars(run.scores).items()])


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
    patch: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Another patch size than the model's, its queries interpolated.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict a volume: probability and, where the model has it, distance."""
    from cleftnet.prediction import Inference, predict
    from cleftnet.volumes import open_volume

    raw = open_volume(volume, voxel_size_nm=voxel_size_nm(voxel_size))
    how = Inference(overlap=overlap, tta=tta, patch=None if patch is None else patch_size(patch))
    predict(model, raw, out, roi=region(roi), inference=how, overwrite=overwrite)
    stdout.print(str(out))
