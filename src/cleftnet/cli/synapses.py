"""The verb for synapses: a prediction in, a mask of ids and a table out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cleftnet.cli.options import (
    BlockSize,
    Json,
    Kind,
    Overwrite,
    Scheduler,
    Threshold,
    VoxelSize,
    Workers,
    block_size,
    voxel_size_nm,
)
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.errors import InputError


def synapses(
    prediction: Annotated[str, typer.Argument(help="A prediction file, or an address of probability or labels.")],
    out: Annotated[Path, typer.Argument(help="Folder for labels.zarr and synapses.csv.")],
    threshold: Threshold = None,
    seed_threshold: Annotated[
        float | None, typer.Option(help="Hysteresis: a synapse needs one voxel of at least this probability.")
    ] = None,
    min_size: Annotated[
        float | None, typer.Option(metavar="NM3", help="Leave out synapses of a smaller volume, in nm³; default 0.")
    ] = None,
    gap: Annotated[int | None, typer.Option(help="Sections that a synapse may skip; default 0.")] = None,
    holes: Annotated[
        float | None, typer.Option(metavar="NM", help="Fill holes of a section up to this width, 0: none; default 100.")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option("--tune", metavar="TRUTH", help="Choose threshold and size on these labels: OUT/tuning.json."),
    ] = None,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take what a --tune chose; options given beside it go first.")
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Neuron ids: the table then says which meet at each synapse."),
    ] = None,
    reach: Annotated[
        float | None, typer.Option(metavar="NM", help="How far from a synapse its neurons are counted; default 60.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="zarr or hdf for the labels, csv or parquet for the table, annotations for neuroglancer; repeatable.",
        ),
    ] = None,
    kind: Kind = None,
    voxel_size: VoxelSize = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    block: BlockSize = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find the synapses of a prediction: OUT/labels.zarr has their ids, OUT/synapses.csv a row for each.

    Finished blocks are kept until all are: after a crash the same command does only what is missing.
    """
    from cleftnet.blockwise import Division, UnfinishedError
    from cleftnet.synapses import SynapseSettings, Tuning, find_synapses, tune_once
    from cleftnet.volumes import PREDICTION, open_volume

    if truth is not None and (tuned is not None or threshold is not None or min_size is not None):
        raise InputError("--tune chooses threshold and size; leave out --tuned, --threshold and --min-size")
    if reach is not None and segmentation is None:
        raise InputError("--reach says how far from a synapse neurons are counted; give them: --segmentation ADDRESS")
    size = voxel_size_nm(voxel_size)
    given = {
        "threshold": threshold,
        "seed_threshold": seed_threshold,
        "gap": gap,
        "hole_nm": holes,
        "min_size_nm3": min_size,
        "kind": kind,
        "segmentation": None if segmentation is None else open_volume(segmentation, voxel_size_nm=size),
        "reach_nm": reach,
    }
    base = SynapseSettings() if tuned is None else Tuning.load(tuned).settings
    settings = base.changed(**{name: value for name, value in given.items() if value is not None})
    volume = open_volume(prediction, default=PREDICTION, voxel_size_nm=size)
    division = Division(block_size(block), workers, scheduler)
    chosen: dict[str, Any] | None = None
    if truth is not None:
        tuning = tune_once(out / "tuning.json", volume, truth, settings, overwrite=overwrite)
        settings = tuning.settings.changed(segmentation=settings.segmentation, reach_nm=settings.reach_nm)
        chosen = tuning.chosen.model_dump()
    try:
        found = find_synapses(
            volume, out, settings=settings, formats=formats or (), division=division, overwrite=overwrite
        )
    except UnfinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    summary: dict[str, Any] = {**found.summary(), **({} if chosen is None else {"tuning": chosen})}
    if as_json:
        stdout.print_json(json.dumps(summary))
        return
    rows = {**found.summary(), **(chosen or {})}
    print_table([(name, text(value)) for name, value in rows.items()])
