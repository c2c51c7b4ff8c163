"""New containers of the chunked formats, which appear whole or not at all on this machine.

In a bucket nothing can be renamed: there an output is written in its place, and deleted when the body fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.chunked.n5 import ATTRIBUTES
from cleftnet.volumes.chunked.precomputed import INFO
from cleftnet.volumes.chunked.storage import is_remote, read_json, remove_remote

T = TypeVar("T")

CHUNK_VOX: IntZYX = (16, 128, 128)  # 256 KB of gray values: small enough for a viewer, large enough for a file system
_MARKS = ("zarr.json", ".zgroup", ".zarray", ATTRIBUTES, INFO)


@contextmanager
def container(path: str, overwrite: bool, make: Callable[[str, str], T]) -> Iterator[T]:
    """Yield a new container, which takes its place when the body succeeds and vanishes when it fails.

    Args:
        path: Where it shall be, a local path or a URL.
        overwrite: Whether there may be one already.
        make: Makes it from the path to write to and the path to speak of.

    Raises:
        InputError: when the output exists, or nothing can be written there.
    """
    if not is_remote(path):
        with replacing(Path(path), overwrite) as temporary:
            temporary.mkdir()
            yield make(str(temporary), path)
        return
    if path.startswith("http"):
        raise InputError(f"{path}: nothing can be written over HTTP; write to s3://, gs:// or a local file")
    if any(read_json(path, mark) is not None for mark in _MARKS):
        if not overwrite:
            raise InputError(f"{path} exists already; add --overwrite or choose another name")
        remove_remote(path)
    try:
        yield make(path, path)
    except BaseException:  # an interrupt too: a half-written array must never be taken for a result
        remove_remote(path)
        raise


def needed(voxel_size_nm: FloatZYX | None, called: str, what: str) -> FloatZYX:
    """Return the voxel size, which something cannot do without."""
    if voxel_size_nm is None:
        raise InputError(f"{called}: {what} needs a voxel size; give it in nm, z,y,x: --voxel-size 40,4,4")
    return voxel_size_nm


def held_type(dtype: npt.DTypeLike, held: Sequence[str], name: str, called: str) -> np.dtype[Any]:
    """Return the type in which a format stores another."""
    wanted = np.dtype(np.uint8) if np.dtype(dtype) == np.bool_ else np.dtype(dtype)
    if wanted.name not in held:
        raise InputError(f"{called}: {name} holds no {wanted}, only {', '.join(held)}; choose .zarr or .hdf")
    return wanted
