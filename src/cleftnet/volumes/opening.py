"""From an address to a volume, and from an address to a new file, whatever the format: that is in `formats`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Address, Location
from cleftnet.volumes.chunked.arrays import ChunkedStore, WritableVolume
from cleftnet.volumes.chunked.pyramid import Pyramid
from cleftnet.volumes.chunked.storage import is_remote
from cleftnet.volumes.formats import Format, NewArrays, locate
from cleftnet.volumes.layout import CLEFTS_NAME, PROBABILITY_NAME, RAW_NAME, Layout
from cleftnet.volumes.slabs import Progress, copy_into
from cleftnet.volumes.volume import Array, Volume

RAW, LABELS, PREDICTION = (RAW_NAME,), (CLEFTS_NAME,), (PROBABILITY_NAME, CLEFTS_NAME)


def open_volume(address: Address, *, default: Sequence[str] = RAW, voxel_size_nm: FloatZYX | None = None) -> Volume:
    """Open the array that an address names; nothing but its shape is read until a box is asked for.

    Labels of a CREMI file come in house ids (background 0).

    Args:
        address: Such as `A.hdf`, `A.hdf/volumes/raw`, `vol.zarr`, `vol.n5/raw/s0`, `precomputed://gs://bucket/vol`,
            `stack.tif`, `stack/*.tif` or a folder of TIFFs; `~` and `$NAME` are expanded.
        default: Datasets to try in turn where the address names a file of several: `RAW`, `LABELS` or `PREDICTION`.
        voxel_size_nm: Voxel size, z y x, for formats that carry none; where the file carries one it must be the same.

    Raises:
        InputError: when there is no such file, format or array, a server does not answer, or the voxel size contradicts the
            file's own.

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
        >>> import numpy as np
        >>> as_volume(np.zeros((4, 5, 6), np.uint8), voxel_size_nm=(40, 4, 4)).voxel_size_nm
        (40.0, 4.0, 4.0)
    """
    if isinstance(source, str | os.PathLike):
        return open_volume(source, default=default, voxel_size_nm=voxel_size_nm)
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "biuf":
            raise InputError(f"the array holds {source.dtype}, not numbers; expected one gray value or label a voxel")
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
            f"voxel_size_nm=({z:g}, {y:g}, {x:g}); leave voxel_size_nm=... out, or correct the file"
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
def create_volumes(address: Address, overwrite: bool = False, layout: Layout | None = None) -> Iterator[NewArrays]:
    """Begin a new file in the format of its ending; it appears when the body succeeds, and vanishes when it fails.

    Args:
        address: The file, such as `out.hdf`, without an array inside.
        overwrite: Whether a file already there may be replaced.
        layout: How its arrays shall lie on disk; each format's own way, when None.

    Raises:
        InputError: when the format is unknown or cannot lie that way, or the output exists.

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
    with row.create(location.path, overwrite, fitting(layout, row)) as new:
        yield new


def open_writable(address: Address, *, default: Sequence[str] = RAW) -> WritableVolume:
    """Open an array that exists for writing, from any number of processes at once; each opens it for itself.

    Create the array first (`create_volumes`), in one process. Processes may write at the same time as long as no two write
    into one chunk: cut the volume at multiples of `chunk_shape`. A box is on disk when its assignment returns.

    Args:
        address: An array of a Zarr, N5 or precomputed volume.
        default: Arrays to try in turn where the address names a file of several.

    Raises:
        InputError: when there is no such array, or its format cannot be written by several processes.

    Example:
        >>> import tempfile
        >>> from cleftnet.geometry import Box
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create_volumes(f"{folder}/out.zarr", layout=Layout(chunk=(2, 4, 4))) as new:
        ...         _ = new.create("volumes/probability", (4, 8, 8), "uint8", voxel_size_nm=(40, 4, 4))
        ...     target = open_writable(f"{folder}/out.zarr/volumes/probability")
        ...     target[Box((0, 4, 0), (2, 8, 8))] = 128
        ...     target.chunk_shape, int(target.volume.read().sum())
        ((2, 4, 4), 8192)
    """
    volume = open_volume(address, default=default)
    if not isinstance(volume.store, ChunkedStore):
        raise InputError(f"{volume.address} can be written by one process only; choose an output ending in .zarr")
    return WritableVolume(volume, volume.store.chunk_shape)


def write_volume(
    volume: Volume,
    address: Address,
    *,
    default: str = RAW_NAME,
    overwrite: bool = False,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a volume to a new file of any format, slab by slab: values as they are, and voxel size, offset and threshold.

    A TIFF keeps no threshold. Where a container of several arrays is there already, it is replaced only as a whole.

    Args:
        volume: What to write.
        address: Where to, such as `out.hdf/volumes/raw`, `out.zarr`, `precomputed://out`, `out.tif` or `out/*.tif`.
        default: The dataset's name where the address names only the file.
        overwrite: Whether a file already there may be replaced.
        layout: How the array shall lie on disk; the format's own way, when None.
        progress: Called after every slab with the voxels done and the voxels in all; with a pyramid then the same for that.

    Raises:
        InputError: when the format is unknown or cannot hold such an array, or the output exists.
    """
    row, location = locate(address, new=True)
    if overwrite and row.folder and location.inside:
        _refuse_others(row, location)
    with row.create(location.path, overwrite, fitting(layout, row)) as new:
        target = new.create(
            location.inside or default,
            volume.shape,
            volume.dtype,
            voxel_size_nm=volume.voxel_size,
            offset_nm=volume.offset_nm,
            threshold=volume.threshold,
        )
        copy_into(volume, target, progress=progress)
        if isinstance(target, Pyramid):
            target.fill(progress)


def fitting(layout: Layout | None, row: Format) -> Layout:
    """Return the layout where the format can lie that way."""
    layout = layout or Layout()
    for name in layout.chosen():
        if name not in row.layout:
            fit = f"only {', '.join(row.layout)}" if row.layout else "none of its kind"
            raise InputError(f"{row.name} has no option '{name}', {fit}; leave it out or choose another format")
    return layout


def _refuse_others(row: Format, location: Location) -> None:
    """Replacing a container for the sake of one array must not take other arrays with it."""
    container = Location(location.path)
    if is_remote(location.path):
        raise InputError(f"{location} would replace all of {location.path}; name {location.path} alone to do so")
    try:
        others = [a.inside for a in row.arrays(container) if not f"{a.inside}/".startswith(f"{location.inside}/")]
    except InputError:  # nothing there yet
        return
    if others:
        raise InputError(
            f"{location.path} holds other arrays ({', '.join(others)}), which would go; choose another container, or name "
            f"{location.path} alone to replace it"
        )
