"""From a volume to a file of any format: new files and arrays, arrays to be written by many processes, and conversion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Address, Location, is_remote
from cleftnet.volumes.chunked import ChunkedStore, WritableVolume, forget_opened
from cleftnet.volumes.cremi import write_cremi
from cleftnet.volumes.labels import check_ids
from cleftnet.volumes.metadata import CLEFTS_NAME, PROBABILITY_NAME, RAW_NAME, ArraySpec, LayoutSettings, NewArrays
from cleftnet.volumes.ome_labels import LabelPlace, new_labels
from cleftnet.volumes.opening import LABELS, PREDICTION, RAW, Format, locate, open_volume
from cleftnet.volumes.pyramid import Pyramid
from cleftnet.volumes.volume import Array, Progress, Slices, Store, Volume, copy_into


@contextmanager
def create_volumes(
    address: Address, overwrite: bool = False, layout: LayoutSettings | None = None
) -> Iterator[NewArrays]:
    """Begin a new file in the format of its ending; it appears when the body succeeds, and vanishes when it fails.

    Args:
        address: The file, such as `out.hdf`, without an array inside.
        overwrite: Whether a file already there may be replaced.
        layout: How its arrays lie on disk; the format's own way, when None.

    Raises:
        InputError: when the format is unknown or does not understand the layout, or the output exists.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create_volumes(f"{folder}/out.hdf") as new:
        ...         spec = ArraySpec("volumes/probability", (4, 5, 6), "uint8", voxel_size_nm=(40, 4, 4))
        ...         new.create(spec)[0:4, 0:5, 0:6] = 128
        ...     open_volume(f"{folder}/out.hdf", default=PREDICTION).shape
        (4, 5, 6)
    """
    row, location = locate(address, new=True)
    if location.inside:
        raise InputError(f"{location} names an array inside a file; name the output file alone: {location.path}")
    forget_opened()
    with row.create(location.path, overwrite, _checked(layout, row)) as new:
        yield new


def open_writable(address: Address, *, default: tuple[str, ...] = RAW) -> WritableVolume:
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
        ...     with create_volumes(f"{folder}/out.zarr", layout=LayoutSettings(chunk=(2, 4, 4))) as new:
        ...         _ = new.create(ArraySpec("volumes/probability", (4, 8, 8), "uint8", voxel_size_nm=(40, 4, 4)))
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
    layout: LayoutSettings | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a volume to a new file of any format, slab by slab.

    Values stay as they are, as do voxel size, offset, threshold and provenance; TIFF and MRC keep neither of the last two.
    Where a container of several arrays is there already, it is replaced only as a whole. Below an OME-Zarr image that is there,
    `vol.zarr/labels/NAME` adds a label image to it.

    Args:
        volume: The volume to write.
        address: Where to, such as `out.hdf/volumes/raw`, `out.zarr`, `precomputed://out`, `out.tif` or `out/*.tif`.
        default: The dataset's name where the address names only the file.
        overwrite: Whether a file already there may be replaced.
        layout: How the array lies on disk; the format's own way, when None.
        progress: Called after every slab with the number of voxels done and of all voxels; with a pyramid, first for the array
            and then for its lower resolutions.

    Raises:
        InputError: when the format is unknown or cannot hold such an array, or the output exists.
    """
    row, location = locate(address, new=True)
    place = LabelPlace.of(location) if row.name == "Zarr" else None
    if overwrite and row.folder and location.inside and place is None:
        _check_no_others(row, location)
    checked = _checked(layout, row)
    made = row.create(location.path, overwrite, checked) if place is None else new_labels(place, overwrite, checked)
    with made as new:
        target = new.create(ArraySpec.copying(volume, location.inside or default))
        copy_into(volume, target, progress=progress)
        if isinstance(target, Pyramid):
            target.fill(progress)


def _checked(layout: LayoutSettings | None, row: Format) -> LayoutSettings:
    """Return the layout, after checking that the format understands every field that is set."""
    layout = layout or LayoutSettings()
    for name, value in layout:
        if value not in (None, False) and name not in row.options:
            fit = f"only {', '.join(row.options)}" if row.options else "none of its kind"
            raise InputError(f"{row.name} has no option '{name}', {fit}; leave it out or choose another format")
    return layout


