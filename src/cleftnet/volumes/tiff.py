"""TIFF: a multi-page file, or a series of files with one slice each, read slice by slice and only where asked.

Voxel size, and the place of the first voxel, are read where the file gives them with a unit: ImageJ's `spacing`, `unit`,
`xorigin` and resolution tags, or OME-XML's `PhysicalSize`. A plain TIFF carries neither. Values are taken as stored, also
where the file has a palette or says that white is zero.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.address import missing
from cleftnet.volumes.volume import Array, Store, Volume

ENDINGS = (".tif", ".tiff")

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it says of damaged files, our errors say

_NM = {"nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "\\u00b5m": 1e3, "micron": 1e3}
_NM |= {"microns": 1e3, "micrometer": 1e3, "micrometers": 1e3, "mm": 1e6}


@dataclass(frozen=True)
class ContiguousStore:
    """Uncompressed slices one after the other in a file: mapped into memory, so only what is asked for is read."""

    path: str
    offset: int
    shape: IntZYX
    stored: str  # the type of one voxel as it is in the file, byte order included

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel, in this machine's byte order."""
        return np.dtype(self.stored).newbyteorder("=")

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Read one box."""
        with _readable(self.path):
            return np.array(np.memmap(self.path, self.stored, "r", self.offset, self.shape)[index], self.dtype)


@dataclass(frozen=True)
class PagesStore:
    """One page of a TIFF file for every z; files are opened for each read, so that threads and forks share no handle."""

    pages: tuple[tuple[str, int], ...]
    plane: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        return len(self.pages), *self.plane

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Read one box, opening only the files and pages of its slices."""
        z, y, x = index
        slices = []
        for path, group in itertools.groupby(self.pages[z], key=lambda page: page[0]):
            with _readable(path), tifffile.TiffFile(path) as file:
                for _, number in group:
                    page = file.pages[number]
                    values = page.asarray(out="memmap") if page.is_memmappable else page.asarray()
                    slices.append(np.array(values[y, x], self.dtype))
        rows, columns = (len(range(*s.indices(side))) for s, side in zip((y, x), self.plane, strict=True))
        return np.stack(slices) if slices else np.empty((0, rows, columns), self.dtype)


def open_tiff(path: Path) -> Volume:
    """Open a multi-page TIFF, a pattern such as `stack/*.tif`, or a folder of TIFFs as a volume.

    The slices of a series come in natural order (2 before 10) and must agree in shape and type.

    Raises:
        InputError: when nothing is there, a file is damaged, is RGB or holds more than one stack, or a slice differs.
    """
    if path.is_dir() or is_pattern(path):
        return _open_series(path)
    if not path.exists():
        raise missing(path)
    with _readable(str(path)), tifffile.TiffFile(path) as file:
        _check_pages(file, path)
        stack, *others = file.series
        kind = _gray(stack.keyframe, path)
        if others:
            odd = others[0].keyframe
            raise InputError(
                f"{path}: page {odd.index} is {_gray(odd, path)}, the first is {kind}; expected slices of one shape and type"
            )
        longer = [axis for axis, side in zip(stack.axes, stack.shape, strict=True) if axis not in "YX" and side > 1]
        if len(longer) > 1:
            raise InputError(f"{path} has axes {stack.axes} {stack.shape}; expected one stack z y x")
        voxel_size, offset_nm = _geometry(file)
        shape = (int(stack.size) // (kind.height * kind.width), kind.height, kind.width)
        store: Store
        if stack.dataoffset is not None:
            store = ContiguousStore(str(path.absolute()), stack.dataoffset, shape, file.byteorder + kind.dtype.char)
            _check_end(path, stack.dataoffset + stack.nbytes)
        else:
            numbers = [page.index for page in stack.pages if page is not None and page.parent is file]
            if len(numbers) != shape[0]:
                raise InputError(f"{path} refers to slices in other files; name them as a series, such as stack/*.tif")
            store = PagesStore(tuple((str(path.absolute()), n) for n in numbers), shape[1:], kind.dtype)
    return Volume(store, voxel_size, offset_nm, str(path))


def _open_series(pattern: Path) -> Volume:
    paths = _slices_of(pattern)
    with _readable(str(paths[0])), tifffile.TiffFile(paths[0]) as file:
        first = _gray(file.pages.first, paths[0])
        voxel_size, offset_nm = _geometry(file)
    for path in paths:
        with _readable(str(path)), tifffile.TiffFile(path) as file:
            if len(file.pages) != 1:
                raise InputError(f"{path} holds {len(file.pages)} slices; expected one in every file of a series")
            _check_pages(file, path)
            slice_ = _gray(file.pages.first, path)
            if slice_ != first:
                raise InputError(
                    f"{path} is {slice_}, but {paths[0]} is {first}; expected slices of one shape and type"
                )
    store = PagesStore(tuple((str(path.absolute()), 0) for path in paths), (first.height, first.width), first.dtype)
    return Volume(store, voxel_size, offset_nm, str(pattern))


def _slices_of(pattern: Path) -> list[Path]:
    """Return the files of a series in natural order."""
    folder, name = (pattern, "*") if pattern.is_dir() else (pattern.parent, pattern.name.replace("[", "[[]"))
    if not folder.is_dir():
        raise missing(folder)
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and fnmatchcase(p.name, name)]
    paths = [path for path in found if path.suffix.lower() in ENDINGS]
    if not paths:
        there = sorted(entry.name for entry in folder.iterdir())[:5]
        raise InputError(f"no TIFF file matches {pattern}; the folder holds {', '.join(there) or 'nothing'}")
    return sorted(
        paths,
        key=lambda path: (
            [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)],
            path.name,
        ),
    )


