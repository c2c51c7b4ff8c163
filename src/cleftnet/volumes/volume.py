"""A volume: an array on disk or in memory, axes z y x, read box by box, with its position in nm.

Every format becomes the same `Volume`, so that no other package knows where the voxels come from. What the ids of a label
volume mean is in `cleftnet.volumes.labels`.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import SLAB_CHUNK_VOX, Box, FloatZYX, IntZYX, slabs

Array = npt.NDArray[Any]
Slices = tuple[slice, slice, slice]
Index = Box | SupportsIndex | slice | EllipsisType | tuple[SupportsIndex | slice | EllipsisType, ...]
Progress = Callable[[int, int], None]  # called with the number of voxels done and of all voxels


@runtime_checkable  # pydantic asks for it where settings hold a volume
class Store(Protocol):
    """The voxels behind a volume: a NumPy array, an HDF5 dataset, a stack of TIFFs, anything sliced along z y x."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""

    def __getitem__(self, index: Slices, /) -> Any:
        """Read one box."""


class WritableStore(Store, Protocol):
    """A store whose boxes can be written, in any order."""

    def __setitem__(self, index: Slices, values: Any, /) -> None:
        """Write one box."""


_LARGEST_NM = 1e9  # a voxel of more than a meter, or of less than its inverse, is a mistake that would overflow


