"""Volumes as layers of napari and back: voxels read lazily, scale and translation in nm, and how each kind is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.viewing import LayerKind
from cleftnet.volumes import Array, NormalizationSettings, Volume, measured_range
from cleftnet.volumes.volume import Slices

LayerData = tuple[Any, dict[str, Any], str]  # what napari makes a layer of: data, its arguments, its type

CHUNK_VOX: IntZYX = (16, 256, 256)  # of what is read at once
PAINTED_VOX = 2**27  # labels up to this size are read into memory, where they can be painted
_SOURCE = "cleftnet"  # the key in the metadata of an image layer for the volume that it shows

_DRAWN: dict[LayerKind, dict[str, Any]] = {
    LayerKind.RAW: {"colormap": "gray"},
    LayerKind.PROBABILITY: {"colormap": "bop orange", "blending": "additive"},
    LayerKind.DISTANCE: {"colormap": "bop purple", "blending": "additive", "visible": False},
}


def as_layer(volume: Volume, name: str, kind: LayerKind) -> LayerData:
    """Return a volume as a layer: labels up to 2^27 voxels in memory, everything else read when it is looked at.

    Args:
        volume: The volume; without a voxel size it is shown in voxels.
        name: The name of the layer.
        kind: What it holds.
    """
    arguments: dict[str, Any] = {"name": name, "axis_labels": ("z", "y", "x")}
    if volume.voxel_size is not None:
        arguments |= {"scale": volume.voxel_size, "translate": volume.offset_nm, "units": ("nm",) * 3}
    if kind in (LayerKind.LABELS, LayerKind.TRUTH):
        data = volume.read() if volume.size <= PAINTED_VOX else _lazy(volume)
        return (data.astype(np.uint8) if data.dtype.kind == "b" else data), arguments, "labels"
    arguments |= _DRAWN[kind] | {"contrast_limits": _limits(volume, kind), "metadata": {_SOURCE: volume}}
    return _lazy(volume), arguments, "image"


def _lazy(volume: Volume) -> Any:
    """Return a Dask array, whose chunks are read when they are needed; an array in memory as it is."""
    if isinstance(volume.store, np.ndarray):
        return volume.store
    import dask.array

    name = f"cleftnet-{id(volume.store)}-{volume.address}"
    from_array: Any = dask.array.from_array  # has no types
    return from_array(volume, chunks=CHUNK_VOX, name=name, asarray=False, meta=np.zeros((0, 0, 0), volume.dtype))


def _limits(volume: Volume, kind: LayerKind) -> tuple[float, float]:
    if kind is not LayerKind.RAW:
        return (0.0, 255.0) if volume.dtype == np.uint8 else (0.0, 1.0)
    try:
        return measured_range(volume, NormalizationSettings())
    except InputError:  # nothing but one gray value
        return 0.0, 1.0


@dataclass(frozen=True)
class ArrayStore:
    """The store of an array that is computed when it is read, such as a Dask array of another reader.

    Args:
        array: Anything with a shape and a type that is sliced like a NumPy array, axes z y x.
    """

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides in voxels, z y x."""
        return tuple(int(side) for side in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one voxel."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, index: Slices) -> Array:
        """Read one box."""
        return np.asarray(self.array[index])


def as_volume_of(layer: Any) -> Volume:
    """Return what a layer shows as a volume, with its place from scale, translation and units of the layer.

    Args:
        layer: An image or labels layer of three axes z y x.

    Raises:
        InputError: when it has other axes, is rotated or sheared, or is in pixels and not in a unit of length.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if len(data.shape) != 3:
        raise InputError(f"layer '{layer.name}' has {len(data.shape)} axes; expected three, z y x")
    if not np.allclose(layer.rotate, np.eye(3)) or np.any(layer.shear):
        raise InputError(f"layer '{layer.name}' is rotated or sheared; expected scale and translation only")
    nm = [_in_nm(unit, layer.name) for unit in layer.units]
    size = _three([side * unit for side, unit in zip(layer.scale, nm, strict=True)])
    offset = _three([place * unit for place, unit in zip(layer.translate, nm, strict=True)])
    source = layer.metadata.get(_SOURCE)
    if isinstance(source, Volume) and source.shape == tuple(data.shape):
        return replace(source, voxel_size=size, offset_nm=offset)  # it knows threshold, address and operating point
    store = data if isinstance(data, np.ndarray) else ArrayStore(data)
    return Volume(store, size, offset, f"layer '{layer.name}'")


def _in_nm(unit: Any, name: str) -> float:
    """Return how many nm a unit of napari has."""
    import pint

    try:
        return float(pint.get_application_registry().Quantity(1, str(unit)).to("nm").magnitude)
    except (pint.DimensionalityError, pint.UndefinedUnitError):
        raise InputError(
            f"layer '{name}' is in {unit} and not in nm; set its scale and units: "
            f"layer.scale = (40, 4, 4); layer.units = ('nm', 'nm', 'nm')"
        ) from None


def _three(values: list[float]) -> FloatZYX:
    z, y, x = (float(value) for value in values)
    return z, y, x
