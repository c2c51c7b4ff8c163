"""What the verbs share: the options that several of them take, and how text becomes values."""

from __future__ import annotations

from typing import Annotated

import typer

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX

Roi = Annotated[str | None, typer.Option(metavar="z0:z1,y0:y1,x0:x1", help="Only this part, in voxels.")]
VoxelSize = Annotated[str | None, typer.Option(metavar="Z,Y,X", help="Voxel size in nm, for formats that carry none.")]
Threshold = Annotated[
    float | None, typer.Option(help="Probability from which a voxel is cleft; default: the prediction's own.")
]
Kind = Annotated[
    str | None, typer.Option(help="What the prediction holds, where its type does not tell: probability, mask, labels.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Workers = Annotated[
    int, typer.Option(help="Worker processes, to predict one for each GPU where there are any; 0: none.")
]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler whose workers do it: tcp://HOST:PORT or its file.")]
BlockSize = Annotated[
    str | None,
    typer.Option(metavar="Z,Y,X", help="Block size in voxels: what is done, and lost in a crash, at once."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def region(text: str | None) -> Box | None:
    """Return the box of `z0:z1,y0:y1,x0:x1`, in voxels; None stays None."""
    return None if text is None else Box.parse(text)


def voxel_size_nm(text: str | None) -> FloatZYX | None:
    """Return z y x in nm of `z,y,x`; None stays None."""
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"voxel size '{text}' is not three lengths in nm, z,y,x; try --voxel-size 40,4,4") from None
    return z, y, x


def sides_vox(text: str, option: str, example: str) -> IntZYX:
    """Return z y x in voxels of `z,y,x`, as an option such as `patch` was given."""
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} '{text}' is not three sides in voxels, z,y,x; try --{option} {example}") from None
    return z, y, x


def patch_size(text: str) -> IntZYX:
    """Return the patch z y x in voxels of `z,y,x`."""
    return sides_vox(text, "patch", "8,256,256")


def block_size(text: str | None) -> IntZYX | None:
    """Return the block z y x in voxels of `z,y,x`; None stays None."""
    return None if text is None else sides_vox(text, "block", "64,512,512")


def chunk_size(text: str | None) -> IntZYX | None:
    """Return the chunk z y x in voxels of `z,y,x`; None stays None."""
    return None if text is None else sides_vox(text, "chunk", "16,128,128")
