"""The verbs for networks: what they cost, how they learn, what they predict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cleftnet.cli.options import (
    BlockSize,
    Json,
    Overwrite,
    Scheduler,
    VoxelSize,
    Workers,
    block_size,
    patch_size,
    voxel_size_nm,
)
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.geometry import OVERLAP

MASKS = ("volumes/mask", "volumes/labels/mask", "volumes/raw")  # tried where --mask names only a file


def models(
    name: Annotated[
        str | None, typer.Argument(help="One network, or a released model, whose page is shown; all without.")
    ] = None,
    patch: Annotated[str, typer.Option(metavar="Z,Y,X", help="Patch size in voxels.")] = "8,256,256",
    max_keys: Annotated[int | None, typer.Option(help="Bound on the keys of every attention; exact without.")] = None,
    as_json: Json = False,
) -> None:
    """List the paper's networks with their parameters, operations and memory for one patch, and the released models."""
    from cleftnet.errors import InputError, nearest
    from cleftnet.models.released import released_models
    from cleftnet.nets.costs import cost
    from cleftnet.nets.zoo import ZOO, spec

    if name in released_models():
        _show_released(name, as_json)
        return
    if name is not None and name not in ZOO:
        raise InputError(f"unknown network '{name}'; {nearest(name, [*ZOO, *released_models()])}")
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
    if name is None:
        _list_released()


def _list_released() -> None:
    """Print what can be said for MODEL besides paths."""
    from cleftnet.models.checkpoint import load_card
    from cleftnet.models.released import released_models

    cards = {name: load_card(name) for name in released_models()}
    rows = [
        (name, text(card.spec.patch), text(card.voxel_size_nm), text(card.scores.get("f1")))
        for name, card in cards.items()
    ]
    stdout.print("\nreleased models, for cleftnet predict MODEL; cleftnet models MODEL shows the page about one:")
    print_table(rows, ("model", "patch", "voxel size nm", "voxel F1 on validation"))


def _show_released(name: str, as_json: bool) -> None:
    """Print the page about a released model, or its card."""
    from cleftnet.models.checkpoint import load_card
    from cleftnet.models.released import released_page

    if as_json:
        stdout.print_json(load_card(name).model_dump_json())
    else:
        lines = (line for line in released_page(name).splitlines() if not line.startswith("<!--"))
        stdout.print("\n".join(lines), markup=False)


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
    from cleftnet.training.dry_run import estimate_training
    from cleftnet.training.runs import train

    if dry_run:
        print_table(estimate_training(recipe, changes=changes or ()).rows())
        return
    run = train(recipe, out, changes=changes or (), overwrite=overwrite, resume=resume)
    stdout.print(f"best checkpoint: {run.best}")
    print_table([(name, text(value)) for name, value in vars(run.scores).items()])


def predict(
    model: Annotated[str, typer.Argument(help="A run directory, a checkpoint file or a released model.")],
    volume: Annotated[str, typer.Argument(help="Raw: A.hdf, vol.zarr/raw, precomputed://URL, 'stack/*.tif'.")],
    out: Annotated[str, typer.Argument(help="Prediction to write (.hdf, .zarr, .n5).")],
    roi: Annotated[
        str | None,
        typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Only this part, in voxels or, as in 0nm:800nm, in nm."),
    ] = None,
    voxel_size: VoxelSize = None,
    overlap: Annotated[
        float,
        typer.Option(help="Share of the patch that neighbouring tiles have in common, 0 to 0.9; 0 as in the paper."),
    ] = OVERLAP,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips and rotations: 16 times the work.")] = False,
    patch: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Another patch size than the model's, its queries interpolated.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="uint8 (v stands for v / 255) or float32.")] = "uint8",
    mask: Annotated[str | None, typer.Option(help="Address of a volume: 0 where it is 0, and no work there.")] = None,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave out, as 0, tiles whose raw is zero everywhere.")
    ] = False,
    precision: Annotated[str, typer.Option(help="Of the network: float32 or bf16.")] = "float32",
    workers: Workers = 0,
    scheduler: Scheduler = None,
    block: BlockSize = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell blocks, memory and time; write nothing.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict a volume: probability and, where the model has it, distance.

    Finished blocks are kept in OUT.unfinished until all are: after a crash the same command does only what is missing.
    Exit code 1: blocks failed or the cluster was lost, through no fault of the input; run it again.
    """
    from cleftnet.blockwise import Division, UnfinishedError
    from cleftnet.geometry import parse_region
    from cleftnet.prediction import Inference, rehearse_prediction
    from cleftnet.prediction import predict as predict_volume
    from cleftnet.volumes import open_volume

    raw = open_volume(volume, voxel_size_nm=voxel_size_nm(voxel_size))
    part = None if roi is None else parse_region(roi, raw.voxel_size, raw.offset_nm)
    how = Inference(
        overlap=overlap,
        tta=tta,
        patch=None if patch is None else patch_size(patch),
        dtype=cast(Any, dtype),  # a name it does not know is refused there
        mask=None if mask is None else open_volume(mask, default=MASKS),
        skip_empty=skip_empty,
        precision=cast(Any, precision),
    )
    division = Division(block_size(block), workers, scheduler)
    if dry_run:
        print_table(rehearse_prediction(model, raw, roi=part, inference=how, division=division).rows())
        return
    try:
        predict_volume(model, raw, out, roi=part, inference=how, division=division, overwrite=overwrite)
    except UnfinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    stdout.print(out)
