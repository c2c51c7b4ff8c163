"""Cuts a labelled volume into folds, so that every voxel is predicted by a model that never saw it.

Nothing is chosen on the fold that is scored: its calibration, threshold and smallest synapse come from the out-of-fold
predictions of the other folds (`docs/compare.md`, "Folds").
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cleftnet.errors import InputError
from cleftnet.geometry import Box, IntZYX
from cleftnet.settings import Settings
from cleftnet.training.data import open_region
from cleftnet.training.recipe import Recipe
from cleftnet.training.validation import Region
from cleftnet.volumes import Array, Volume, is_cleft, normalized

AXES = ("z", "y", "x")


class FoldSettings(Settings):
    """Where a volume is cut into folds.

    Attributes:
        axis: The axis that the volume is cut along.
        borders_vox: Where one fold ends and the next begins, in voxels of the labels, ascending.
    """

    axis: Literal["z", "y", "x"] = "y"
    borders_vox: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _borders_ascend(self) -> Self:
        if any(b <= a for a, b in zip((0, *self.borders_vox), self.borders_vox, strict=False)):
            raise ValueError(f"borders_vox {list(self.borders_vox)} must ascend from above 0, as [256, 512, 768]")
        return self


class Fold(NamedTuple):
    """One fold of a volume, in voxels of the volume.

    Attributes:
        scored: The part that is predicted and scored.
        learned: The parts that its model learns from, a patch away from what is scored.
    """

    scored: Box
    learned: tuple[Box, ...]


def cut(volume: Box, settings: FoldSettings, patch: IntZYX) -> list[Fold]:
    """Cut a volume into folds.

    A patch that touches the scored part would show its voxels to the model, and a tile that reaches beyond it would read
    voxels that the model learned from. So what is learned from begins one patch away from what is scored.

    Args:
        volume: The labelled volume, or the part of it to use.
        settings: Where to cut.
        patch: Patch size z y x in voxels.

    Returns:
        The folds in order; their scored parts cover the volume once.

    Raises:
        InputError: when a border lies outside the volume, or nothing is left to learn from.

    Example:
        >>> folds = cut(Box.of((8, 400, 64)), FoldSettings(borders_vox=(100, 300)), (8, 32, 32))
        >>> [str(fold.scored) for fold in folds]
        ['0:8,0:100,0:64', '0:8,100:300,0:64', '0:8,300:400,0:64']
        >>> [str(part) for part in folds[1].learned]
        ['0:8,0:68,0:64', '0:8,332:400,0:64']
    """
    axis = AXES.index(settings.axis)
    first, last, halo = volume.start[axis], volume.stop[axis], patch[axis]
    edges = [first, *settings.borders_vox, last]
    if not all(a < b for a, b in itertools.pairwise(edges)):
        raise InputError(
            f"fold borders {list(settings.borders_vox)} along {settings.axis} do not lie inside {volume}; "
            f"choose borders between {first} and {last}"
        )
    folds = []
    for start, stop in itertools.pairwise(edges):
        sides = ((first, start - halo), (stop + halo, last))
        learned = tuple(_slab(volume, axis, a, b) for a, b in sides if b - a >= halo)
        if not learned:
            raise InputError(
                f"the fold {start}:{stop} along {settings.axis} leaves no part of {volume} to learn from that is "
                f"{halo} voxels away and {halo} voxels long; choose fewer or smaller folds, or a smaller patch"
            )
        folds.append(Fold(_slab(volume, axis, start, stop), learned))
    return folds


def context(scored: Box, volume: Box, patch: IntZYX) -> Box:
    """Return what is predicted so that the scored part lies inside tiles: half a patch more on every side.

    Example:
        >>> str(context(Box((0, 100, 0), (8, 300, 64)), Box.of((8, 400, 64)), (8, 32, 32)))
        '0:8,84:316,0:64'
    """
    return scored.grow([side // 2 for side in patch]).intersect(volume)


def open_whole(recipe: Recipe) -> tuple[Region, IntZYX]:
    """Open the volume that a recipe cuts into folds, and return it with the voxel at which its region of interest begins."""
    (volume,) = recipe.data.train
    region = open_region(volume)
    return region, Box.parse(volume.roi or str(region.labels.box)).start


def raw_around(region: Region, scored: Box, recipe: Recipe) -> tuple[Volume, tuple[slice, slice, slice]]:
    """Return raw as a network sees it around the scored part of a fold, and where in it that part lies."""
    seen = context(scored, region.raw.box, recipe.net.patch)
    return normalized(region.raw.crop(seen), recipe.data.normalize), scored.relative_to(seen.start).slices


def fold_of_each(labels: Array, scored: Sequence[Box]) -> dict[int, int]:
    """Return the fold of every cleft: the one that holds most of its voxels, the first of equals.

    Args:
        labels: Cleft ids of the whole volume, z y x, background 0.
        scored: The scored part of every fold.

    Example:
        >>> labels = np.array([[[5], [5], [5], [9]]])
        >>> fold_of_each(labels, [Box((0, 0, 0), (1, 2, 1)), Box((0, 2, 0), (1, 4, 1))])
        {5: 0, 9: 1}
    """
    ids = np.unique(labels[is_cleft(labels)])
    voxels = np.stack(
        [np.bincount(np.searchsorted(ids, _clefts(labels[box.slices])), minlength=ids.size) for box in scored]
    )
    return dict(zip(ids.tolist(), voxels.argmax(axis=0).tolist(), strict=True))


def _clefts(labels: Array) -> npt.NDArray[np.integer]:
    return labels[is_cleft(labels)]


def _slab(volume: Box, axis: int, start: int, stop: int) -> Box:
    """Return the part of a box between two planes of an axis."""
    low, high = list(volume.start), list(volume.stop)
    low[axis], high[axis] = start, stop
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
