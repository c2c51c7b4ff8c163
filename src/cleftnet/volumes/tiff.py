"""TIFF, read and written: a multi-page file, or a series of files with one slice each.

Voxel size, and the position of the first voxel, are read where the file gives them with a unit: ImageJ's `spacing`, `unit`,
`xorigin` and resolution tags, or OME-XML's `PhysicalSize`. A plain TIFF carries neither. Values are returned as stored, also
where the file has a palette or says that white is zero. New files are uncompressed, so that their boxes can be written in any
order, and carry ImageJ's fields, so that Fiji shows voxel size and offset for the types that it knows (uint8, uint16, float32).
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.address import Location, missing
from cleftnet.volumes.image_limits import check_images, check_page
from cleftnet.volumes.metadata import NM_PER_UNIT, ArraySpec, LayoutSettings
from cleftnet.volumes.ome import read_ome_xml
from cleftnet.volumes.volume import Array, Slices, Store, Volume, WritableStore

ENDINGS = (".tif", ".tiff")
OPTIONS: tuple[str, ...] = ()
_UINT32 = 2**32 - 1
_CLASSIC_BYTES = 2**32 - 2**25  # above this only BigTIFF holds the stack

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # our errors say what it logs about damaged files


@dataclass(frozen=True)
class ContiguousStore:
    """Uncompressed slices one after the other in a file, mapped into memory, so that only the indexed voxels are read."""

    path: str
    offset: int
    shape: IntZYX
    stored: str  # the type of one voxel as it is in the file, byte order included

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel, in this machine's byte order."""
        return np.dtype(self.stored).newbyteorder("=")

    def __getitem__(self, index: Slices) -> Array:
        """Read one box."""
        with _readable(self.path):
            return np.array(np.memmap(self.path, self.stored, "r", self.offset, self.shape)[index], self.dtype)


@dataclass(frozen=True)
class PagesStore:
    """One page of a TIFF file for every z; a file is opened for each read, so that threads and forks share no handle."""

    pages: tuple[tuple[str, int], ...]
    plane: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        return len(self.pages), *self.plane

    def __getitem__(self, index: Slices) -> Array:
        """Read one box, opening only the files and pages of its slices."""
        z, y, x = index
        slices = []
        for path, group in itertools.groupby(self.pages[z], key=lambda page: page[0]):
            with _readable(path), tifffile.TiffFile(path) as file:
                for _, number in group:
                    page = file.pages[number]
                    check_images(page, path)
                    values = page.asarray(out="memmap") if page.is_memmappable else page.asarray()
                    slices.append(np.array(values[y, x], self.dtype))
        rows, columns = (len(range(*s.indices(side))) for s, side in zip((y, x), self.plane, strict=True))
        return np.stack(slices) if slices else np.empty((0, rows, columns), self.dtype)


def open_tiff(location: Location, default: Sequence[str] = ()) -> Volume:
    """Open a multi-page TIFF, a pattern such as `stack/*.tif`, or a folder of TIFFs as a volume.

    The slices of a series come in natural order (2 before 10) and must agree in shape and type.

    Args:
        location: The file, the pattern or the folder.
        default: Not used, since a TIFF holds one array.

    Raises:
        InputError: when there is no such file, one is damaged, is RGB or holds more than one stack, or a slice differs.
    """
    path = Path(location.path)
    if location.inside:
        raise InputError(f"{path} is a TIFF and holds one array; leave out /{location.inside}")
    if path.is_dir() or _is_pattern(path):
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
    matching = [p for p in folder.iterdir() if not p.name.startswith(".") and fnmatchcase(p.name, name)]
    paths = [path for path in matching if path.suffix.lower() in ENDINGS]
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


def list_tiff(location: Location) -> list[Location]:
    """Return the location, whose TIFF holds one array.

    Raises:
        InputError: when it cannot be opened.
    """
    open_tiff(location)
    return [location]


def _is_pattern(path: Path) -> bool:
    """Return whether the last part of a path stands for several files, such as `*.tif`."""
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
    except Exception as error:  # damaged tags make tifffile raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "imagecodecs" in reason:
            raise InputError(f"{path} is compressed; to read it, pip install 'cleftnet[tiff]'") from None
        raise InputError(f"{path} cannot be read as TIFF ({reason}); check that it is one, and whole") from error


def _check_pages(file: tifffile.TiffFile, path: Path) -> None:
    """Check that a file does not end before its last page does; tifffile would read it as a shorter stack."""
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
        raise InputError(f"{path} holds voxels of {page.bitspersample} bits, an unknown type; save it as 8 or 16 bit")
    height, width = page.shape
    check_page(page, path)
    return _Slice(height, width, page.dtype)


