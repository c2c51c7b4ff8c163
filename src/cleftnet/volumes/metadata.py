"""What a file says about an array beside its voxels: name, type, voxel size, offset, threshold and provenance.

Voxel size and offset are attributes of the array: `resolution` or `voxel_size`, and `offset`, in nm or in the `units` beside
them. Plain Zarr arrays keep them z y x, as HDF5 does; N5 keeps them x y z, the order of its axes on disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, PositiveInt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.settings import Settings
from cleftnet.volumes.labels import holds_labels
from cleftnet.volumes.volume import Volume, WritableStore

# Names of the arrays in files that we write, the same in every format that has names.
RAW_NAME = "volumes/raw"
CLEFTS_NAME = "volumes/labels/clefts"
PROBABILITY_NAME = "volumes/probability"
DISTANCE_NAME = "volumes/distance"
NAMES = (RAW_NAME, CLEFTS_NAME, PROBABILITY_NAME, DISTANCE_NAME)

NM_PER_UNIT = {
    **dict.fromkeys(("nanometer", "nanometers", "nm"), 1.0),
    **dict.fromkeys(("micrometer", "micrometers", "micron", "microns", "um", "µm", "μm", "\\u00b5m"), 1e3),
    **dict.fromkeys(("millimeter", "millimeters", "mm"), 1e6),
    **dict.fromkeys(("meter", "m"), 1e9),
    **dict.fromkeys(("picometer", "pm"), 1e-3),
    "angstrom": 0.1,
}

PROVENANCE = "cleftnet"  # attribute of a prediction that says how it was made

_SIZES = ("resolution", "voxel_size")  # some programs read the one attribute, some the other


@dataclass(frozen=True)
class ArraySpec:
    """What a new array is called, what it holds and where it lies.

    Args:
        name: The name inside its file, such as `volumes/probability`; a format that holds one array keeps no name.
        shape: Sides in voxels, z y x.
        dtype: The type of one voxel.
        voxel_size_nm: Voxel size, z y x, or None where it is unknown.
        offset_nm: Position of the first voxel, z y x.
        threshold: The threshold stored with a probability, see `Volume`.
        provenance: How a prediction was made, stored as the attribute `cleftnet`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    voxel_size_nm: FloatZYX | None = None
    offset_nm: FloatZYX = (0.0, 0.0, 0.0)
    threshold: float | None = None
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def copying(cls, volume: Volume, name: str) -> ArraySpec:
        """Return the spec of an array that is to hold what a volume holds, and to say of it what the volume says."""
        return replace(cls.like(volume, name, threshold=volume.threshold), provenance=volume.provenance)

    @classmethod
    def like(
        cls, volume: Volume, name: str, dtype: npt.DTypeLike | None = None, threshold: float | None = None
    ) -> ArraySpec:
        """Return the spec of an array of the shape, voxel size and offset of a volume.

        Args:
            volume: The volume that the array belongs to.
            name: The name of the array.
            dtype: The type of one voxel; the volume's own, when None.
            threshold: The threshold stored with a probability.
        """
        kind = volume.dtype if dtype is None else dtype
        return cls(name, volume.shape, kind, volume.voxel_size, volume.offset_nm, threshold)

    @property
    def labels(self) -> bool:
        """Whether the array holds label ids or a mask, judged by its type and its name."""
        return holds_labels(np.dtype(self.dtype), self.name)

    def stored(self, types: Sequence[str], file: str) -> np.dtype[Any]:
        """Return the type in which a format stores the voxels: bool as uint8, everything else as it is.

        Raises:
            InputError: when it is not one of the types that the format has.
        """
        wanted = np.dtype(np.uint8) if np.dtype(self.dtype) == np.bool_ else np.dtype(self.dtype)
        if wanted.name not in types:
            raise InputError(f"{file} holds no {wanted}, only {', '.join(types)}; choose .zarr or .hdf")
        return wanted

    def needed_voxel_size(self, file: str, what: str) -> FloatZYX:
        """Return the voxel size, where something needs it.

        Raises:
            InputError: when it is unknown.
        """
        if self.voxel_size_nm is None:
            raise InputError(f"{file}: {what} needs a voxel size; give it in nm, z y x: voxel_size_nm=(40, 4, 4)")
        return self.voxel_size_nm


