"""The table of formats: one row says which addresses are its own, and what opens, lists and creates them.

A new format is one more row; callers never ask which it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes import cremi, tiff
from cleftnet.volumes.address import Address, Location, expand, missing
from cleftnet.volumes.chunked.n5 import n5_arrays, open_n5
from cleftnet.volumes.chunked.n5_writing import new_n5
from cleftnet.volumes.chunked.precomputed import SCHEME, open_precomputed, precomputed_arrays
from cleftnet.volumes.chunked.precomputed_writing import new_precomputed
from cleftnet.volumes.chunked.storage import SCHEMES
from cleftnet.volumes.chunked.zarr import open_zarr, zarr_arrays
from cleftnet.volumes.chunked.zarr_writing import new_zarr
from cleftnet.volumes.hdf5 import array_names, find_dataset, open_hdf5_file
from cleftnet.volumes.hdf5_writing import new_hdf5
from cleftnet.volumes.layout import Layout
from cleftnet.volumes.slabs import WritableStore
from cleftnet.volumes.tiff_writing import new_tiff
from cleftnet.volumes.volume import Volume


class NewArrays(Protocol):
    """A file being made, in which arrays are created; one array only where the format holds no more."""

    def create(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        voxel_size_nm: FloatZYX | None,
        offset_nm: FloatZYX = (0.0, 0.0, 0.0),
        threshold: float | None = None,
    ) -> WritableStore:
        """Create an array whose boxes can be written in any order."""


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Args:
        name: What people call the format.
        example: An address, for messages.
        open: Opens the array at a location; where that names only the file, the first of these names that is there.
        arrays: Lists the arrays of three axes at a location.
        create: Begins a new file at a path; the flag says whether one may be there already.
        endings: The endings of its files, in lower case.
        scheme: What begins its addresses instead of an ending.
        folder: Whether its files are folders, which may lie in a bucket or behind HTTP as well.
        layout: What of `Layout` can be asked of it.
    """

    name: str
    example: str
    open: Callable[[Location, Sequence[str]], Volume]
    arrays: Callable[[Location], list[Location]]
    create: Callable[[str, bool, Layout], AbstractContextManager[NewArrays]]
    endings: tuple[str, ...] = ()
    scheme: str = ""
    folder: bool = False
    layout: tuple[str, ...] = ()


def locate(address: Address, new: bool = False) -> tuple[Format, Location]:
    """Find the format of an address, and take the address apart; one for a `new` file need not exist.

    Raises:
        InputError: when no format has such an ending, or a format of files is looked for behind a URL.

    Example:
        >>> row, location = locate("s3://bucket/fly.zarr/volumes/raw")
        >>> row.name, location.path, location.inside
        ('Zarr', 's3://bucket/fly.zarr', 'volumes/raw')
    """
    text = expand(address).removeprefix("file://")
    for row in FORMATS:
        if row.scheme and text.startswith(row.scheme):
            path = text.removeprefix(row.scheme).removeprefix("file://")
            return row, Location(path.rstrip("/") or "/", scheme=row.scheme)
    if url := re.match(r"([a-z][a-z0-9+.-]*)://", text, re.IGNORECASE):
        return _locate_url(text, url[1])
    path_parts = Path(text).parts
    for n, part in enumerate(path_parts, start=1):
        row_of_part = _by_ending(part)
        file = Path(*path_parts[:n])
        if row_of_part and (row_of_part.folder or not file.is_dir()):  # a folder may be called data.h5
            return row_of_part, Location(str(file), "/".join(path_parts[n:]))
    whole = Path(text)
    if whole.is_dir() and not new:
        return _TIFF, Location(text.rstrip("/"))
    if not whole.suffix and not whole.exists() and not new:
        raise missing(whole)
    raise _unknown(text, whole.suffix)


def _locate_url(text: str, scheme: str) -> tuple[Format, Location]:
    parts = text.rstrip("/").split("/")
    for n, part in enumerate(parts[3:], start=4):
        row = _by_ending(part)
        if row is None or scheme not in SCHEMES:
            continue
        if not row.folder:
            raise InputError(f"{text}: {row.name} is read from local files only; download it first")
        return row, Location("/".join(parts[:n]), "/".join(parts[n:]))
    raise _unknown(text, f"{scheme}://" if scheme not in SCHEMES else PurePosixPath(text).suffix)


def _by_ending(part: str) -> Format | None:
    ending = PurePosixPath(part).suffix.lower()
    return next((row for row in FORMATS if ending in row.endings), None)


def _unknown(address: str, ending: str) -> InputError:
    known = "; ".join(f"{row.name} ({', '.join(row.endings) or row.scheme}), as in {row.example}" for row in FORMATS)
    what = f"format '{ending}' is unknown" if ending else "there is no ending that tells the format"
    return InputError(f"{address}: {what}; known are {known}")


def _open_hdf5(location: Location, default: Sequence[str]) -> Volume:
    if location.inside:
        return cremi.open_dataset(Path(location.path), location.inside)
    with open_hdf5_file(Path(location.path)) as file:
        there = array_names(file)
    for name in default:
        if name in there:
            return cremi.open_dataset(Path(location.path), name)
    hint = (
        f"it has {', '.join(there)}; name one, as in {location.path}/{there[0]}"
        if there
        else "it has no array of three axes"
    )
    raise InputError(f"{location.path} has no {' or '.join(default)}; {hint}")


def _hdf5_arrays(location: Location) -> list[Location]:
    with open_hdf5_file(Path(location.path)) as file:
        if location.inside:
            find_dataset(file, location.inside)
            return [location]
        return [Location(location.path, name) for name in array_names(file)]


def _open_tiff(location: Location, default: Sequence[str]) -> Volume:
    if location.inside:
        raise InputError(f"{location.path} is a TIFF and holds one array; leave out /{location.inside}")
    return tiff.open_tiff(Path(location.path))


def _tiff_arrays(location: Location) -> list[Location]:
    _open_tiff(location, ())
    return [location]


_HDF5 = Format(
    "HDF5",
    "A.hdf/volumes/raw",
    open=_open_hdf5,
    arrays=_hdf5_arrays,
    create=new_hdf5,
    endings=(".hdf", ".h5", ".hdf5"),
    layout=("chunk",),
)
_TIFF = Format(
    "TIFF",
    "stack.tif or stack/*.tif",
    open=_open_tiff,
    arrays=_tiff_arrays,
    create=lambda path, overwrite, _: new_tiff(Path(path), overwrite),
    endings=tiff.ENDINGS,
)
_ZARR = Format(
    "Zarr",
    "vol.zarr/raw",
    open=open_zarr,
    arrays=zarr_arrays,
    create=new_zarr,
    endings=(".zarr",),
    folder=True,
    layout=("chunk", "pyramid", "zarr"),
)
_N5 = Format(
    "N5",
    "vol.n5/raw/s0",
    open=open_n5,
    arrays=n5_arrays,
    create=new_n5,
    endings=(".n5",),
    folder=True,
    layout=("chunk",),
)
_PRECOMPUTED = Format(
    "precomputed",
    f"{SCHEME}gs://bucket/vol",
    open=open_precomputed,
    arrays=precomputed_arrays,
    create=new_precomputed,
    scheme=SCHEME,
    folder=True,
    layout=("chunk", "pyramid"),
)

FORMATS = (_HDF5, _TIFF, _ZARR, _N5, _PRECOMPUTED)
