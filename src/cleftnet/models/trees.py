"""Boosted decision trees on filter responses, which judge a voxel beside the networks of a model.

They are arrays and nothing else, so a file that holds them has nothing to unpickle. Every tree is complete: nodes lie in the
order of a binary heap, and a branch that ends early sends every value to the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from cleftnet.blockwise import BlockGrid
from cleftnet.geometry import Box, IntZYX
from cleftnet.models.filters import Float32, features, halo, number_of_features
from cleftnet.settings import Settings, VoxelSize
from cleftnet.volumes import Array, intensity

PART_VOX: IntZYX = (8, 128, 128)  # voxels whose features are in memory at a time, in each thread
ROWS = 2**14  # voxels that go through a tree at a time, so that their features stay in the cache
PREFIX = "trees."  # of the arrays' names in a checkpoint


class TreeSettings(Settings):
    """What the values of boosted trees depend on besides their nodes.

    Attributes:
        sigmas_nm: Scales of the filters.
        voxel_size_nm: z y x of the training data.
    """

    sigmas_nm: tuple[float, ...] = Field(min_length=1)
    voxel_size_nm: VoxelSize


@dataclass(frozen=True)
class BoostedTrees:
    """Complete decision trees of one depth, whose leaves are summed.

    Attributes:
        settings: The filters.
        feature: Number of the feature that each inner node asks, int16 `trees nodes`.
        threshold: Values up to this go to the left, to node 2n + 1, others to node 2n + 2; float32 `trees nodes`.
        value: What each leaf adds to the log-odds, which begin at 0; float32 `trees leaves`.
    """

    settings: TreeSettings
    feature: npt.NDArray[np.int16]
    threshold: Float32
    value: Float32

    @classmethod
    def mean(cls, members: Sequence[BoostedTrees]) -> BoostedTrees:
        """Return trees whose log-odds are the mean of those of the members."""
        return cls(
            members[0].settings,
            np.concatenate([member.feature for member in members]),
            np.concatenate([member.threshold for member in members]),
            np.concatenate([member.value / np.float32(len(members)) for member in members]),
        )

    def split(self, number: int) -> list[BoostedTrees]:
        """Return the members of a mean of `number` sets of trees of one size.

        Example:
            >>> settings = TreeSettings(sigmas_nm=(8,), voxel_size_nm=(40, 4, 4))
            >>> ones = np.ones((3, 2), np.float32)
            >>> one = BoostedTrees(settings, np.zeros((3, 1), np.int16), ones[:, :1], ones)
            >>> [len(trees.value) for trees in BoostedTrees.mean([one, one]).split(2)]
            [3, 3]
        """
        parts = [np.split(array, number) for array in (self.feature, self.threshold, self.value)]
        return [BoostedTrees(self.settings, f, t, v * np.float32(number)) for f, t, v in zip(*parts, strict=True)]

    @classmethod
    def from_tensors(cls, settings: TreeSettings, tensors: dict[str, Tensor]) -> Self:
        """Return the trees that `tensors` of a checkpoint hold.

        Raises:
            KeyError: when one is missing.
            ValueError: when they do not fit together.
        """
        feature, threshold, value = (tensors[PREFIX + name].numpy() for name in ("feature", "threshold", "value"))
        trees, nodes = feature.shape
        if threshold.shape != feature.shape or value.shape != (trees, nodes + 1) or nodes & (nodes + 1):
            raise ValueError(f"trees of {nodes} nodes, {threshold.shape} thresholds and {value.shape} leaves")
        known = number_of_features(settings.voxel_size_nm, settings.sigmas_nm)
        if not 0 <= feature.min() <= feature.max() < known:
            raise ValueError(f"trees ask features {feature.min()} to {feature.max()} of {known}")
        return cls(settings, feature, threshold, value)

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by their names in a checkpoint."""
        arrays = {"feature": self.feature, "threshold": self.threshold, "value": self.value}
        return {PREFIX + name: torch.from_numpy(array) for name, array in arrays.items()}

    @property
    def reach(self) -> IntZYX:
        """How many voxels z y x around a voxel its log-odds depend on."""
        return halo(self.settings.voxel_size_nm, self.settings.sigmas_nm)

    def log_odds(self, raw: Array, read: Box, wanted: Box) -> Float32:
        """Return the log-odds of cleft in a box, float32 `z y x`, not calibrated.

        Args:
            raw: Gray values of the box `read`, z y x; voxels are taken to be as large as those of the training data.
            read: What raw covers: `wanted` and `reach` voxels around it, unless the volume ends there.
            wanted: The box to return.
        """
        found = np.empty(wanted.shape, np.float32)
        parts = list(BlockGrid(wanted, PART_VOX))

        def fill(part: Box) -> None:
            around = part.grow(self.reach).intersect(read)
            inside = part.relative_to(around.start).slices
            seen = intensity(raw[around.relative_to(read.start).slices])
            rows = features(seen, self.settings.voxel_size_nm, self.settings.sigmas_nm, inside)
            values = self.of_features(rows.reshape(-1, rows.shape[-1]))
            found[part.relative_to(wanted.start).slices] = values.reshape(part.shape)

        with ThreadPoolExecutor(torch.get_num_threads(), "trees") as pool:
            list(pool.map(fill, [part.write for part in parts]))
        return found

    def averaged(self, logits: Float32, raw: Array, read: Box, wanted: Box) -> Float32:
        """Return the mean of these log-odds and the segmentation logits of a box, `z y x`; see `log_odds`."""
        return np.asarray((logits + self.log_odds(raw, read, wanted)) / 2, np.float32)

    def of_features(self, rows: Float32) -> Float32:
        """Return the log-odds of voxels from their features, `voxels features`."""
        return np.concatenate([self._summed(rows[at : at + ROWS].T) for at in range(0, len(rows), ROWS)])

    def _summed(self, columns: Float32) -> Float32:
        flat, number = np.ascontiguousarray(columns).reshape(-1), columns.shape[1]
        place, inner = np.arange(number), self.feature.shape[1]
        total = np.zeros(number, np.float32)
        offset = self.feature.astype(np.intp) * number
        for offsets, thresholds, values in zip(offset, self.threshold, self.value, strict=True):
            node = np.zeros(number, np.intp)
            for _ in range(inner.bit_length()):
                right = flat.take(offsets.take(node) + place) > thresholds.take(node)
                node = 2 * node + 1 + right
            total += values.take(node - inner)
        return total
