"""The verbs for volumes as they are: what is in them, whether they are sound, other formats, the challenge's data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cleftnet.cli.options import Json, Overwrite, VoxelSize, chunk_size, voxel_size_nm
from cleftnet.cli.printing import print_table, stdout, text
from cleftnet.errors import InputError, nearest

if TYPE_CHECKING:
    from cleftnet.datasets.validation import Finding


def info(
    volumes: Annotated[list[str], typer.Argument(help="Addresses: files, or arrays in them.")],
    voxel_size: VoxelSize = None,
    as_json: Json = False,
) -> None:
    """Tell shape, type, voxel size and offset of every array, and what a label array holds."""
    from cleftnet.volumes import describe

    found = [d.to_json() for address in volumes for d in describe(address, voxel_size_nm=voxel_size_nm(voxel_size))]
    if as_json:
        stdout.print_json(json.dumps(found))
        return
    for entry in found:
        stdout.print(entry.pop("address"), style="bold")
        print_table(
            [(f"  {name.replace('_', ' ')}", text(value)) for name, value in entry.items() if value is not None]
        )


def check(
    files: Annotated[list[str], typer.Argument(help="CREMI files (.hdf).")],
    submission: Annotated[bool, typer.Option("--submission", help="As predictions for the challenge.")] = False,
    raw: Annotated[str | None, typer.Option(help="The raw that the labels belong to, where the file has none.")] = None,
    as_json: Json = False,
) -> None:
    """Tell in plain language whether CREMI files are sound; exit code 2 where one is not."""
    from cleftnet.datasets.validation import check_cremi, overall
    from cleftnet.volumes import open_volume

    around = None if raw is None else open_volume(raw)
    found = {file: check_cremi(file, submission=submission, raw=around) for file in files}
    if as_json:
        entries = [{"file": f, "verdict": overall(fs), "findings": [vars(x) for x in fs]} for f, fs in found.items()]
        stdout.print_json(json.dumps(entries))
    else:
        for file, findings in found.items():
            print_findings(file, findings)
    broken = [file for file, findings in found.items() if overall(findings) == "error"]
    if broken:
        raise InputError(f"not sound: {', '.join(broken)}; what is marked 'error' above says what to change")


def print_findings(file: str, findings: Sequence[Finding]) -> None:
    """Print the verdict on a file, then what was found."""
    from cleftnet.datasets.validation import overall

    stdout.print(f"{file}: {overall(findings)}", style="bold", markup=False)
    for finding in findings:
        stdout.print(f"  {finding}", markup=False)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Any readable address; a CREMI file alone means its raw.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="out.hdf, out.hdf/some/dataset, out.zarr, out.n5/raw, precomputed://out, out.tif, 'out/*.tif'.",
        ),
    ],
    labels: Annotated[bool, typer.Option("--labels", help="SRC holds cleft ids, or: take its labels.")] = False,
    voxel_size: VoxelSize = None,
    chunk: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Sides of the chunks in voxels; default 16,128,128 (HDF5 8,128,128)."),
    ] = None,
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Add lower resolutions, for viewers (OME-Zarr, precomputed).")
    ] = False,
    zarr: Annotated[int | None, typer.Option(help="Version of Zarr: 2 (OME-Zarr 0.4, default) or 3 (0.5).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy an array into another format; labels in a CREMI file get CREMI's ids, everywhere else background is 0."""
    from cleftnet.progress import bar
    from cleftnet.volumes import Layout, convert

    size, wanted = voxel_size_nm(voxel_size), Layout(chunk_size(chunk), pyramid, zarr)
    with bar("converting") as progress:
        convert(
            source, target, labels=labels, voxel_size_nm=size, layout=wanted, overwrite=overwrite, progress=progress
        )
    stdout.print(target, markup=False)


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
    from cleftnet.datasets.download import download_cremi

    if dataset != "cremi":
        raise InputError(f"there is no data set '{dataset}' to download; {nearest(dataset, ['cremi'])}")
    for path in download_cremi(sample or ("A", "B", "C"), dest, mirrors=mirror or ()):
        stdout.print(str(path), markup=False)
