"""Options that several verbs share, and parsers for their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cleftnet.errors import InputError

if TYPE_CHECKING:
    from cleftnet.geometry import FloatZYX, IntZYX

PredictionArgument = Annotated[
    str, typer.Argument(metavar="PREDICTION", help="A prediction file, or the address of a probability or label array.")
]
VoxelSize = Annotated[
    str | None, typer.Option(metavar="Z,Y,X", help="Voxel size in nm, for formats that do not store it.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Voxels of at least this probability are cleft; default: the threshold stored in the prediction."
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(help="probability, mask or labels, where the data type of the prediction does not decide."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Workers = Annotated[
    int,
    typer.Option(help="Number of worker processes; predict gives each one GPU. 0 works in this process."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Use a running Dask cluster: tcp://HOST:PORT, or its scheduler file."),
]
BlockSize = Annotated[
    str | None,
    typer.Option(metavar="Z,Y,X", help="Block size in voxels; a crash loses at most the block in progress."),
]
AcceptChangedInput = Annotated[
    bool,
    typer.Option(
        "--accept-changed-input", help="Complete an unfinished OUT although the voxels of its input have changed."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def voxel_size_nm(text: str | None) -> FloatZYX | None:
    """Parse `Z,Y,X` in nm; None stays None."""
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--voxel-size '{text}' is not three lengths in nm, z,y,x; try --voxel-size 40,4,4") from None
    return z, y, x


def sides_vox(text: str | None, option: str, example: str) -> IntZYX | None:
    """Parse `Z,Y,X` in voxels, the value of an option such as `patch`; None stays None."""
    if text is None:
        return None
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{option} '{text}' is not three sides in voxels, z,y,x; try --{option} {example}") from None
    return z, y, x


def patch_size(text: str | None) -> IntZYX | None:
    """Parse a patch size, `Z,Y,X` in voxels; None stays None."""
    return sides_vox(text, "patch", "8,256,256")


def block_size(text: str | None) -> IntZYX | None:
    """Parse a block size, `Z,Y,X` in voxels; None stays None."""
    return sides_vox(text, "block", "64,512,512")


def chunk_size(text: str | None) -> IntZYX | None:
    """Parse a chunk size, `Z,Y,X` in voxels; None stays None."""
    return sides_vox(text, "chunk", "16,128,128")


def gray_values(text: str | None) -> tuple[float, float] | None:
    """Parse `LOW,HIGH`; None stays None."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--gray-range '{text}' is not two gray values; try --gray-range 1200,3100") from None
    return low, high


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """Parse whole numbers separated by commas; None stays None."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{option} '{text}' is not a list of whole numbers; try --{option} 0,1") from None