@dataclass(frozen=True)
class Volume:
    """A lazily read three-dimensional array with its physical geometry.

    Args:
        store: The voxels; only the boxes that are indexed are read.
        voxel_size: Voxel size in nm, z y x, or None where the format carries none.
        offset_nm: Position of the first voxel in nm, z y x.
        address: The address it was opened from, for messages.
        threshold: The threshold stored with a probability: voxels of at least this value count as cleft.
        provenance: How a prediction was made, as stored with it; empty for other arrays.

    Example:
        >>> vol = Volume(np.zeros((4, 5, 6), np.uint8), voxel_size=(40, 4, 4))
        >>> vol.shape, vol[Box((0, 0, 0), (1, 2, 3))].shape, vol.voxel_size_nm
        ((4, 5, 6), (1, 2, 3), (40, 4, 4))
        >>> vol[0].shape, vol[-2:, :, 1].shape, np.asarray(vol).shape
        ((5, 6), (2, 5), (4, 5, 6))
    """

    store: Store
    voxel_size: FloatZYX | None = None
    offset_nm: FloatZYX = (0.0, 0.0, 0.0)
    address: str = "array"
    threshold: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.store.shape) != 3:
            raise InputError(
                f"{self.address} has shape {tuple(self.store.shape)}; expected three axes z y x (one channel)"
            )
        if self.voxel_size is not None and not all(1 / _LARGEST_NM < v < _LARGEST_NM for v in self.voxel_size):
            raise InputError(f"{self.address}: voxel size {self.voxel_size} nm must be positive on z y x, and a length")
        if not all(abs(v) < _LARGEST_NM**2 for v in self.offset_nm):
            raise InputError(f"{self.address}: offset {self.offset_nm} nm is no length")

    @property
    def shape(self) -> IntZYX:
        """Side lengths in voxels, z y x."""
        z, y, x = self.store.shape
        return int(z), int(y), int(x)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        return np.dtype(self.store.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes, always 3."""
        return 3

    @property
    def size(self) -> int:
        """The number of voxels."""
        return self.box.voxels

    @property
    def box(self) -> Box:
        """The whole volume as a box in its own voxel coordinates."""
        return Box.of(self.shape)

    @property
    def voxel_size_nm(self) -> FloatZYX:
        """Voxel size in nm, z y x.

        Raises:
            InputError: when the format carries none and none was given.
        """
        if self.voxel_size is None:
            raise InputError(f"{self.address} carries no voxel size; give it in nm, z y x: voxel_size_nm=(40, 4, 4)")
        return self.voxel_size

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[z] for z in range(len(self)))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read the whole volume into memory; NumPy calls this in `np.asarray(volume)`."""
        if copy is False and not isinstance(self.store, np.ndarray):
            raise ValueError(f"{self.address} does not lie in memory, so an array of it is always a copy")
        values = np.asarray(self.read(), dtype)
        return values.copy() if copy and values.base is not None else values

    def __getitem__(self, index: Index) -> Array:
        """Read a part of the volume: a box, or what NumPy's basic indexing selects, with steps of 1.

        Args:
            index: A `Box`; or an integer, a slice, or a tuple of them and one `...`, as for a NumPy array. Integers drop their
                axis, negative ones count from the end, and slices end at the border of the volume.

        Raises:
            InputError: when a box or an integer lies outside the volume, or the index is anything else.
        """
        if isinstance(index, Box):
            self._check_inside(index)
            return np.asarray(self.store[index.slices])
        ranges = self._ranges(index)
        z, y, x = (slice(start, stop) for start, stop, _ in ranges)
        sides = [stop - start for start, stop, _ in ranges]
        values = np.asarray(self.store[z, y, x]) if all(sides) else np.empty(sides, self.dtype)
        kept = tuple(0 if dropped else slice(None) for _, _, dropped in ranges)
        return values[kept]

    def _ranges(self, index: Index) -> list[tuple[int, int, bool]]:
        """Return start, stop and whether the axis is dropped, along z y x."""
        parts = list(index) if isinstance(index, tuple) else [index]
        dots = [n for n, part in enumerate(parts) if part is Ellipsis]
        if len(dots) > 1 or len(parts) - len(dots) > self.ndim:
            raise InputError(f"{self.address}: index {index!r} is for more than the three axes z y x of a volume")
        n = dots[0] if dots else len(parts)
        parts[n : n + 1] = [slice(None)] * (self.ndim + len(dots) - len(parts))
        return [self._range(part, axis) for axis, part in enumerate(parts)]

    def _range(self, part: Any, axis: int) -> tuple[int, int, bool]:
        side, name = self.shape[axis], "zyx"[axis]
        try:
            if isinstance(part, slice):
                start, stop, step = part.indices(side)
                if step == 1:
                    return start, max(start, stop), False
                raise InputError(f"{self.address}: step {step} along {name}; read with step 1, then slice the array")
            if isinstance(part, bool | np.bool_):
                raise TypeError
            at = operator.index(part)
        except TypeError:
            raise InputError(
                f"{self.address}: a {type(part).__name__} is no index along {name}; expected a Box, or integers, slices "
                f"and ..., as in volume[2:5, :, 100:200]"
            ) from None
        if not -side <= at < side:
            raise InputError(f"{self.address}: index {at} along {name} is outside {-side} to {side - 1}")
        return at % side, at % side + 1, True

    def _check_inside(self, box: Box) -> None:
        if not self.box.contains(box):
            raise InputError(f"region {box} reaches outside {self.address}, which is {self.box}")

    def read(self) -> Array:
        """Read the whole volume into memory."""
        return self[self.box]

    @property
    def source(self) -> str | None:
        """The absolute address of the array that this volume is, or was cut from; None for an array in memory."""
        if isinstance(self.store, _Window):
            return self.store.parent.source
        return None if isinstance(self.store, np.ndarray) else self.identity()

    def identity(self) -> str:
        """Return what distinguishes this volume from others: its absolute address, or the SHA-256 of an array in memory."""
        parent = getattr(self.store, "parent", None)  # of a part of a volume, or of a resampled one
        if isinstance(parent, Volume):
            return f"{parent.identity()}[{self.address}]"
        if isinstance(self.store, np.ndarray):
            return hashlib.sha256(np.ascontiguousarray(self.store).tobytes()).hexdigest()
        return self.address if "://" in self.address else str(Path(self.address).absolute())

    def crop(self, box: Box) -> Volume:
        """Return the part inside `box` as a volume of its own, still lazy, its offset moved along.

        Raises:
            InputError: when the box is empty or reaches outside the volume.
        """
        self._check_inside(box)
        if box.empty:
            raise InputError(f"region {box} of {self.address} is empty; every range must ascend")
        if box == self.box:
            return self
        offset = self.offset_nm
        if self.voxel_size is not None:
            z, y, x = (o + s * v for o, s, v in zip(self.offset_nm, box.start, self.voxel_size, strict=True))
            offset = (z, y, x)
        return replace(self, store=_Window(self, box), offset_nm=offset, address=f"{self.address}[{box}]")

    def uncropped(self) -> tuple[Volume, Box]:
        """Return the volume that this one was cropped from, in one step or several, and its place there.

        Example:
            >>> part = Volume(np.zeros((4, 5, 6), np.uint8)).crop(Box((1, 1, 1), (4, 5, 6))).crop(Box((1, 0, 0), (3, 2, 2)))
            >>> whole, place = part.uncropped()
            >>> whole.shape, str(place)
            ((4, 5, 6), '2:4,1:3,1:3')
        """
        whole, box = self, self.box
        while isinstance(window := whole.store, _Window):
            whole, box = window.parent, box.shift(window.box.start)
        return whole, box


@dataclass(frozen=True)
class _Window:
    """The store of a cropped volume, which shifts every index into its parent."""

    parent: Volume
    box: Box

    @property
    def shape(self) -> IntZYX:
        return self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parent.dtype

    def __getitem__(self, index: Slices) -> Array:
        (z0, z1, _), (y0, y1, _), (x0, x1, _) = (s.indices(n) for s, n in zip(index, self.shape, strict=True))
        return self.parent[Box((z0, y0, x0), (z1, y1, x1)).shift(self.box.start)]


def copy_into(
    source: Volume,
    target: WritableStore,
    convert: Callable[[Array], Array] = lambda values: values,
    progress: Progress | None = None,
) -> None:
    """Copy a volume into a store of the same shape, holding one slab in memory.

    Args:
        source: The volume to read.
        target: The store to write; slabs end at multiples of its `chunk_shape`, where it has one.
        convert: Applied to every slab before it is written.
        progress: Called after every slab with the number of voxels done and of all voxels.
    """
    done = 0
    for slab in slabs(source.box, chunk=getattr(target, "chunk_shape", SLAB_CHUNK_VOX)):
        target[slab.slices] = convert(source[slab])
        done += slab.voxels
        if progress is not None:
            progress(done, source.box.voxels)


def intensity(raw: Array) -> npt.NDArray[np.float32]:
    """Return raw gray values as the networks take them: float32 in 0-1.

    Args:
        raw: Unsigned integers, divided by the largest value of their type, or floats already in 0-1.

    Raises:
        InputError: for another type, or floats outside 0-1.

    Example:
        >>> intensity(np.array([0, 51, 255], np.uint8)).round(3).tolist()
        [0.0, 0.20000000298023224, 1.0]
    """
    if raw.dtype.kind == "u":
        return raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)
    check_raw_type(raw.dtype)
    if raw.size and not (raw.min() >= 0 and raw.max() <= 1):  # also true of NaN
        raise InputError(
            f"raw has {raw.dtype} values outside 0-1; expected unsigned integers, or floats between 0 and 1"
        )
    return raw.astype(np.float32)


def check_raw_type(dtype: np.dtype[Any]) -> None:
    """Raise `InputError` unless raw gray values may have this type: unsigned integers or floats."""
    if dtype.kind not in "uf":
        raise InputError(f"raw has type {dtype}; expected unsigned integers, or floats between 0 and 1")
