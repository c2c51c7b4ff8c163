"""The verb for synapses: a prediction in, a mask of ids and a table out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cleftnet.cli.options import Json, Kind, Overwrite, Threshold, VoxelSize, patch_size, voxel_size_nm
from cleftnet.cli.printing import print_table, stdout, text


def synapses(
    prediction: Annotated[str, typer.Argument(help="A prediction file, or an address of probability or labels.")],
    out: Annotated[Path, typer.Argument(help="Folder for labels.zarr and synapses.csv.")],
    threshold: Threshold = None,
    seed_threshold: Annotated[
        float | None, typer.Option(help="Hysteresis: a synapse needs one voxel of at least this probability.")
    ] = None,
    min_size: Annotated[float, typer.Option(metavar="NM3", help="Leave out synapses of a smaller volume, in nm³.")] = 0,
    gap: Annotated[int, typer.Option(help="Sections that a synapse may skip.")] = 0,
    holes: Annotated[
        float, typer.Option(metavar="NM", help="Fill holes of a section up to this width; 0: none.")
    ] = 100,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="zarr or hdf for the labels, csv or parquet for the table; may be given twice."),
    ] = None,
    kind: Kind = None,
    voxel_size: VoxelSize = None,
    workers: Annotated[int, typer.Option(help="Worker processes; 0: none.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler whose workers do it, tcp://HOST:PORT.")] = None,
    block: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Block size in voxels: what is done, and lost in a crash, at once."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find the synapses of a prediction: OUT/labels.zarr has their ids, OUT/synapses.csv a row for each.

    Finished blocks are kept until all are: after a crash the same command does only what is missing.
    """
    from cleftnet.blockwise import Division, UnfinishedError
    from cleftnet.synapses import Rules, find_synapses
    from cleftnet.volumes import PREDICTION, open_volume

    rules = Rules(threshold, seed_threshold, gap, holes, min_size)
    volume = open_volume(prediction, default=PREDICTION, voxel_size_nm=voxel_size_nm(voxel_size))
    division = Division(None if block is None else patch_size(block), workers, scheduler)
    try:
        found = find_synapses(
            volume, out, rules, kind=kind, formats=formats or (), division=division, overwrite=overwrite
        )
    except UnfinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    summary = found.summary()
    if as_json:
        stdout.print_json(json.dumps(summary))
        return
    print_table([(name, text(value)) for name, value in summary.items()])
