"""MRC files, read: the format of IMOD, SerialEM and electron tomography.

Format: MRC2014 (https://www.ccpem.ac.uk/mrc_format/mrc2014.php). Lengths in the header are ångström. The header is parsed by
mrcfile (the extra `mrc`); voxels are mapped into memory, so that only the indexed ones are read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.address import Location, missing
from cleftnet.volumes.metadata import LayoutSettings, NewArrays
from cleftnet.volumes.tiff import ContiguousStore
from cleftnet.volumes.volume import Array, Slices, Store, Volume

ENDINGS = (".mrc", ".rec", ".map")
OPTIONS: tuple[str, ...] = ()

_HEADER_BYTES = 1024
_NM_PER_ANGSTROM = 0.1
_IMOD_AT, _IMOD_STAMP = 152, 1146047817  # where IMOD stamps a file; its flags follow
_SIGNED_BYTES = 1  # without this flag, voxels of one byte in a stamped file are unsigned


@dataclass(frozen=True)
class TransposedStore:
    """A store with its axes in another order.

    Args:
        store: The voxels as they are in the file.
        axes: For z, y and x the axis of the file.
    """

    store: ContiguousStore
    axes: IntZYX

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        z, y, x = (self.store.shape[axis] for axis in self.axes)
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        return self.store.dtype

    def __getitem__(self, index: Slices) -> Array:
        """Read one box."""
        z, y, x = (index[self.axes.index(axis)] for axis in range(3))
        return self.store[z, y, x].transpose(self.axes)


def open_mrc(location: Location, default: Sequence[str] = ()) -> Volume:
    """Open an MRC file as a volume: voxel size and origin from its header, axes z y x whatever their order in the file.

    Args:
        location: The file.
        default: Not used, since an MRC file holds one array.

    Raises:
        InputError: when mrcfile is not installed, the file is missing, damaged or cut short, or holds complex numbers or
            several volumes.
    """
    path = Path(location.path)
    if location.inside:
        raise InputError(f"{path} is an MRC file and holds one array; leave out /{location.inside}")
    if importlib.util.find_spec("mrcfile") is None:
        raise InputError(
            f"{path}: MRC files need mrcfile, which is not installed; pip install 'cleftnet[mrc]', or convert the file"
        )
    if not path.exists():
        raise missing(path)
    header = _header(path)
    shape = _shape(header, path)
    store = ContiguousStore(str(path.absolute()), _HEADER_BYTES + int(header.nsymbt), shape, _stored(header, path))
    if path.stat().st_size < store.offset + int(np.prod(shape)) * store.dtype.itemsize:
        raise InputError(f"{path} is cut short: it ends before its last section; copy or download it again")
    size, origin_nm = _place(header)
    return Volume(_in_zyx(store, header, path), size, origin_nm, str(path))


def _header(path: Path) -> Any:
    import mrcfile

    try:
        with mrcfile.open(path, mode="r", header_only=True) as file:
            return file.header
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as MRC ({error}); check that it is one, and whole") from None


def _shape(header: Any, path: Path) -> IntZYX:
    """Return sections, rows and columns."""
    shape = int(header.nz), int(header.ny), int(header.nx)
    if min(shape) < 1:
        raise InputError(f"{path} says that it has {shape} sections, rows and columns; it is damaged: copy it again")
    if int(header.ispg) > 400 and int(header.mz) != int(header.nz):
        raise InputError(
            f"{path} holds {int(header.nz) // max(1, int(header.mz))} volumes; expected one: save it alone"
        )
    return shape


def _stored(header: Any, path: Path) -> str:
    """Return the type of one voxel as it is in the file, byte order included."""
    import mrcfile.utils

    try:
        dtype = np.dtype(mrcfile.utils.dtype_from_mode(header.mode)).newbyteorder(header.mode.dtype.byteorder)
    except ValueError as error:
        raise InputError(f"{path} has voxels of an unknown type ({error}); save it as bytes, 16-bit or float") from None
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds {dtype} values; expected gray values: save it as bytes, 16-bit or float")
    order: Literal["big", "little"] = "big" if header.mode.dtype.byteorder == ">" else "little"
    whole = header.tobytes()
    stamp, flags = (int.from_bytes(whole[at : at + 4], order) for at in (_IMOD_AT, _IMOD_AT + 4))
    if dtype.itemsize == 1 and stamp == _IMOD_STAMP and not flags & _SIGNED_BYTES:
        return "u1"
    return str(dtype.str)


def _place(header: Any) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size (None where the header has none) and the position of the first voxel, in nm."""
    lengths = [float(header.cella[axis]) for axis in "zyx"]
    intervals = [int(header.mz), int(header.my), int(header.mx)]
    if min(lengths) <= 0 or min(intervals) <= 0:
        return None, (0.0, 0.0, 0.0)
    z, y, x = (_NM_PER_ANGSTROM * length / n for length, n in zip(lengths, intervals, strict=True))
    origin_z, origin_y, origin_x = (_NM_PER_ANGSTROM * float(header.origin[axis]) for axis in "zyx")
    return (z, y, x), (origin_z, origin_y, origin_x)


def _in_zyx(store: ContiguousStore, header: Any, path: Path) -> Store:
    """Return the store with axes z y x: the header tells which of x (1), y (2) and z (3) sections, rows and columns are."""
    named = [int(header.maps), int(header.mapr), int(header.mapc)]
    if named == [0, 0, 0]:  # old files leave them out
        named = [3, 2, 1]
    if sorted(named) != [1, 2, 3]:
        raise InputError(f"{path} names its axes {named}; expected 1, 2 and 3: it is damaged")
    axes = (named.index(3), named.index(2), named.index(1))
    return store if axes == (0, 1, 2) else TransposedStore(store, axes)


def list_mrc(location: Location) -> list[Location]:
    """Return the location, whose file holds one array.

    Raises:
        InputError: when it cannot be opened.
    """
    open_mrc(location)
    return [location]


def new_mrc(path: str, overwrite: bool, layout: LayoutSettings) -> AbstractContextManager[NewArrays]:
    """Refuse to write an MRC file: the format has neither 64-bit labels nor probabilities of its own.

    Raises:
        InputError: always.
    """
    raise InputError(f"{path}: MRC files are read and not written; choose an output ending in .hdf, .zarr or .tif")
