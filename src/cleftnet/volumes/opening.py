"""From an address to a volume, and from an address to a new file: one table says which format opens, lists and creates what.

A new format is one more row; callers never ask which it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes import cremi, tiff
from cleftnet.volumes.address import Address, Location, expand, missing
from cleftnet.volumes.hdf5 import array_names, find_dataset, open_hdf5_file
from cleftnet.volumes.hdf5_writing import new_hdf5
from cleftnet.volumes.slabs import Progress, WritableStore, copy
from cleftnet.volumes.tiff_writing import new_tiff
from cleftnet.volumes.volume import Volume

RAW = ("volumes/raw",)
LABELS = ("volumes/labels/clefts",)
PREDICTION = ("volumes/probability", "volumes/labels/clefts")


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
        endings: The endings of its files, in lower case.
        open: Opens the array at a location; where that names only the file, the first of these names that is there.
        arrays: Lists the arrays of three axes at a location.
        create: Begins a new file at a path; the flag says whether one may be there already.
    """

    name: str
    example: str
    endings: tuple[str, ...]
    open: Callable[[Location, Sequence[str]], Volume]
    arrays: Callable[[Location], list[Location]]
    create: Callable[[Path, bool], AbstractContextManager[NewArrays]]


def open_volume(address: Address, *, default: Sequence[str] = RAW, voxel_size_nm: FloatZYX | None = None) -> Volume:
    """Open the array that an address names; nothing but its shape is read until a box is asked for.

    Labels of a CREMI file come in house ids (background 0).

    Args:
        address: Such as `A.hdf`, `A.hdf/volumes/raw`, `stack.tif`, `stack/*.tif` or a folder of TIFFs; `~` and `$NAME` are
            expanded.
        default: Datasets to try in turn where the address names a file of several: `RAW`, `LABELS` or `PREDICTION`.
        voxel_size_nm: Voxel size, z y x, for formats that carry none; where the file carries one it must be the same.

    Raises:
        InputError: when there is no such file, format or array, or the voxel size contradicts the file's own.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_volume(Volume(np.ones((4, 5, 6), np.uint8)), f"{folder}/stack.tif")
        ...     volume = open_volume(f"{folder}/stack.tif", voxel_size_nm=(50, 4.6, 4.6))
        ...     volume.shape, volume.voxel_size_nm
        ((4, 5, 6), (50.0, 4.6, 4.6))
    """
    row, location = locate(address)
    volume = row.open(location, default)
    if voxel_size_nm is None:
        return volume
    z, y, x = (float(side) for side in voxel_size_nm)
    if not all(side > 0 and math.isfinite(side) for side in (z, y, x)):
        raise InputError(f"voxel size {z:g},{y:g},{x:g} nm must be three positive lengths z,y,x, such as 40,4,4")
    own = volume.voxel_size
    if own is None:
        return replace(volume, voxel_size=(z, y, x))
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(own, (z, y, x), strict=True)):
        raise InputError(
            f"{volume.address} says that its voxels are {own[0]:g},{own[1]:g},{own[2]:g} nm, but --voxel-size says "
            f"{z:g},{y:g},{x:g}; leave --voxel-size out, or correct the file"
        )
    return volume


def list_arrays(address: Address) -> list[str]:
    """Return the addresses of all arrays of three axes behind an address, each fit for `open_volume`.

    Raises:
        InputError: when there is no such file, format or array.
    """
    row, location = locate(address)
    return [str(found) for found in row.arrays(location)]


@contextmanager
def create_volumes(address: Address, overwrite: bool = False) -> Iterator[NewArrays]:
    """Begin a new file in the format of its ending; it appears when the body succeeds, and vanishes when it fails.

    Args:
        address: The file, such as `out.hdf`, without an array inside.
        overwrite: Whether a file already there may be replaced.

    Raises:
        InputError: when the format is unknown, or the output exists.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create_volumes(f"{folder}/out.hdf") as new:
        ...         probability = new.create("volumes/probability", (4, 5, 6), "uint8", voxel_size_nm=(40, 4, 4))
        ...         probability[0:4, 0:5, 0:6] = 128
        ...     open_volume(f"{folder}/out.hdf", default=PREDICTION).shape
        (4, 5, 6)
    """
    row, location = locate(address, new=True)
    if location.inside:
        raise InputError(f"{location} names an array inside a file; name the output file alone: {location.path}")
    with row.create(location.path, overwrite) as new:
        yield new


