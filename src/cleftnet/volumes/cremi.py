"""HDF5 files of the CREMI challenge: their label ids, translated from and to ours, and a writer of such files.

CREMI marks background with 2^64-1, invalid voxels with 2^64-2 and voxels outside the labelled region with 2^64-3. Every other
id is a cleft, **zero included** (docs/method.md, "Data"). In a `Volume` background is 0. The translation permutes three ids and
leaves all others as they are, so it loses nothing in either direction:

    in a CREMI file     in a Volume
    2^64-1 background   0       BACKGROUND
    0      a cleft      2^64-4  CLEFT_ZERO
    2^64-4 a cleft      2^64-1  a cleft; no known file has this id
    2^64-2, 2^64-3      unchanged: INVALID, OUTSIDE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.volumes.address import Address, Location
from cleftnet.volumes.hdf5 import array_names, new_hdf5, open_hdf5, reading_hdf5
from cleftnet.volumes.labels import BACKGROUND, check_ids
from cleftnet.volumes.metadata import CLEFTS_NAME, RAW_NAME, ArraySpec, LayoutSettings
from cleftnet.volumes.volume import Array, Progress, Slices, Store, Volume, copy_into

FILE_FORMAT = "0.2"
CREMI_BACKGROUND = 0xFFFFFFFFFFFFFFFF
CLEFT_ZERO = 0xFFFFFFFFFFFFFFFC  # our id of the cleft that CREMI files call 0: mostly background left at 0 by mistake

_LABELS = "volumes/labels/"
_FROM_CREMI = {CREMI_BACKGROUND: BACKGROUND, 0: CLEFT_ZERO, CLEFT_ZERO: CREMI_BACKGROUND}
_TO_CREMI = {ours: cremi for cremi, ours in _FROM_CREMI.items()}


def from_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    """Translate the ids of a CREMI file into ours (background 0), without loss.

    Args:
        ids: Label ids of any integer type, as they are in the file.

    Example:
        >>> from_cremi(np.array([0xFFFFFFFFFFFFFFFF, 7, 0], np.uint64)).tolist() == [BACKGROUND, 7, CLEFT_ZERO]
        True
    """
    return _permute(ids, _FROM_CREMI)


def to_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    """Translate our ids (background 0) into those of a CREMI file, without loss: the inverse of `from_cremi`.

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
    """The labels of a CREMI file, translated into our ids as they are read."""

    store: Store

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in voxels, z y x."""
        return self.store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint64."""
        return np.dtype(np.uint64)

    def __getitem__(self, index: Slices) -> npt.NDArray[np.uint64]:
        """Read one box."""
        return from_cremi(self.store[index])


def open_dataset(location: Location, default: Sequence[str]) -> Volume:
    """Open a dataset of any HDF5 file; labels of a CREMI file (below `volumes/labels/`) are translated into our ids.

    A CREMI file is one whose root has the attribute `file_format`.

    Args:
        location: The file, and the dataset inside.
        default: Datasets to try in turn where the location names only the file.

    Raises:
        InputError: when the dataset cannot be read, or a CREMI label dataset holds no integers.
    """
    path, dataset = Path(location.path), location.inside
    with reading_hdf5(path) as file:
        is_cremi = "file_format" in file.attrs
        if not dataset:
            known = array_names(file)
            dataset = next((name for name in default if name in known), "")
            if not dataset:
                raise location.no_array(default, known)
    volume = open_hdf5(path, dataset)
    if not dataset.startswith(_LABELS) or not is_cremi:
        return volume
    if volume.dtype.kind not in "iu":
        raise InputError(f"{volume.address} holds {volume.dtype}; labels of a CREMI file are integers (uint64)")
    return replace(volume, store=CremiLabels(volume.store))


def write_cremi(
    path: Address,
    raw: Volume | None = None,
    clefts: Volume | None = None,
    *,
    layout: LayoutSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a CREMI file, slab by slab: `file_format` 0.2, `resolution`, `offset` where it is not zero, CREMI's label ids.

    Args:
        path: The file to make; it appears when it is complete.
        raw: Gray values, uint8.
        clefts: Cleft ids (background 0), any integer type or bool; may be smaller than raw, placed by its offset.
        layout: How the arrays lie in the file; in chunks of our own choice, when None.
        overwrite: Whether a file already there may be replaced.
        progress: Called with the number of voxels done and of all voxels, for raw and then for the labels.

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
    if clefts is not None:
        check_ids(np.empty(0, clefts.dtype), clefts.address)
    if raw is not None and clefts is not None and not np.allclose(raw.voxel_size_nm, clefts.voxel_size_nm, rtol=1e-4):
        raise InputError(
            f"voxel sizes differ: {raw.address} has {raw.voxel_size_nm} nm, {clefts.address} has {clefts.voxel_size_nm} nm; "
            f"a CREMI file needs one for both"
        )
    with new_hdf5(path, overwrite, layout) as file:
        file.attrs["file_format"] = FILE_FORMAT
        for volume, name, dtype, convert in (
            (raw, RAW_NAME, np.uint8, np.asarray),
            (clefts, CLEFTS_NAME, np.uint64, _checked_to_cremi),
        ):
            if volume is not None:
                spec = ArraySpec(name, volume.shape, dtype, volume.voxel_size_nm, volume.offset_nm)
                target = file.create(spec)
                copy_into(volume, target, convert, progress)


def _checked_to_cremi(ids: Array) -> npt.NDArray[np.uint64]:
    check_ids(ids, "the volume")
    return to_cremi(ids)
