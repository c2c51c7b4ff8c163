"""From an address to a volume: the table of formats, and what opens, lists and describes arrays of any of them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes import cremi, hdf5, mrc, n5, precomputed, tiff, zarr
from cleftnet.volumes.address import SCHEMES, Address, Location, expand, is_remote, missing
from cleftnet.volumes.contrast import GrayStatistics, gray_statistics
from cleftnet.volumes.labels import LabelStatistics, holds_labels, label_statistics
from cleftnet.volumes.metadata import (
    CLEFTS_NAME,
    PROBABILITY_NAME,
    RAW_NAME,
    LayoutSettings,
    NewArrays,
    check_numbers,
)
from cleftnet.volumes.volume import Array, Volume

# Arrays to try in turn where an address names only a file, by what a caller wants.
RAW, LABELS, PREDICTION = (RAW_NAME,), (CLEFTS_NAME,), (PROBABILITY_NAME, CLEFTS_NAME)


@dataclass(frozen=True)
class Format:
    """One row of the table of formats.

    Args:
        name: The name of the format.
        example: An address, for messages.
        open: Opens the array at a location; where that names only the file, the first of the given names that is there.
        arrays: Lists the arrays of three axes at a location.
        create: Begins a new file at a path; the flag says whether a file already there may be replaced.
        options: The fields of `LayoutSettings` that the format understands.
        endings: The endings of its files, in lower case.
        scheme: The beginning of its addresses, where no ending tells the format.
        folder: Whether its files are folders, which may lie in a bucket or behind HTTP as well.
    """

    name: str
    example: str
    open: Callable[[Location, Sequence[str]], Volume]
    arrays: Callable[[Location], list[Location]]
    create: Callable[[str, bool, LayoutSettings], AbstractContextManager[NewArrays]]
    options: tuple[str, ...]
    endings: tuple[str, ...] = ()
    scheme: str = ""
    folder: bool = True


_HDF5 = Format(
    "HDF5",
    "A.hdf/volumes/raw",
    cremi.open_dataset,
    hdf5.list_hdf5,
    hdf5.new_hdf5,
    hdf5.OPTIONS,
    hdf5.ENDINGS,
    folder=False,
)
_TIFF = Format(
    "TIFF",
    "stack.tif or stack/*.tif",
    tiff.open_tiff,
    tiff.list_tiff,
    tiff.new_tiff,
    tiff.OPTIONS,
    tiff.ENDINGS,
    folder=False,
)
_MRC = Format("MRC", "vol.mrc", mrc.open_mrc, mrc.list_mrc, mrc.new_mrc, mrc.OPTIONS, mrc.ENDINGS, folder=False)
_ZARR = Format("Zarr", "vol.zarr/raw", zarr.open_zarr, zarr.list_zarr, zarr.new_zarr, zarr.OPTIONS, zarr.ENDINGS)
_N5 = Format("N5", "vol.n5/raw/s0", n5.open_n5, n5.list_n5, n5.new_n5, n5.OPTIONS, n5.ENDINGS)
_PRECOMPUTED = Format(
    "precomputed",
    f"{precomputed.SCHEME}gs://bucket/vol",
    precomputed.open_precomputed,
    precomputed.list_precomputed,
    precomputed.new_precomputed,
    precomputed.OPTIONS,
    scheme=precomputed.SCHEME,
)
FORMATS = (_HDF5, _TIFF, _MRC, _ZARR, _N5, _PRECOMPUTED)


def locate(address: Address, new: bool = False) -> tuple[Format, Location]:
    """Return the format of an address, and the address taken apart; one for a `new` file need not exist.

    Raises:
        InputError: when no format has such an ending, or the address is a URL and the format is read from local files only.

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


