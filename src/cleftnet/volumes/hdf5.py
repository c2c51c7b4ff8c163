"""One HDF5 dataset as a lazy store.

Geometry is kept as CREMI keeps it, in two attributes of the dataset: `resolution` and, where it is not zero, `offset`,
both nm, z y x (SPEC §5); a probability may have its `threshold`. Voxels are taken as they are; CREMI's own label ids are
the matter of `cleftnet.volumes.cremi`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cleftnet.errors import InputError
from cleftnet.volumes.address import missing
from cleftnet.volumes.attributes import read_lengths, read_threshold
from cleftnet.volumes.volume import Array, Volume


@dataclass(frozen=True)
class Hdf5Store:
    """The voxels of one dataset, read box by box.

    The file is opened at the first use and stays open. Only the address is pickled, so that a volume can travel to
    worker processes, each of which opens the file for itself; forked ones may go on with the handle they inherit, since
    HDF5 reads by position and shares no file pointer.

    Args:
        path: The file, absolute.
        dataset: The name of the dataset inside.
    """

    path: str
    dataset: str

    @cached_property
    def _handle(self) -> h5py.Dataset:
        return find_dataset(open_hdf5_file(Path(self.path)), self.dataset)

    def __reduce__(self) -> tuple[type[Hdf5Store], tuple[str, str]]:
        return Hdf5Store, (self.path, self.dataset)

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""
        return tuple(self._handle.shape or ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel, in this machine's byte order."""
        native: np.dtype[Any] = self._handle.dtype.newbyteorder("=")
        return native

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the dataset."""
        return dict(self._handle.attrs)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        """Read one box.

        Raises:
            InputError: when the file is damaged there.
        """
        try:
            return np.asarray(self._handle[index], self.dtype)
        except OSError as error:
            where = ",".join(f"{s.start}:{s.stop}" for s in index)
            raise InputError(
                f"{self.path}/{self.dataset} cannot be read at {where} ({_first_line(error)}); the file is damaged there: "
                f"fetch it again"
            ) from error


def open_hdf5(path: Path, dataset: str) -> Volume:
    """Open one dataset of an HDF5 file as a volume, values as they are.

    Raises:
        InputError: when the file or the dataset is not there, is damaged, has not three axes, or its geometry makes no sense.
    """
    store = Hdf5Store(str(path.absolute()), dataset)
    address = f"{path}/{dataset}"
    if store.dtype.kind not in "biuf":
        raise InputError(f"{address} holds {store.dtype}, not numbers; expected one gray value or label a voxel")
    voxel_size = read_lengths(store.attributes, "resolution", address)
    if voxel_size is not None and min(voxel_size) <= 0:
        raise InputError(
            f"{address}: attribute 'resolution' is {voxel_size}; expected three positive lengths in nm, z y x"
        )
    offset_nm = read_lengths(store.attributes, "offset", address) or (0.0, 0.0, 0.0)
    return Volume(store, voxel_size, offset_nm, address, read_threshold(store.attributes, address))


def open_hdf5_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        InputError: when it is not there, is no HDF5 file, is cut short, or may not be read.
    """
    if not path.exists():
        raise missing(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected an HDF5 file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "it is no HDF5 file" if _is_other_format(path) else _first_line(error)
        raise InputError(
            f"{path} cannot be opened as HDF5: {reason}; check that it was copied or downloaded whole"
        ) from None


def find_dataset(file: h5py.File, dataset: str) -> h5py.Dataset:
    """Return a dataset of an open file.

    Raises:
        InputError: when it is not there; the message lists the datasets of three axes that are.
    """
    found = file.get(dataset)
    if isinstance(found, h5py.Dataset):
        return found
    known = array_names(file)
    there = f"it has {', '.join(known)}" if known else "it has no dataset of three axes"
    raise InputError(f"{file.filename} has no dataset '{dataset}'; {there}")


def array_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets of three axes in an open file, sorted."""
    names: list[str] = []

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) == 3:
            names.append(name)

    file.visititems(collect)
    return sorted(names)


def _is_other_format(path: Path) -> bool:
    try:
        return not h5py.is_hdf5(path)
    except OSError:
        return False


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
