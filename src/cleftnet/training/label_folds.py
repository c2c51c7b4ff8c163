"""Cuts labels, which may lie in small windows of a large volume, into folds of whole clefts along one axis, and writes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.voxels import Mask
from cleftnet.volumes import INVALID, LABELS, Volume, is_labelled, place, write_volume

Ids = npt.NDArray[np.uint64]


class LabelledRegion(NamedTuple):
    """Labels of a part of raw.

    Attributes:
        box: The part, in voxels of raw; at least as large as the patch.
        ids: Cleft ids in it, `INVALID` where nothing is labeled.
    """

    box: Box
    ids: Ids


class FoldFiles(NamedTuple):
    """Files of the labels of one fold; `train` holds those of all other folds.

    Attributes:
        train: Label volumes to learn from.
        validate_on: Label volumes of the fold itself.
    """

    train: list[Path]
    validate_on: list[Path]


@dataclass(frozen=True)
class LabelFolds:
    """Labeled regions of a volume, and the planes that cut them into folds.

    Attributes:
        raw: The volume.
        regions: The regions.
        axis: Axis across the planes.
        borders: Places of the planes along it, in voxels of raw, ascending.
        clefts: Number of clefts in all regions.
        patch: Patch size in voxels, z y x.
    """

    raw: Volume
    regions: list[LabelledRegion]
    axis: int
    borders: tuple[int, ...]
    clefts: int
    patch: IntZYX

    @classmethod
    def of(cls, raw: Volume, labels: Volume, patch: IntZYX, folds: int) -> LabelFolds:
        """Find the labeled regions, and planes that give each fold about as many clefts; there are no more folds than clefts.

        Args:
            raw: Gray values.
            labels: Cleft ids with a place in raw; unlabeled voxels are invalid.
            patch: Patch size in voxels, z y x; no region is smaller.
            folds: Number of folds.

        Raises:
            InputError: when raw is smaller than the patch, or there are fewer than two clefts.
        """
        if any(n < p for n, p in zip(raw.shape, patch, strict=True)):
            raise InputError(
                f"{raw.address} is {'×'.join(map(str, raw.shape))} voxels, less than the model's patch of "
                f"{'×'.join(map(str, patch))} (z×y×x); give a larger volume"
            )
        regions = list(_regions(raw, labels, patch))
        centers = [
            found.centers(region.ids.shape) + region.box.start
            for region in regions
            if len(found := Instances.of_labels(region.ids))
        ]
        every = np.concatenate(centers) if centers else np.zeros((0, 3))
        if len(every) < 2:
            raise InputError(
                f"{labels.address} holds {len(every)} synapse{'s' if len(every) != 1 else ''}; fine-tuning learns from some "
                f"and is checked on others, so give at least 2, better 5 or more"
            )
        axis = int((np.ptp(every, axis=0) * raw.voxel_size_nm).argmax())
        along, number = np.sort(every[:, axis]), min(folds, len(every))
        cuts = [len(every) * n // number for n in range(1, number)]
        borders = tuple(int(np.ceil((along[cut - 1] + along[cut]) / 2)) for cut in cuts)
        return cls(raw, regions, axis, borders, len(every), patch)

    def __len__(self) -> int:
        return len(self.borders) + 1

    def write(self, folder: Path) -> list[FoldFiles]:
        """Write the labels of every fold; files that are there are replaced.

        Raises:
            InputError: when a fold would leave no cleft to learn from.
        """
        written = []
        for fold in range(len(self)):
            files = FoldFiles([], [])
            for number, region in enumerate(self.regions):
                inside = self._inside(region, fold)
                for name, listed, shown in (("train", files.train, ~inside), ("validate", files.validate_on, inside)):
                    ids = np.where(shown, region.ids, np.uint64(INVALID))
                    if is_labelled(ids).any():
                        path = folder / f"fold-{fold}-{name}-{number}.hdf"
                        self._write(LabelledRegion(region.box, ids), path)
                        listed.append(path)
            written.append(files)
        return written

    def _inside(self, region: LabelledRegion, fold: int) -> Mask:
        """Return which voxels of a region belong to a fold, in a shape that broadcasts to the region's."""
        start, stop = region.box.start[self.axis], region.box.stop[self.axis]
        own = np.searchsorted(self.borders, np.arange(start, stop), side="right") == fold
        shape = [1, 1, 1]
        shape[self.axis] = stop - start
        return np.asarray(own.reshape(shape))

    def _write(self, region: LabelledRegion, path: Path) -> None:
        """Write labels, cut to what is labeled and not below the patch."""
        where = np.nonzero(is_labelled(region.ids))
        start = [int(axis.min()) for axis in where]
        stop = [int(axis.max()) + 1 for axis in where]
        part = _at_least(Box(_three(start), _three(stop)), self.patch, Box.of(region.ids.shape))
        size = self.raw.voxel_size_nm
        z, y, x = (
            o + (a + b) * s for o, a, b, s in zip(self.raw.offset_nm, region.box.start, part.start, size, strict=True)
        )
        write_volume(Volume(region.ids[part.slices], size, (z, y, x)), path, default=LABELS[0], overwrite=True)


def _regions(raw: Volume, labels: Volume, patch: IntZYX) -> Iterator[LabelledRegion]:
    """Yield the labeled parts of a volume: connected cells of the size of a patch that hold labels."""
    placed = place(raw, labels, labels.box)
    counts = [-(-n // side) for n, side in zip(labels.shape, patch, strict=True)]
    occupied = np.zeros(counts, np.uint8)
    for cell in itertools.product(*map(range, counts)):
        occupied[cell] = is_labelled(labels[_cell(cell, patch).intersect(labels.box)]).any()
    groups, number = cc3d.connected_components(occupied, connectivity=26, return_N=True)
    for group in range(1, number + 1):
        cells = np.argwhere(groups == group)
        first, last = _cell(cells.min(0), patch), _cell(cells.max(0), patch)
        own = Box(first.start, last.stop).intersect(labels.box)
        box = _at_least(own.shift(placed.prediction_box.start), patch, raw.box)
        ids = np.full(box.shape, INVALID, np.uint64)
        for number_zyx in cells:
            part = _cell(number_zyx, patch).intersect(labels.box)
            ids[part.shift(placed.prediction_box.start).relative_to(box.start).slices] = labels[part]
        yield LabelledRegion(box, ids)


def _cell(number: npt.NDArray[np.integer] | tuple[int, ...], patch: IntZYX) -> Box:
    return Box.at([int(n) * side for n, side in zip(number, patch, strict=True)], patch)


def _at_least(box: Box, shape: IntZYX, inside: Box) -> Box:
    """Return a box that is grown to a shape where it is smaller, and lies inside another."""
    sides = [max(n, wanted) for n, wanted in zip(box.shape, shape, strict=True)]
    start = [
        min(max(a - (side - n) // 2, low), high - side)
        for a, n, side, low, high in zip(box.start, box.shape, sides, inside.start, inside.stop, strict=True)
    ]
    return Box.at(start, sides)


def _three(values: list[int]) -> IntZYX:
    z, y, x = values
    return z, y, x
