"""Verbs for volumes: print, check, convert and download them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cleftnet.cli.options import Json, Overwrite, VoxelSize, chunk_size, voxel_size_nm
from cleftnet.cli.printing import print_json, print_table, text
from cleftnet.cli.translation import to_options
from cleftnet.errors import InputError, nearest

if TYPE_CHECKING:
    from cleftnet.datasets import Finding


def info(
    volumes: Annotated[list[str], typer.Argument(metavar="VOLUME", help="Addresses of files, or of arrays in them.")],
    voxel_size: VoxelSize = None,
    as_json: Json = False,
) -> None:
    """Print shape, data type, voxel size and offset of volumes.

    For a label array, the clefts are counted too. For a raw volume, a warning says where its contrast is nearly empty or looks
    inverted. For a probability, the operating point that is stored with it is printed.
    """
    from cleftnet.synapses import describe_point
    from cleftnet.volumes import describe

    found = [d.to_json() for address in volumes for d in describe(address, voxel_size_nm=voxel_size_nm(voxel_size))]
    if as_json:
        print_json(found)
        return
    for entry in found:
        print(entry.pop("address"))
        warnings, provenance = entry.pop("warnings") or [], entry.pop("provenance") or {}
        rows = {**entry, **provenance, "synapses": describe_point(provenance)}
        if rows.get("gray_range") is not None:
            rows["gray_range"] = "{:g} to {:g}".format(*rows["gray_range"])
        print_table([(f"  {name.replace('_', ' ')}", text(value)) for name, value in rows.items() if value is not None])
        for warning in warnings:
            print(f"  warning: {to_options(warning)}")


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="CREMI files (.hdf).")],
    submission: Annotated[
        bool, typer.Option("--submission", help="Check them as predictions for the challenge.")
    ] = False,
    raw: Annotated[str | None, typer.Option(help="Raw volume of the labels, where the file has none.")] = None,
    as_json: Json = False,
) -> None:
    """Check CREMI files, and explain what is wrong with them.

    Exit code 2: a file has an error.
    """
    from cleftnet.datasets import check_cremi, overall
    from cleftnet.volumes import open_volume

    around = None if raw is None else open_volume(raw)
    found = {file: check_cremi(file, submission=submission, raw=around) for file in files}
    if as_json:
        print_json([{"file": f, "verdict": overall(fs), "findings": [vars(x) for x in fs]} for f, fs in found.items()])
    else:
        for file, findings in found.items():
            print_findings(file, findings)
    broken = [file for file, findings in found.items() if overall(findings) == "error"]
    if broken:
        raise InputError(f"not sound: {', '.join(broken)}; the lines marked 'error' say what to change")


def print_findings(file: str, findings: Sequence[Finding]) -> None:
    """Print the worst finding on a file as its verdict, then every finding."""
    from cleftnet.datasets import overall

    print(f"{file}: {overall(findings)}")
    for finding in findings:
        print(f"  {finding}")


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Any readable address; a CREMI file alone means its raw volume.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="out.hdf, out.hdf/some/dataset, out.zarr, out.n5/raw, precomputed://out, out.tif or 'out/*.tif'.",
        ),
    ],
    labels: Annotated[
        bool, typer.Option("--labels", help="SRC holds cleft ids; of a CREMI file, convert the labels.")
    ] = False,
    voxel_size: VoxelSize = None,
    chunk: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Chunk size in voxels; default 16,128,128 (HDF5: 8,128,128).")
    ] = None,
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Add lower resolutions for viewers (OME-Zarr, precomputed).")
    ] = False,
    zarr: Annotated[
        int | None, typer.Option(metavar="2|3", help="Zarr version: 2 (OME-Zarr 0.4, default) or 3 (OME-Zarr 0.5).")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy a volume into another file format.

    Labels get the ids of CREMI in a CREMI file; everywhere else their background is 0.
    """
    from cleftnet.progress import bar
    from cleftnet.volumes import LayoutSettings
    from cleftnet.volumes import convert as convert_volume

    size, layout = voxel_size_nm(voxel_size), LayoutSettings(chunk=chunk_size(chunk), pyramid=pyramid, zarr=zarr)
    with bar("converting") as progress:
        convert_volume(
            source, target, labels=labels, voxel_size_nm=size, layout=layout, overwrite=overwrite, progress=progress
        )
    print(target)


def download(
    dataset: Annotated[str, typer.Argument(metavar="cremi|vnc-l3", help="The data set.")],
    dest: Annotated[
        Path | None,
        typer.Option(help="Folder to download into; default $CLEFTNET_DATA/cremi or $CLEFTNET_DATA/vnc-l3."),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A", help="Of cremi: A, B, C, A+, A_padded, A+_padded...; repeatable; default A, B and C."
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Folder with the same files, tried before the usual site; repeatable."),
    ] = None,
) -> None:
    """Download public volumes: those of the CREMI challenge, or vnc-l3.

    Checksums are verified, and an interrupted download continues. Recipes look for the files in $CLEFTNET_DATA, by default
    ~/cleftnet-data.
    """
    from cleftnet.datasets import download_cremi, download_vnc_l3

    known = ["cremi", "vnc-l3"]
    if dataset not in known:
        raise InputError(f"there is no data set '{dataset}' to download; {nearest(dataset, known)}")
    where = {} if dest is None else {"dest": dest}
    if dataset == "cremi":
        paths = download_cremi(sample or ("A", "B", "C"), mirrors=mirror or (), **where)
    elif sample:
        raise InputError("--sample chooses volumes of cremi; vnc-l3 is one volume: leave it out")
    else:
        paths = download_vnc_l3(mirrors=mirror or (), **where)
    for path in paths:
        print(path)
