"""What a label volume holds, counted: clefts, their sizes, and the voxels that nobody labelled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, slabs
from cleftnet.volumes.slabs import Progress
from cleftnet.volumes.volume import Array, Volume, is_cleft, is_labelled


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over one label volume, in house ids.

    Args:
        voxels: All voxels of the volume.
        unlabelled_voxels: Those that are `INVALID` or `OUTSIDE`.
        sizes_vox: The voxels of every cleft, by its id; a binary mask is one cleft, of id 1.
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
        """Voxels that belong to a cleft."""
        return sum(self.sizes_vox.values())

    @property
    def background_voxels(self) -> int:
        """Voxels labelled as background."""
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
        labels: Labels in house ids (background 0), any integer type or bool.
        progress: Called after every slab with the voxels done and the voxels in all.

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
    """Count each id of a flat array; runs first, because neighbours mostly share theirs and sorting all voxels is slow."""
    if not ids.size:
        return {}
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    lengths = np.diff(np.append(starts, ids.size))
    found, run_of = np.unique(ids[starts], return_inverse=True)
    counts = np.bincount(run_of, weights=lengths)
    return {int(label): int(count) for label, count in zip(found, counts, strict=True)}