class NewArrays(Protocol):
    """A file being made, in which arrays are created; one array only where the format holds no more."""

    def create(self, spec: ArraySpec) -> WritableStore:
        """Create an array of zeros whose boxes can be written in any order."""


class LayoutSettings(Settings):
    """How new arrays lie on disk, where the format leaves a choice; None and False leave it to the format.

    Attributes:
        chunk: Sides of a chunk in voxels, z y x.
        pyramid: Whether to add lower resolutions, for viewers.
        zarr: The version of Zarr, and with it of OME-Zarr: 2 (NGFF 0.4) or 3 (NGFF 0.5).
    """

    chunk: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    pyramid: bool = False
    zarr: Literal[2, 3] | None = None

    def sides(self, shape: Sequence[int], default: IntZYX) -> IntZYX:
        """Return the sides of a chunk of an array, none larger than the array.

        Example:
            >>> LayoutSettings(chunk=(4, 64, 64)).sides((20, 30, 100), default=(16, 128, 128))
            (4, 30, 64)
        """
        z, y, x = (max(1, min(n, side)) for n, side in zip(shape, self.chunk or default, strict=True))
        return z, y, x


def nm_per_unit(unit: object, address: str) -> float:
    """Return how many nm a unit of length has.

    Raises:
        InputError: when it is not in the table of units of length.

    Example:
        >>> nm_per_unit("angstrom", "vol.zarr")
        0.1
    """
    if not isinstance(unit, str) or unit not in NM_PER_UNIT:
        raise InputError(f"{address}: the unit {unit!r} of an axis is unknown; known are {', '.join(NM_PER_UNIT)}")
    return NM_PER_UNIT[str(unit)]