def is_pattern(path: Path) -> bool:
    """True when the last part of the path stands for several files, such as `*.tif`."""
    return "*" in path.name or "?" in path.name


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn whatever a damaged or vanished TIFF raises into one clear line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise missing(Path(path)) from None
    except (tifffile.TiffFileError, OSError, ValueError, RuntimeError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as TIFF ({reason}); check that it is one, and whole") from error


def _check_pages(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse a file that ends before its last page does, which tifffile would take for a shorter stack."""
    for page in file.pages:
        _check_end(path, page.dataoffsets[-1] + page.databytecounts[-1])
    handle, tiff = file.filehandle, file.tiff
    handle.seek(page.offset)
    (tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    handle.seek(tags * tiff.tagsize, os.SEEK_CUR)
    (next_page,) = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))
    _check_end(path, next_page)


def _check_end(path: Path, end: int) -> None:
    if end > path.stat().st_size:
        raise InputError(f"{path} is cut short: it ends before its last slice; copy or download it again")


@dataclass(frozen=True)
class _Slice:
    """What all slices of a stack must agree in."""

    height: int
    width: int
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.height}×{self.width} {self.dtype}"


def _gray(page: tifffile.TiffPage, path: Path) -> _Slice:
    """Return the shape and type of a page, which must have one channel."""
    if page.axes != "YX":
        what = (
            f"is RGB or has {page.samplesperpixel} channels" if "S" in page.axes else f"has pages with axes {page.axes}"
        )
        raise InputError(f"{path} {what}; expected gray slices: convert it, in Fiji with Image > Type > 8-bit")
    if page.dtype is None or page.dtype.kind not in "biuf":
        raise InputError(
            f"{path} holds voxels of {page.bitspersample} bits, of no type we know; save it as 8 or 16 bit"
        )
    height, width = page.shape
    return _Slice(height, width, page.dtype)


def _geometry(file: tifffile.TiffFile) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size and offset in nm, z y x, where the file gives all three sizes with a unit."""
    zero = (0.0, 0.0, 0.0)
    if file.is_ome:
        return _ome_voxel_size(file.ome_metadata or ""), zero
    metadata = file.imagej_metadata or {}
    nm = _NM.get(str(metadata.get("unit", "")).strip().lower())
    tags = file.pages.first.tags
    if nm is None or "spacing" not in metadata or "XResolution" not in tags or "YResolution" not in tags:
        return None, zero
    (x_count, x_length), (y_count, y_length) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_count and x_length and y_count and y_length and float(metadata["spacing"]) > 0):
        return None, zero
    size = (float(metadata["spacing"]) * nm, y_length / y_count * nm, x_length / x_count * nm)
    z, y, x = (-float(metadata.get(f"{a}origin", 0)) * side + 0.0 for a, side in zip("zyx", size, strict=True))
    return size, (z, y, x)


def _ome_voxel_size(xml: str) -> FloatZYX | None:
    """Return OME's `PhysicalSizeZ`, `Y`, `X` in nm (OME-XML schema 2016-06: µm where no unit is given)."""
    try:
        pixels = ET.fromstring(xml).find("{*}Image/{*}Pixels")
    except ET.ParseError:
        return None
    if pixels is None:
        return None
    sizes = []
    for axis in "ZYX":
        nm = _NM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        if nm is None or not value > 0 or math.isinf(value):
            return None
        sizes.append(value * nm)
    z, y, x = sizes
    return z, y, x