def open_volume(address: Address, *, default: Sequence[str] = RAW, voxel_size_nm: FloatZYX | None = None) -> Volume:
    """Open the array that an address names; nothing but its shape is read until a box is indexed.

    Labels of a CREMI file are translated into our ids (background 0).

    Args:
        address: Such as `A.hdf`, `A.hdf/volumes/raw`, `vol.zarr`, `vol.n5/raw/s0`, `precomputed://gs://bucket/vol`,
            `stack.tif`, `stack/*.tif`, a folder of TIFFs or `vol.mrc`; `~` and `$NAME` are expanded.
        default: Datasets to try in turn where the address names a file of several: `RAW`, `LABELS` or `PREDICTION`.
        voxel_size_nm: Voxel size, z y x, for formats that carry none; where the file carries one it must be the same.

    Raises:
        InputError: when there is no such file, format or array, a server does not answer, or the voxel size contradicts the
            file's own.

    Example:
        >>> import tempfile
        >>> from cleftnet.volumes import write_volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_volume(Volume(np.ones((4, 5, 6), np.uint8)), f"{folder}/stack.tif")
        ...     volume = open_volume(f"{folder}/stack.tif", voxel_size_nm=(50, 4.6, 4.6))
        ...     volume.shape, volume.voxel_size_nm
        ((4, 5, 6), (50.0, 4.6, 4.6))
    """
    row, location = locate(address)
    return _with_voxel_size(row.open(location, default), voxel_size_nm)


def as_volume(
    source: Volume | Address | Array, *, voxel_size_nm: FloatZYX | None = None, default: Sequence[str] = RAW
) -> Volume:
    """Return a volume for anything that a function of this package takes for one.

    Args:
        source: A volume, which is returned itself; the address of an array, which is opened; or a NumPy array z y x, which
            stays in memory.
        voxel_size_nm: Voxel size, z y x, for sources that carry none; where the source carries one it must be the same.
        default: Datasets to try in turn where an address names a file of several: `RAW`, `LABELS` or `PREDICTION`.

    Raises:
        InputError: when the source is anything else, cannot be opened, or contradicts the voxel size.

    Example:
        >>> as_volume(np.zeros((4, 5, 6), np.uint8), voxel_size_nm=(40, 4, 4)).voxel_size_nm
        (40.0, 4.0, 4.0)
    """
    if isinstance(source, str | os.PathLike):
        return open_volume(source, default=default, voxel_size_nm=voxel_size_nm)
    if isinstance(source, np.ndarray):
        check_numbers(source.dtype, "the array")
        source = Volume(source)
    if not isinstance(source, Volume):
        raise InputError(
            f"a {type(source).__name__} is no volume; expected a Volume, an address such as 'A.hdf', or a NumPy array z y x"
        )
    return _with_voxel_size(source, voxel_size_nm)


def _with_voxel_size(volume: Volume, voxel_size_nm: FloatZYX | None) -> Volume:
    """Return the volume with the voxel size given by the caller, which must not contradict its own."""
    if voxel_size_nm is None:
        return volume
    try:
        z, y, x = (float(side) for side in voxel_size_nm)
    except (TypeError, ValueError):
        z = y = x = math.nan
    if not all(side > 0 and math.isfinite(side) for side in (z, y, x)):
        raise InputError(f"voxel_size_nm={voxel_size_nm} must be three positive lengths z y x, such as (40, 4, 4)")
    own = volume.voxel_size
    if own is None:
        return replace(volume, voxel_size=(z, y, x))
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(own, (z, y, x), strict=True)):
        raise InputError(
            f"{volume.address} says that its voxels are {own[0]:g},{own[1]:g},{own[2]:g} nm, which contradicts "
            f"voxel_size_nm=({z:g}, {y:g}, {x:g}); leave it out, or correct the file"
        )
    return volume


def list_arrays(address: Address) -> list[str]:
    """Return the addresses of all arrays of three axes behind an address, each fit for `open_volume`.

    Raises:
        InputError: when there is no such file, format or array.
    """
    row, location = locate(address)
    return [str(array) for array in row.arrays(location)]