def read_place(attributes: Mapping[str, Any], address: str) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size (None where there is none) and offset in nm, in the order in which the attributes have them.

    Raises:
        InputError: when an attribute is not three lengths, or two of them contradict each other.

    Example:
        >>> read_place({"resolution": [40, 4, 4], "offset": [80, 0, 0]}, "vol.zarr/raw")
        ((40.0, 4.0, 4.0), (80.0, 0.0, 0.0))
        >>> read_place({"voxel_size": [0.04, 0.004, 0.004], "units": ["um", "um", "um"]}, "vol.zarr/raw")[0]
        (40.0, 4.0, 4.0)
    """
    resolution, voxel_size = (read_lengths(attributes, name, address, positive=True) for name in _SIZES)
    if resolution and voxel_size and not np.allclose(resolution, voxel_size, rtol=1e-4):
        raise InputError(
            f"{address}: attributes 'resolution' {resolution} and 'voxel_size' {voxel_size} differ; correct one of them"
        )
    nm = _nm(attributes.get("units"), address)
    size = resolution or voxel_size
    offset = read_lengths(attributes, "offset", address) or (0.0, 0.0, 0.0)
    return (None if size is None else times(size, nm)), times(offset, nm)


def read_sides(values: object, address: str) -> tuple[int, ...]:
    """Return the sides of an array in voxels, in the order in which a file's metadata has them.

    Raises:
        InputError: when they are not positive whole numbers.

    Example:
        >>> read_sides([4, 5, 6], "vol.zarr/raw")
        (4, 5, 6)
    """
    if isinstance(values, list | tuple) and all(type(side) is int and 0 < side < 2**63 for side in values):
        return tuple(values)
    raise InputError(
        f"{address}: its metadata gives the shape {values}; expected positive whole numbers: copy or fetch it again"
    )


def read_lengths(attributes: Mapping[str, Any], name: str, address: str, *, positive: bool = False) -> FloatZYX | None:
    """Return the attribute as three finite lengths in nm, z y x, or None where it is not there.

    Args:
        attributes: The attributes of an array.
        name: The name of the one to read.
        address: The address of the array, for messages.
        positive: Whether the lengths must be positive.

    Raises:
        InputError: when it is there and is anything else.
    """
    if name not in attributes:
        return None
    try:
        z, y, x = (float(v) for v in attributes[name])
        if math.isfinite(z + y + x) and (not positive or min(z, y, x) > 0):
            return z, y, x
    except (TypeError, ValueError, OverflowError):
        pass
    expected = "three positive lengths" if positive else "three lengths"
    raise InputError(f"{address}: attribute '{name}' is {attributes[name]}; expected {expected} in nm, z y x")


def read_threshold(attributes: Mapping[str, Any], address: str) -> float | None:
    """Return the threshold stored with a probability, or None.

    Raises:
        InputError: when it is not a finite number.
    """
    stored = attributes.get("threshold")
    if stored is None:
        return None
    try:
        if math.isfinite(value := float(stored)):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{address}: attribute 'threshold' is {stored}; expected a number between 0 and 1")


def read_provenance(attributes: Mapping[str, Any], name: str = PROVENANCE) -> dict[str, Any]:
    """Return how a prediction was made, or nothing where the attribute is missing or not ours.

    Example:
        >>> read_provenance({"cleftnet": '{"rescaled": true}'}), read_provenance({"cleftnet": 3})
        ({'rescaled': True}, {})
    """
    stored = attributes.get(name)
    if isinstance(stored, str):  # HDF5 has no nested attributes
        try:
            stored = json.loads(stored)
        except (ValueError, RecursionError):
            return {}
    return dict(stored) if isinstance(stored, Mapping) else {}


def write_attributes(
    spec: ArraySpec, voxel_size_nm: Sequence[float] | None, offset_nm: Sequence[float]
) -> dict[str, Any]:
    """Return the attributes of an array.

    Args:
        spec: The array; its threshold and provenance are taken.
        voxel_size_nm: Voxel size in the order of the axes on disk.
        offset_nm: Position of the first voxel in the same order.

    Example:
        >>> write_attributes(ArraySpec("volumes/raw", (4, 5, 6), "uint8"), (40, 4, 4), (0, 0, 0))
        {'resolution': [40.0, 4.0, 4.0], 'voxel_size': [40.0, 4.0, 4.0], 'units': ['nm', 'nm', 'nm']}
    """
    attributes: dict[str, Any] = {}
    if voxel_size_nm is not None:
        attributes |= {name: [float(v) for v in voxel_size_nm] for name in _SIZES}
    if any(offset_nm):
        attributes["offset"] = [float(v) for v in offset_nm]
    if attributes:
        attributes["units"] = ["nm"] * 3
    if spec.threshold is not None:
        attributes["threshold"] = float(spec.threshold)
    if spec.provenance:
        attributes[PROVENANCE] = dict(spec.provenance)
    return attributes


def number_type(name: object, address: str) -> np.dtype[Any]:
    """Return the type of one voxel, in this machine's byte order.

    Raises:
        InputError: when it is not a type of numbers.
    """
    try:
        if not isinstance(name, str):
            raise TypeError
        dtype = np.dtype(name).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):  # NumPy parses "4,(" as Python
        dtype = np.dtype(object)
    check_numbers(dtype, address, name)
    return dtype


def check_numbers(dtype: np.dtype[Any], address: str, name: object = None) -> None:
    """Check that the voxels of an array are numbers.

    Raises:
        InputError: when they are not; the message calls the type by its `name` in the file, where there is one.
    """
    if dtype.kind not in "biuf":
        raise InputError(f"{address} holds {name or dtype}, not numbers; expected one gray value or label a voxel")


def times(values: Sequence[float], factors: Sequence[float]) -> FloatZYX:
    """Return three values, each multiplied by its factor."""
    a, b, c = (v * f for v, f in zip(values, factors, strict=True))
    return a, b, c


def _nm(units: Any, address: str) -> list[float]:
    if units is None:
        return [1.0] * 3
    if not isinstance(units, list | tuple) or len(units) != 3:
        raise InputError(f"{address}: attribute 'units' is {units}; expected three units, such as nm,nm,nm")
    return [nm_per_unit(unit, address) for unit in units]