def write_volume(
    volume: Volume,
    address: Address,
    *,
    default: str = RAW[0],
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a volume to a new file of any format, slab by slab: values as they are, and voxel size, offset and threshold.

    A TIFF keeps no threshold.

    Args:
        volume: What to write.
        address: Where to, such as `out.hdf/volumes/raw`, `out.tif` or `out/*.tif`.
        default: The dataset's name where the address names only the file.
        overwrite: Whether a file already there may be replaced.
        progress: Called after every slab with the voxels done and the voxels in all.

    Raises:
        InputError: when the format is unknown, or the output exists.
    """
    row, location = locate(address, new=True)
    with row.create(location.path, overwrite) as new:
        target = new.create(
            location.inside or default,
            volume.shape,
            volume.dtype,
            voxel_size_nm=volume.voxel_size,
            offset_nm=volume.offset_nm,
            threshold=volume.threshold,
        )
        copy(volume, target, progress=progress)


def locate(address: Address, new: bool = False) -> tuple[Format, Location]:
    """Find the format of an address, and take the address apart; one for a `new` file need not exist.

    Raises:
        InputError: when no format has such an ending.
    """
    text = expand(address)
    path = Path(text)
    if scheme := re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise _unknown(text, scheme[0])
    for n, part in enumerate(path.parts, start=1):
        ending, file = Path(part).suffix.lower(), Path(*path.parts[:n])
        if ending in _LATER:
            raise _unknown(text, ending)
        for row in FORMATS:
            if ending in row.endings and not file.is_dir():  # a folder may be called data.h5
                return row, Location(file, "/".join(path.parts[n:]))
    if path.is_dir() and not new:
        return _TIFF, Location(path)
    if not path.suffix and not path.exists() and not new:
        raise missing(path)
    raise _unknown(text, path.suffix)


def _unknown(address: str, ending: str) -> InputError:
    known = "; ".join(f"{row.name} ({', '.join(row.endings)}), as in {row.example}" for row in FORMATS)
    what = f"format '{ending}' is unknown" if ending else "there is no ending that tells the format"
    return InputError(f"{address}: {what}; known are {known}")


def _open_hdf5(location: Location, default: Sequence[str]) -> Volume:
    if location.inside:
        return cremi.open_dataset(location.path, location.inside)
    with open_hdf5_file(location.path) as file:
        there = array_names(file)
    for name in default:
        if name in there:
            return cremi.open_dataset(location.path, name)
    hint = (
        f"it has {', '.join(there)}; name one, as in {location.path}/{there[0]}"
        if there
        else "it has no array of three axes"
    )
    raise InputError(f"{location.path} has no {' or '.join(default)}; {hint}")


def _hdf5_arrays(location: Location) -> list[Location]:
    with open_hdf5_file(location.path) as file:
        if location.inside:
            find_dataset(file, location.inside)
            return [location]
        return [Location(location.path, name) for name in array_names(file)]


def _open_tiff(location: Location, default: Sequence[str]) -> Volume:
    if location.inside:
        raise InputError(f"{location.path} is a TIFF and holds one array; leave out /{location.inside}")
    return tiff.open_tiff(location.path)


def _tiff_arrays(location: Location) -> list[Location]:
    _open_tiff(location, ())
    return [location]


_HDF5 = Format("HDF5", "A.hdf/volumes/raw", (".hdf", ".h5", ".hdf5"), _open_hdf5, _hdf5_arrays, new_hdf5)
_TIFF = Format("TIFF", "stack.tif or stack/*.tif", tiff.ENDINGS, _open_tiff, _tiff_arrays, new_tiff)

FORMATS = (_HDF5, _TIFF)
_LATER = (".zarr", ".n5")  # folders, which would else be taken for folders of TIFFs
