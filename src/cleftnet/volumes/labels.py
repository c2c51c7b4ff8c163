"""What the voxels of a label volume mean, and how many there are of each kind.

Label volumes are uint64 cleft ids. Background is 0, and unlabelled voxels are `INVALID` or `OUTSIDE`. CREMI's own
ids are translated in `cleftnet.volumes.cremi`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, slabs
from cleftnet.volumes.volume import Array, Progress, Volume

BACKGROUND = 0
INVALID = 0xFFFFFFFFFFFFFFFE  # labelled as unknown: left out of every loss and every score
OUTSIDE = 0xFFFFFFFFFFFFFFFD  # beyond the labelled region: left out as well

NOT_CLEFT, CLEFT, UNLABELLED = 0, 1, 2  # the classes of a voxel, uint8; losses and scores leave UNLABELLED out


def is_labelled(labels: Array) -> npt.NDArray[np.bool_]:
    """Return True where a voxel is labelled (cleft or background), False on `INVALID` and `OUTSIDE`."""
    if labels.dtype == np.bool_:  # a mask; NumPy cannot compare it with ids as large as these
        return np.ones(labels.shape, np.bool_)
    return np.asarray((labels != INVALID) & (labels != OUTSIDE))


def is_cleft(labels: Array) -> npt.NDArray[np.bool_]:
    """Return True on voxels of any cleft: labelled, and not `BACKGROUND`."""
    return np.asarray((labels != BACKGROUND) & is_labelled(labels))


def classes(labels: Array) -> npt.NDArray[np.uint8]:
    """Return the class of each voxel: `NOT_CLEFT`, `CLEFT`, or `UNLABELLED` for `INVALID` and `OUTSIDE`.

    Args:
        labels: Cleft ids z y x, background 0.

    Example:
        >>> classes(np.array([[[0, 7, INVALID]]], np.uint64)).tolist()
        [[[0, 1, 2]]]
    """
    return np.where(is_labelled(labels), is_cleft(labels), UNLABELLED).astype(np.uint8)


def holds_labels(dtype: np.dtype[Any], name: str = "") -> bool:
    """Return whether an array holds label ids or a mask, judged by its type and its name.

    Example:
        >>> holds_labels(np.dtype("uint64")), holds_labels(np.dtype("uint8"), "volumes/raw")
        (True, False)
    """
    wide = dtype.kind in "iu" and dtype.itemsize >= 4  # gray values come in one byte or two
    return wide or dtype.kind == "b" or (dtype.kind in "iu" and "labels" in name)


def check_ids(ids: Array, address: str) -> None:
    """Check that values can be cleft ids.

    Raises:
        InputError: when they are not whole numbers, or one is negative.
    """
    if ids.dtype.kind not in "iub":
        raise InputError(f"{address} holds {ids.dtype}; expected label ids: choose a threshold first")
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise InputError(f"label id {ids.min()} is negative; ids are 0 for background and positive for clefts")


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over one label volume.

    Args:
        voxels: The number of all voxels.
        unlabelled_voxels: The number of voxels that are `INVALID` or `OUTSIDE`.
        sizes_vox: The number of voxels of every cleft, by its id; a binary mask is one cleft, of id 1.
        voxel_size_nm: Voxel size, z y x, or None where it is unknown.
    """

    voxels: int
    unlabelled_voxels: int
    sizes_vox: Mapping[int, int]
    voxel_size_nm: FloatZYX | None

    @property
    def clefts(self) -> int:
        """The number of clefts (different ids)."""
        return len(self.sizes_vox)

    @property
    def cleft_voxels(self) -> int:
        """The number of voxels that belong to a cleft."""
        return sum(self.sizes_vox.values())

    @property
    def background_voxels(self) -> int:
        """The number of voxels labelled as background."""
        return self.voxels - self.cleft_voxels - self.unlabelled_voxels

    @property
    def cleft_share(self) -> float:
        """Cleft voxels as a share (0 to 1) of the labelled ones; 0 where nothing is labelled."""
        return self.cleft_voxels / max(1, self.voxels - self.unlabelled_voxels)

    @property
    def size_vox(self) -> tuple[float, float, float] | None:
        """Minimum, median and maximum size of a cleft in voxels, or None where there is no cleft."""
        if not self.sizes_vox:
            return None
        sizes = np.fromiter(self.sizes_vox.values(), np.float64)
        return float(sizes.min()), float(np.median(sizes)), float(sizes.max())

    @property
    def size_nm3(self) -> tuple[float, float, float] | None:
        """Minimum, median and maximum size of a cleft in nm³, or None without clefts or voxel size."""
        if self.size_vox is None or self.voxel_size_nm is None:
            return None
        low, middle, high = (size * math.prod(self.voxel_size_nm) for size in self.size_vox)
        return low, middle, high


def label_statistics(labels: Volume, progress: Progress | None = None) -> LabelStatistics:
    """Count the clefts of a label volume, slab by slab.

    Args:
        labels: Cleft ids (background 0), any integer type or bool.
        progress: Called after every slab with the number of voxels done and of all voxels.

    Raises:
        InputError: when the volume does not hold whole numbers.

    Example:
        >>> labels = Volume(np.array([[[0, 7, 7, 9]]], np.uint64), (40, 4, 4))
        >>> statistics = label_statistics(labels)
        >>> statistics.clefts, statistics.cleft_share, statistics.size_nm3
        (2, 0.75, (640.0, 960.0, 1280.0))
    """
    if labels.dtype.kind not in "iub":
        raise InputError(f"{labels.address} holds {labels.dtype}; expected label ids, which are whole numbers")
    sizes: Counter[int] = Counter()
    unlabelled = done = 0
    for slab in slabs(labels.box):
        ids = labels[slab]
        unlabelled += ids.size - int(np.count_nonzero(is_labelled(ids)))
        sizes.update(_sizes(ids[is_cleft(ids)]))
        done += slab.voxels
        if progress is not None:
            progress(done, labels.box.voxels)
    return LabelStatistics(labels.box.voxels, unlabelled, dict(sizes), labels.voxel_size)


def _sizes(ids: Array) -> dict[int, int]:
    """Count each id of a flat array by its runs: neighbors mostly share their id, and sorting all voxels is slow."""
    if not ids.size:
        return {}
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    lengths = np.diff(np.append(starts, ids.size))
    labels, run_of = np.unique(ids[starts], return_inverse=True)
    counts = np.bincount(run_of, weights=lengths)
    return {int(label): int(count) for label, count in zip(labels, counts, strict=True)}
