"""CREMI's own HDF5 files: their label ids, translated from and to ours, and a writer for files that the challenge reads.

CREMI marks background with 2^64-1, invalid voxels with 2^64-2 and voxels outside the labelled region with 2^64-3; every
other id is a cleft, **zero included** (SPEC §5). Inside the house background is 0. The translation permutes three ids
and leaves all others, so it loses nothing in either direction:

    in a CREMI file     in the house
    2^64-1 background   0       BACKGROUND
    0      a cleft      2^64-4  CLEFT_ZERO
    2^64-4 a cleft      2^64-1  a cleft, which nobody ever meets
    2^64-2, 2^64-3      the same: INVALID, OUTSIDE
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.volumes.address import Address
from cleftnet.volumes.hdf5 import open_hdf5, open_hdf5_file
from cleftnet.volumes.hdf5_writing import new_hdf5
from cleftnet.volumes.layout import CLEFTS_NAME, RAW_NAME, Layout
from cleftnet.volumes.slabs import Progress, copy_into
from cleftnet.volumes.volume import BACKGROUND, Array, Store, Volume

FILE_FORMAT = "0.2"
CREMI_BACKGROUND = 0xFFFFFFFFFFFFFFFF
CLEFT_ZERO = (
    0xFFFFFFFFFFFFFFFC  # the house id of the cleft that CREMI files call 0: mostly a background left at 0 by mistake
)

_LABELS = "volumes/labels/"
_TO_HOUSE = {CREMI_BACKGROUND: BACKGROUND, 0: CLEFT_ZERO, CLEFT_ZERO: CREMI_BACKGROUND}
_TO_CREMI = {house: cremi for cremi, house in _TO_HOUSE.items()}


def from_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    """Translate the ids of a CREMI file into the house's, without loss.

    Args:
        ids: Label ids of any integer type, as they are in the file.

    Example:
        >>> from_cremi(np.array([0xFFFFFFFFFFFFFFFF, 7, 0], np.uint64)).tolist() == [BACKGROUND, 7, CLEFT_ZERO]
        True
    """
    return _permute(ids, _TO_HOUSE)


def to_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    """Translate house ids into those of a CREMI file, without loss: the inverse of `from_cremi`.

    Example:
        >>> to_cremi(np.array([BACKGROUND, 7, CLEFT_ZERO], np.uint64)).tolist() == [CREMI_BACKGROUND, 7, 0]
        True
    """
    return _permute(ids, _TO_CREMI)


def _permute(ids: Array, table: dict[int, int]) -> npt.NDArray[np.uint64]:
    before = np.asarray(ids).astype(np.uint64, copy=False)
    after = before.copy()
    for old, new in table.items():
        after[before == np.uint64(old)] = np.uint64(new)
    return after


@dataclass(frozen=True)
class CremiLabels:
    """The labels of a CREMI file in house ids, translated as they are read."""

    store: Store

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""
        return self.store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """House ids are always uint64."""
        return np.dtype(np.uint64)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> npt.NDArray[np.uint64]:
        """Read one box."""
        return from_cremi(self.store[index])


def is_cremi(path: Path) -> bool:
    """True when the HDF5 file says it is CREMI's: its root has the attribute `file_format`."""
    with open_hdf5_file(path) as file:
        return "file_format" in file.attrs


def open_dataset(path: Path, dataset: str) -> Volume:
    """Open a dataset of any HDF5 file; labels of a CREMI file (below `volumes/labels/`) come in house ids.

    Raises:
        InputError: when the dataset cannot be read, or a CREMI label dataset holds no integers.
    """
    volume = open_hdf5(path, dataset)
    if not dataset.startswith(_LABELS) or not is_cremi(path):
        return volume
    if volume.dtype.kind not in "iu":
        raise InputError(f"{volume.address} holds {volume.dtype}; labels of a CREMI file are integers (uint64)")
    return replace(volume, store=CremiLabels(volume.store))


def write_cremi(
    path: Address,
    raw: Volume | None = None,
    clefts: Volume | None = None,
    *,
    layout: Layout | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a CREMI file, slab by slab: `file_format` 0.2, `resolution`, `offset` where it is not zero, CREMI's label ids.

    Args:
        path: The file to make; it appears when it is complete.
        raw: Gray values, uint8.
        clefts: Labels in house ids (background 0), any integer type or bool; may be smaller than raw, placed by its offset.
        layout: How the arrays shall lie in the file; our own way, when None.
        overwrite: Whether a file already there may be replaced.
        progress: Called with the voxels done and the voxels in all, for raw and then for the labels.

    Raises:
        InputError: when nothing is given, a voxel size is missing or differs between the two, raw is not uint8, labels are
            not whole non-negative numbers, or the output exists.

    Example:
        >>> import tempfile
        >>> labels = Volume(np.array([[[0, 7]]], np.uint64), (40, 4, 4), offset_nm=(40, 0, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "A.hdf")
        ...     write_cremi(file, clefts=labels)
        ...     in_file = open_hdf5(file, "volumes/labels/clefts")
        ...     in_file.read().tolist() == [[[CREMI_BACKGROUND, 7]]], in_file.offset_nm
        (True, (40.0, 0.0, 8.0))
    """
    if raw is None and clefts is None:
        raise InputError("a CREMI file needs raw or clefts; give at least one of them")
    if raw is not None and raw.dtype != np.uint8:
        raise InputError(f"{raw.address} holds {raw.dtype}; raw of a CREMI file is uint8: scale it to 0-255 first")
    if clefts is not None and clefts.dtype.kind not in "iub":
        raise InputError(f"{clefts.address} holds {clefts.dtype}; expected label ids: choose a threshold first")
    if raw is not None and clefts is not None and not np.allclose(raw.voxel_size_nm, clefts.voxel_size_nm, rtol=1e-4):
        raise InputError(
            f"voxel sizes differ: {raw.address} has {raw.voxel_size_nm} nm, {clefts.address} has {clefts.voxel_size_nm} nm; "
            f"a CREMI file needs one for both"
        )
    with new_hdf5(path, overwrite, layout) as file:
        file.attrs["file_format"] = FILE_FORMAT
        for volume, name, dtype, convert in (
            (raw, RAW_NAME, np.uint8, np.asarray),
            (clefts, CLEFTS_NAME, np.uint64, _ids_for_cremi),
        ):
            if volume is not None:
                target = file.create(
                    name, volume.shape, dtype, voxel_size_nm=volume.voxel_size_nm, offset_nm=volume.offset_nm
                )
                copy_into(volume, target, convert, progress)


def _ids_for_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise InputError(f"label id {ids.min()} is negative; house ids are 0 for background and positive for clefts")
    return to_cremi(ids)