def _check_no_others(row: Format, location: Location) -> None:
    """Check that replacing a container for one array does not remove other arrays."""
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


def convert(
    source: Address,
    target: Address,
    *,
    labels: bool = False,
    voxel_size_nm: FloatZYX | None = None,
    layout: LayoutSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the array at one address to another, slab by slab, in the format of the other's address.

    Into HDF5, uint8 raw and labels become a CREMI file, with its attributes and its label ids (background 2^64-1), unless the
    target names a dataset of its own (`out.hdf/my/labels`); a probability keeps its name and its threshold. Everywhere else the
    background of labels is 0; in Zarr and N5 they become `volumes/labels/clefts`, uint64, unless the target names an array.

    Args:
        source: The array to read: a CREMI file alone means its raw, or a prediction's probability.
        target: Where to write: `out.hdf`, `out.hdf/some/dataset`, `out.zarr`, `out.n5/raw`, `precomputed://out`, `out.tif`,
            `out/*.tif`, or `vol.zarr/labels/NAME` to add a label image to an OME-Zarr that is there.
        labels: Take the labels of the source, and its values for cleft ids; integers of four bytes and more, masks of bools and
            CREMI's own labels are taken for ids anyway.
        voxel_size_nm: Voxel size z y x, for sources that carry none.
        layout: How the array lies on disk: chunks, version of Zarr, a pyramid of lower resolutions.
        overwrite: Whether a target already there may be replaced.
        progress: Called after every slab with the number of voxels done and of all voxels.

    Raises:
        InputError: when the source cannot be read, the target exists or has an unknown format, or the format cannot hold it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_volume(Volume(np.array([[[0, 7]]], np.uint8), (40, 4, 4)), f"{folder}/mask.tif")
        ...     convert(f"{folder}/mask.tif", f"{folder}/A.hdf", labels=True, voxel_size_nm=(40, 4, 4))
        ...     open_volume(f"{folder}/A.hdf", default=LABELS).read().tolist()
        [[[0, 7]]]
    """
    volume = open_volume(source, default=LABELS if labels else (*RAW, *PREDICTION), voxel_size_nm=voxel_size_nm)
    row, location = locate(target, new=True)
    name = CLEFTS_NAME if labels or _holds_ids(volume) else RAW_NAME
    if volume.threshold is not None or volume.address.endswith(f"/{PROBABILITY_NAME}"):
        name = PROBABILITY_NAME
    if labels and row.name == "Zarr" and LabelPlace.of(location) is not None:
        name = CLEFTS_NAME
    if name == CLEFTS_NAME and row.folder and (location.inside in ("", name) or location.inside.startswith("labels/")):
        volume = replace(volume, store=_Ids(volume.store, volume.address))
    # CREMI's layout has a place for uint8 raw and for labels
    fits_cremi = name == CLEFTS_NAME or (name == RAW_NAME and volume.dtype == np.uint8)
    if row.name != "HDF5" or location.inside not in ("", name) or not fits_cremi:
        write_volume(volume, target, default=name, layout=layout, overwrite=overwrite, progress=progress)
        return
    raw, clefts = (volume, None) if name == RAW_NAME else (None, volume)
    write_cremi(location.path, raw, clefts, layout=_checked(layout, row), overwrite=overwrite, progress=progress)


@dataclass(frozen=True)
class _Ids:
    """Labels of any integer type, as the uint64 ids that label files hold."""

    store: Store
    address: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint64)

    def __getitem__(self, index: Slices) -> Array:
        ids = np.asarray(self.store[index])
        check_ids(ids, self.address)
        return ids.astype(np.uint64)


def _holds_ids(volume: Volume) -> bool:
    wide = volume.dtype.kind in "iu" and volume.dtype.itemsize >= 4  # gray values come in one byte or two
    return wide or volume.dtype == np.bool_ or volume.address.endswith(f"/{CLEFTS_NAME}")