def _geometry(file: tifffile.TiffFile) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size and offset in nm, z y x, where the file gives all three sizes with a unit."""
    zero = (0.0, 0.0, 0.0)
    if file.is_ome:
        return read_ome_xml(file.ome_metadata or ""), zero
    metadata = file.imagej_metadata or {}
    nm = NM_PER_UNIT.get(str(metadata.get("unit", "")).strip().lower())
    tags = file.pages.first.tags
    if nm is None or "spacing" not in metadata or "XResolution" not in tags or "YResolution" not in tags:
        return None, zero
    (x_count, x_length), (y_count, y_length) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_count and x_length and y_count and y_length and float(metadata["spacing"]) > 0):
        return None, zero
    size = (float(metadata["spacing"]) * nm, y_length / y_count * nm, x_length / x_count * nm)
    z, y, x = (-float(metadata.get(f"{a}origin", 0)) * side + 0.0 for a, side in zip("zyx", size, strict=True))
    return size, (z, y, x)


@contextmanager
def new_tiff(path: str, overwrite: bool, layout: LayoutSettings) -> Iterator[NewTiff]:
    """Yield a TIFF to be filled, which takes its place when the body succeeds and vanishes when it fails.

    Args:
        path: A file such as `out.tif`, or a series such as `out/*.tif`, whose star becomes the number of the slice.
        overwrite: Whether the file, or the series with its folder, may be replaced.
        layout: Not used, since the format leaves no choice.

    Raises:
        InputError: when the output exists and may not be replaced, or a series has no folder of its own.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with new_tiff(f"{folder}/out.tif", False, LayoutSettings()) as new:
        ...         raw = new.create(ArraySpec("raw", (4, 5, 6), np.uint8, voxel_size_nm=(40, 4, 4)))
        ...         raw[0:1, 0:5, 0:6] = 7
        ...     volume = open_tiff(Location(f"{folder}/out.tif"))
        ...     volume.voxel_size, int(volume.read().sum())
        ((40.0, 4.0, 4.0), 210)
    """
    name, folder = Path(path).name, Path(path).parent
    if not _is_pattern(Path(path)):
        with replacing(Path(path), overwrite) as temporary:
            yield NewTiff(temporary)
        return
    if name.count("*") != 1 or "?" in name:
        raise InputError(f"{path} does not say where the number of a slice goes; write one star, as in out/*.tif")
    others = [p.name for p in folder.iterdir() if not fnmatchcase(p.name, name)] if folder.is_dir() else []
    if others:
        raise InputError(
            f"{folder} holds other things ({others[0]}); a series needs a folder of its own: choose another name"
        )
    with replacing(folder, overwrite) as temporary:
        temporary.mkdir()
        yield NewTiff(temporary / name)


@dataclass(frozen=True)
class NewTiff:
    """A TIFF file, or a series of them, in which one array can be created."""

    path: Path

    def create(self, spec: ArraySpec) -> WritableStore:
        """Create the one array that a TIFF holds; bool is stored as uint8.

        Neither a name nor a threshold is kept, and an offset only together with a voxel size.

        Raises:
            InputError: when there is an array already.
        """
        z, y, x = spec.shape
        width = len(str(max(0, z - 1)))
        series = _is_pattern(self.path)
        names = [self.path.name.replace("*", f"{n:0{width}d}") for n in range(z)] if series else [self.path.name]
        files = [self.path.with_name(name) for name in names]
        if files[0].exists():
            raise InputError(
                f"a TIFF holds one array and cannot take {spec.name} as well; choose an output ending in .hdf"
            )
        stored = np.dtype(np.uint8) if np.dtype(spec.dtype) == np.bool_ else np.dtype(spec.dtype)
        sides = (1 if series else z, y, x)
        for file in files:
            offset = _create_file(file, sides, stored, spec.voxel_size_nm, spec.offset_nm)
        if series:
            return NewSlices(tuple(map(str, files)), offset, (z, y, x), stored)
        return np.memmap(files[0], stored, "r+", offset, sides)


@dataclass(frozen=True)
class NewSlices:
    """The slices of a series being written, one file each, mapped into memory while one box is written."""

    files: tuple[str, ...]
    offset: int  # where the voxels begin in every file; all have the same header
    shape: IntZYX
    dtype: np.dtype[Any]

    def _plane(self, file: str) -> Array:
        return np.memmap(file, self.dtype, "r+", self.offset, self.shape[1:])

    def __getitem__(self, index: Slices) -> Array:
        """Read one box of what has been written."""
        z, y, x = index
        return np.stack([self._plane(file)[y, x] for file in self.files[z]])

    def __setitem__(self, index: Slices, values: Any) -> None:
        """Write one box."""
        z, y, x = index
        for file, plane in zip(self.files[z], values, strict=True):
            self._plane(file)[y, x] = plane


def _per_nm(side_nm: float) -> tuple[int, int]:
    """Return pixels per nm as a TIFF stores them: a fraction of 32-bit integers.

    tifffile 2024.1.30 makes a float a fraction with an error of 1e-9, and takes a fraction as it is.
    """
    side = Fraction(side_nm).limit_denominator(max(1, int((_UINT32 - 1) / max(side_nm, 1))))
    return side.denominator, max(side.numerator, 1)


def _create_file(
    path: Path, shape: IntZYX, dtype: np.dtype[Any], voxel_size_nm: FloatZYX | None, offset_nm: FloatZYX
) -> int:
    """Make one file of zeros, and return where in it the voxels begin."""
    metadata: dict[str, Any] = {}
    resolution = None
    if voxel_size_nm is not None:
        # ImageJ's origin is the voxel that lies at 0 nm, hence the sign
        origins = zip("zyx", offset_nm, voxel_size_nm, strict=True)
        metadata = {f"{axis}origin": -offset / side for axis, offset, side in origins if offset}
        metadata |= {"spacing": float(voxel_size_nm[0]), "unit": "nm"}
        resolution = (_per_nm(voxel_size_nm[2]), _per_nm(voxel_size_nm[1]))
    # the description is given and not left to imwrite, which refuses 64-bit types and takes x for a channel where it is 1
    made = tifffile.imwrite(
        path,
        shape=shape,
        dtype=dtype,
        photometric="minisblack",
        bigtiff=int(np.prod(shape)) * dtype.itemsize >= _CLASSIC_BYTES,
        description=tifffile.imagej_description(shape, axes="ZYX", **metadata),
        metadata=None,
        resolution=resolution,
        resolutionunit="NONE",
        returnoffset=True,
    )
    assert made is not None
    if hasattr(os, "posix_fallocate"):  # claim the space now: a full disk under a memory map kills the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return made[0]
