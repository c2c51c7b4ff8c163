"""Geometry as attributes of an array: `resolution` or `voxel_size`, and `offset`, in nm or in the `units` beside them.

Plain Zarr arrays keep them z y x, as HDF5 does; N5 keeps them x y z, the order of its axes on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.chunked.ome import nm_per_unit

SIZES = ("resolution", "voxel_size")


def read_place(attributes: Mapping[str, Any], address: str) -> tuple[FloatZYX | None, FloatZYX]:
    """Return voxel size (None where there is none) and offset in nm, in the order in which the attributes have them.

    Raises:
        InputError: when an attribute is no three lengths, or two of them contradict each other.

    Example:
        >>> read_place({"resolution": [40, 4, 4], "offset": [80, 0, 0]}, "vol.zarr/raw")
        ((40.0, 4.0, 4.0), (80.0, 0.0, 0.0))
        >>> read_place({"voxel_size": [0.04, 0.004, 0.004], "units": ["um", "um", "um"]}, "vol.zarr/raw")[0]
        (40.0, 4.0, 4.0)
    """
    nm = _nm(attributes.get("units"), address)
    resolution, voxel_size = (_positive(attributes, name, address) for name in SIZES)
    if resolution and voxel_size and not np.allclose(resolution, voxel_size, rtol=1e-4):
        raise InputError(
            f"{address}: attributes 'resolution' {resolution} and 'voxel_size' {voxel_size} differ; correct one of them"
        )
    size = resolution or voxel_size
    offset = read_lengths(attributes, "offset", address) or (0.0, 0.0, 0.0)
    return (None if size is None else _scaled(size, nm)), _scaled(offset, nm)


def read_lengths(attributes: Mapping[str, Any], name: str, address: str) -> FloatZYX | None:
    """Return the attribute as three finite lengths in nm, z y x, or None where it is not there.

    Raises:
        InputError: when it is there and is anything else.
    """
    if name not in attributes:
        return None
    try:
        z, y, x = (float(v) for v in attributes[name])
        if math.isfinite(z + y + x):
            return z, y, x
    except (TypeError, ValueError):
        pass
    raise InputError(f"{address}: attribute '{name}' is {attributes[name]}; expected three lengths in nm, z y x")


def read_threshold(attributes: Mapping[str, Any], address: str) -> float | None:
    """Return the threshold stored with a probability, or None.

    Raises:
        InputError: when it is no finite number.
    """
    stored = attributes.get("threshold")
    if stored is None:
        return None
    try:
        if math.isfinite(value := float(stored)):
            return value
    except (TypeError, ValueError):
        pass
    raise InputError(f"{address}: attribute 'threshold' is {stored}; expected a number between 0 and 1")


def write_place(
    voxel_size_nm: Sequence[float] | None, offset_nm: Sequence[float], threshold: float | None
) -> dict[str, Any]:
    """Return the attributes that say where an array lies, in the order given.

    Example:
        >>> write_place((40, 4, 4), (0, 0, 0), None)
        {'resolution': [40.0, 4.0, 4.0], 'voxel_size': [40.0, 4.0, 4.0], 'units': ['nm', 'nm', 'nm']}
    """
    attributes: dict[str, Any] = {}
    if voxel_size_nm is not None:
        attributes |= {name: [float(v) for v in voxel_size_nm] for name in SIZES}  # programs read the one or the other
    if any(offset_nm):
        attributes["offset"] = [float(v) for v in offset_nm]
    if attributes:
        attributes["units"] = ["nm"] * 3
    if threshold is not None:
        attributes["threshold"] = float(threshold)
    return attributes


def number_type(name: object, address: str) -> np.dtype[Any]:
    """Return the type of one voxel, in this machine's byte order.

    Raises:
        InputError: when it is no type of numbers.
    """
    try:
        if not isinstance(name, str):
            raise TypeError
        dtype = np.dtype(name).newbyteorder("=")
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise InputError(f"{address} holds {name}, not numbers; expected one gray value or label a voxel")
    return dtype


def _positive(attributes: Mapping[str, Any], name: str, address: str) -> FloatZYX | None:
    lengths = read_lengths(attributes, name, address)
    if lengths is not None and min(lengths) <= 0:
        raise InputError(f"{address}: attribute '{name}' is {lengths}; expected three positive lengths")
    return lengths


def _nm(units: Any, address: str) -> list[float]:
    if units is None:
        return [1.0] * 3
    if not isinstance(units, list | tuple) or len(units) != 3:
        raise InputError(f"{address}: attribute 'units' is {units}; expected three units, such as nm,nm,nm")
    return [nm_per_unit(unit, address) for unit in units]


def _scaled(values: FloatZYX, factors: list[float]) -> FloatZYX:
    a, b, c = (v * f for v, f in zip(values, factors, strict=True))
    return a, b, c
