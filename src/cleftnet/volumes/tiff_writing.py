"""New TIFF stacks, one file or one file a slice, uncompressed so that their boxes can be written in any order.

Voxel size and offset are written as ImageJ keeps them (`spacing`, `unit`, `xorigin` and the resolution tags), so Fiji shows
them too, for the types that it knows (uint8, uint16, float32).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.slabs import WritableStore
from cleftnet.volumes.tiff import is_pattern
from cleftnet.volumes.volume import Array

_CLASSIC_BYTES = 2**32 - 2**25  # above this only BigTIFF holds the stack


@contextmanager
def new_tiff(path: Path, overwrite: bool = False) -> Iterator[NewTiff]:
    """Yield a TIFF to be filled, which takes its place when the body succeeds and vanishes when it fails.

    Args:
        path: A file such as `out.tif`, or a series such as `out/*.tif`, whose star becomes the number of the slice.
        overwrite: Whether the file, or the series with its folder, may be there already.

    Raises:
        InputError: when the output exists and may not be replaced, or a series has no folder of its own.

    Example:
        >>> import tempfile
        >>> from cleftnet.volumes.tiff import open_tiff
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with new_tiff(Path(folder, "out.tif")) as new:
        ...         made = new.create("raw", (4, 5, 6), np.uint8, voxel_size_nm=(40, 4, 4))
        ...         made[0:1, 0:5, 0:6] = 7
        ...     volume = open_tiff(Path(folder, "out.tif"))
        ...     volume.voxel_size, int(volume.read().sum())
        ((40.0, 4.0, 4.0), 210)
    """
    if not is_pattern(path):
        with replacing(path, overwrite) as temporary:
            yield NewTiff(temporary)
        return
    if path.name.count("*") != 1 or "?" in path.name:
        raise InputError(f"{path} does not say where the number of a slice goes; write one star, as in out/*.tif")
    others = (
        [p.name for p in path.parent.iterdir() if not fnmatchcase(p.name, path.name)] if path.parent.is_dir() else []
    )
    if others:
        raise InputError(
            f"{path.parent} holds other things ({others[0]}); a series needs a folder of its own: choose another name"
        )
    with replacing(path.parent, overwrite) as temporary:
        temporary.mkdir()
        yield NewTiff(temporary / path.name)


@dataclass(frozen=True)
class NewTiff:
    """A TIFF file, or a series of them, in which one array can be created."""

    path: Path

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
        """Create the one array that a TIFF holds; bool is stored as uint8.

        Args:
            name: Not kept, since a TIFF has no names.
            shape: Sides in voxels, z y x.
            dtype: The type of one voxel.
            voxel_size_nm: Voxel size, z y x, or None.
            offset_nm: Position of the first voxel, z y x; kept only together with a voxel size.
            threshold: Not kept.

        Raises:
            InputError: when there is an array already.
        """
        z, y, x = shape
        width = len(str(max(0, z - 1)))
        series = is_pattern(self.path)
        files = (
            [self.path.with_name(self.path.name.replace("*", f"{n:0{width}d}")) for n in range(z)]
            if series
            else [self.path]
        )
        if files[0].exists():
            raise InputError(f"a TIFF holds one array and cannot take {name} as well; choose an output ending in .hdf")
        stored = np.dtype(np.uint8) if np.dtype(dtype) == np.bool_ else np.dtype(dtype)
        sides = (1 if series else z, y, x)
        for file in files:
            offset = _create_file(file, sides, stored, voxel_size_nm, offset_nm)
        if series:
            return NewSlices(tuple(map(str, files)), offset, (z, y, x), stored)
        return np.memmap(files[0], stored, "r+", offset, sides)


@dataclass(frozen=True)
class NewSlices:
    """The slices of a series being written, one file each, mapped into memory while one box is written."""

    files: tuple[str, ...]
    offset: int  # of the voxels in every file: all have the same header
    shape: IntZYX
    dtype: np.dtype[Any]

    def _plane(self, file: str) -> Array:
        return np.memmap(file, self.dtype, "r+", self.offset, self.shape[1:])

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Read one box of what has been written."""
        z, y, x = index
        return np.stack([self._plane(file)[y, x] for file in self.files[z]])

    def __setitem__(self, index: tuple[slice, slice, slice], values: Any) -> None:
        """Write one box."""
        z, y, x = index
        for file, plane in zip(self.files[z], values, strict=True):
            self._plane(file)[y, x] = plane


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
        resolution = (1 / voxel_size_nm[2], 1 / voxel_size_nm[1])
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