@dataclass(frozen=True)
class Description:
    """One array: its volume, the statistics of its labels where it holds some, and of its gray values where it is raw."""

    volume: Volume
    labels: LabelStatistics | None
    gray: GrayStatistics | None = None

    @property
    def counted(self) -> Literal["clefts", "neurons", "objects"]:
        """What the ids of a label array stand for, judged by its name, which CREMI and its followers fix.

        Neurons are called `neuron_ids` or `segmentation`. Another name below `volumes/labels/`, such as `mitochondria`, is
        some other object. Everything else is taken for clefts.
        """
        name = self.volume.address.rpartition("/")[2] if "/" in self.volume.address else ""
        if re.search("neuron|segment", name):
            return "neurons"
        elsewhere = "/volumes/labels/" not in self.volume.address or re.search("cleft|synap", name) or name == "mask"
        return "clefts" if elsewhere else "objects"

    def to_json(self) -> dict[str, Any]:
        """Return plain values; lengths in nm, sizes z y x; what is unknown or does not apply is None.

        Neurons and other objects have keys of their own, such as `neurons` and `neuron_voxels`, and those of clefts are None.
        """
        volume, kind = self.volume, self.counted
        found = {} if kind == "clefts" or self.labels is None else _counts(self.labels, kind)
        labels = None if found else self.labels
        return {
            "address": volume.address,
            "shape": list(volume.shape),
            "dtype": str(volume.dtype),
            "voxel_size_nm": volume.voxel_size and list(volume.voxel_size),
            "offset_nm": list(volume.offset_nm),
            "threshold": volume.threshold,
            "provenance": dict(volume.provenance) or None,
            "gray_range": self.gray and [self.gray.low, self.gray.high],
            "warnings": (self.gray and self.gray.warnings()) or None,
            "clefts": labels and labels.clefts,
            "cleft_voxels": labels and labels.cleft_voxels,
            "cleft_share": labels and labels.cleft_share,
            "unlabelled_voxels": self.labels and self.labels.unlabelled_voxels,
            "cleft_size_vox_min_median_max": labels and labels.size_vox and list(labels.size_vox),
            "cleft_size_nm3_min_median_max": labels and labels.size_nm3 and list(labels.size_nm3),
            **found,
        }


def _counts(labels: LabelStatistics, kind: str) -> dict[str, Any]:
    """Return the statistics of labels that are no clefts, under names of their own."""
    one = kind.removesuffix("s")
    return {
        kind: labels.clefts,
        f"{one}_voxels": labels.cleft_voxels,
        f"{one}_share": labels.cleft_share,
        f"{one}_size_vox_min_median_max": labels.size_vox and list(labels.size_vox),
        f"{one}_size_nm3_min_median_max": labels.size_nm3 and list(labels.size_nm3),
    }


def describe(address: Address, *, voxel_size_nm: FloatZYX | None = None) -> list[Description]:
    """Describe every array behind an address.

    Integer arrays of at least four bytes a voxel, and those whose name says labels, are taken for labels and
    counted slab by slab. Gray values of raw volumes are measured on a sample. Neither is done where they are remote.

    Args:
        address: A file, or an array in it.
        voxel_size_nm: Voxel size z y x, for formats that carry none.

    Raises:
        InputError: when there is no such file, format or array.

    Example:
        >>> import tempfile
        >>> from cleftnet.volumes import write_volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_volume(Volume(np.ones((4, 5, 6), np.uint8), (40, 4, 4)), f"{folder}/a.hdf")
        ...     [array.to_json()["shape"] for array in describe(f"{folder}/a.hdf")]
        [[4, 5, 6]]
    """
    descriptions = []
    for name in list_arrays(address):
        volume = open_volume(name, voxel_size_nm=voxel_size_nm)
        location = locate(name)[1]
        local = not is_remote(location.path)  # counting would fetch all of a remote volume
        counted = local and holds_labels(volume.dtype, location.inside or Path(location.path).name)
        gray = gray_statistics(volume) if local and _is_raw(volume) else None
        descriptions.append(Description(volume, label_statistics(volume) if counted else None, gray))
    return descriptions


def _is_raw(volume: Volume) -> bool:
    """Return whether an array holds gray values, by its type and the name in its file (none in a TIFF)."""
    try:
        name = locate(volume.address)[1].inside
    except InputError:  # a pattern of TIFFs
        name = ""
    plain = volume.threshold is None and not volume.provenance
    return plain and not holds_labels(volume.dtype, name) and (not name or "raw" in name.lower())
