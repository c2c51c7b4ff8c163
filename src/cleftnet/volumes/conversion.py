"""From any readable address to any writable one, each array as its new format wants it; label ids are translated on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.volumes.address import Address
from cleftnet.volumes.cremi import write_cremi
from cleftnet.volumes.formats import locate
from cleftnet.volumes.layout import CLEFTS_NAME, PROBABILITY_NAME, RAW_NAME, Layout
from cleftnet.volumes.opening import LABELS, PREDICTION, RAW, fitting, open_volume, write_volume
from cleftnet.volumes.slabs import Progress
from cleftnet.volumes.volume import Array, Store, Volume


def convert(
    source: Address,
    target: Address,
    *,
    labels: bool = False,
    voxel_size_nm: FloatZYX | None = None,
    layout: Layout | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the array at one address to another, slab by slab, in the format of the other's address.

    Into HDF5, uint8 raw and labels become a CREMI file, with its attributes and its label ids (background 2^64-1), unless the
    target names a dataset of its own (`out.hdf/my/labels`); a probability keeps its name and its threshold. Everywhere else the
    background of labels is 0; in Zarr and N5 they become `volumes/labels/clefts`, uint64, unless the target names an array.

    Args:
        source: What to read: a CREMI file alone means its raw, or a prediction's probability.
        target: Where to write: `out.hdf`, `out.hdf/some/dataset`, `out.zarr`, `out.n5/raw`, `precomputed://out`, `out.tif`,
            `out/*.tif`.
        labels: Take the labels of the source, and its values for cleft ids; integers of four bytes and more, masks of bools and
            CREMI's own labels are taken for ids anyway.
        voxel_size_nm: Voxel size z y x, for sources that carry none.
        layout: How the array shall lie on disk: chunks, version of Zarr, a pyramid of lower resolutions.
        overwrite: Whether a target already there may be replaced.
        progress: Called after every slab with the voxels done and the voxels in all.

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
    if _is_probability(volume):
        name = PROBABILITY_NAME
    if name == CLEFTS_NAME and row.folder and location.inside in ("", name):
        volume = replace(volume, store=_Ids(volume.store, volume.address))
    if row.name != "HDF5" or location.inside not in ("", name) or not _fits_cremi(volume, name):
        write_volume(volume, target, default=name, layout=layout, overwrite=overwrite, progress=progress)
        return
    layout = fitting(layout, row)
    if name == RAW_NAME:
        write_cremi(location.path, raw=volume, layout=layout, overwrite=overwrite, progress=progress)
    else:
        write_cremi(location.path, clefts=volume, layout=layout, overwrite=overwrite, progress=progress)


@dataclass(frozen=True)
class _Ids:
    """Labels of any integer type, as the ids that label files hold."""

    store: Store
    address: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint64)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Array:
        ids = np.asarray(self.store[index])
        if ids.dtype.kind not in "iub":
            raise InputError(f"{self.address} holds {ids.dtype}; expected label ids: choose a threshold first")
        if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
            raise InputError(f"label id {ids.min()} is negative; ids are 0 for background and positive for clefts")
        return ids.astype(np.uint64)


def _holds_ids(volume: Volume) -> bool:
    wide = volume.dtype.kind in "iu" and volume.dtype.itemsize >= 4  # gray values come in one byte or two
    return wide or volume.dtype == np.bool_ or volume.address.endswith(f"/{CLEFTS_NAME}")


def _is_probability(volume: Volume) -> bool:
    return volume.threshold is not None or volume.address.endswith(f"/{PROBABILITY_NAME}")


def _fits_cremi(volume: Volume, name: str) -> bool:
    """Whether CREMI's layout has a place for the array; raw of another type than uint8 stays an ordinary dataset."""
    return name == CLEFTS_NAME or (name == RAW_NAME and volume.dtype == np.uint8)
