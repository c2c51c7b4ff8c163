"""Blends overlapping tiles into one array: each voxel is the mean of all tiles that cover it, weighted by its depth in each.

Along an axis on which tiles share nothing they are stacked instead, as in the paper: each voxel is that of one tile. The last
tile is shifted inwards and covers a part of its neighbor all the same; the two meet in the middle of that part.

The tiles depend on the volume alone, not on the blocks or processes that compute them, and so does every voxel.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cleftnet.geometry import OVERLAP, Block, Box, TileGrid, write_edges
from cleftnet.models.checkpoint import Float32
from cleftnet.models.trees import BoostedTrees
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.prediction_settings import PredictionSettings, overlap_in_voxels
from cleftnet.prediction.tiles import TileNetwork, Values
from cleftnet.progress import track
from cleftnet.volumes import Volume

CPU = torch.device("cpu")


class Blending:
    """The weighted means of tiles' logits over a box.

    Args:
        tiles: Tiles of the whole volume.
        box: The part to blend.
        heads: Number of outputs of the network.
        device: Device that the tiles' logits lie on, where they are blended.

    Example:
        >>> blending = Blending(TileGrid(Box.of((1, 1, 6)), (1, 1, 4), (0, 0, 2)), Box.of((1, 1, 6)), 1)
        >>> for value, tile in enumerate(blending.tiles):
        ...     blending.add(tile, np.full((1, 1, 1, 4), value, np.float32))
        >>> blending.logits.round(2).ravel().tolist()
        [0.0, 0.0, 0.33000001311302185, 0.6700000166893005, 1.0, 1.0]
    """

    def __init__(self, tiles: TileGrid, box: Box, heads: int, device: torch.device = CPU) -> None:
        self.tiles, self.box, self.device = tiles, box, device
        sums = torch.zeros((heads, *box.shape), device=device)
        self._sums: Any = sums if self._uses_tensors else sums.numpy()
        inside = box.relative_to(tiles.box.start)
        self._weights = [
            {start: self._there(weights) for start, weights in _weights_around(tiles, axis, low, high).items()}
            for axis, (low, high) in enumerate(zip(inside.start, inside.stop, strict=True))
        ]

    @property
    def _uses_tensors(self) -> bool:
        """Whether tensors are blended; on a CPU arrays are, whose operations take less time and no further threads."""
        return self.device.type != "cpu"

    def _there(self, values: Float32) -> Any:
        return torch.from_numpy(values).to(self.device) if self._uses_tensors else values

    @property
    def logits(self) -> Float32:
        """Logits `heads z y x` of the box, float32, complete once all tiles that touch it were added in order."""
        sums: Values = self._sums
        if isinstance(sums, Tensor):
            pinned = torch.empty(sums.shape, pin_memory=sums.is_cuda)  # several times faster to copy to
            sums = pinned.copy_(sums).numpy()
        return sums

    def add(self, tile: Block, logits: Values) -> None:
        """Add the logits `heads z y x` of the read box of a tile."""
        part = tile.read.intersect(self.box)
        inside = part.relative_to(tile.read.start).slices
        corner = tile.read.relative_to(self.tiles.box.start).start
        z, y, x = (axis[start][where] for axis, start, where in zip(self._weights, corner, inside, strict=True))
        if isinstance(logits, np.ndarray):
            logits = self._there(logits)
        weighted = logits[(slice(None), *inside)] * (z[:, None, None] * y[:, None] * x)
        self._sums[(slice(None), *part.relative_to(self.box.start).slices)] += weighted


def _weights_around(tiles: TileGrid, axis: int, low: int, high: int) -> dict[int, Float32]:
    """Return the weights of the tiles along one axis that touch low to high, by the start of the tile."""
    starts, side = tiles.starts[axis], tiles.shape[axis]
    weights = smooth_weights if tiles.overlap[axis] else stacked_weights
    first, last = bisect.bisect_right(starts, low - side), bisect.bisect_left(starts, high) - 1
    near = starts[bisect.bisect_right(starts, starts[first] - side) : bisect.bisect_left(starts, starts[last] + side)]
    return dict(zip(near, weights([start - near[0] for start in near], side), strict=True))


def smooth_weights(starts: Sequence[int], side: int) -> list[Float32]:
    """Return the weight of every voxel of every tile along one axis; where tiles overlap, the weights sum to 1.

    A voxel is weighted by its distance from the nearest end of the tile (a triangle, never zero). The weight in three
    dimensions is the product over the axes. Since each axis sums to 1, so does the product, and no sum of weights is kept.

    Args:
        starts: First voxel of each tile, ascending, the first 0.
        side: Length of every tile.

    Example:
        >>> [weights.tolist() for weights in smooth_weights([0, 2], 4)]
        [[1.0, 1.0, 0.6666666865348816, 0.3333333432674408], [0.3333333432674408, 0.6666666865348816, 1.0, 1.0]]
    """
    hat = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float64)
    total = np.zeros(starts[-1] + side)
    for start in starts:
        total[start : start + side] += hat
    return [(hat / total[start : start + side]).astype(np.float32) for start in starts]


def stacked_weights(starts: Sequence[int], side: int) -> list[Float32]:
    """Return the weight of every voxel of every tile along one axis, 0 or 1: each voxel is that of one tile.

    Neighbors that overlap, because the last tile is shifted inwards, meet in the middle of the overlap.

    Args:
        starts: First voxel of each tile, ascending, the first 0.
        side: Length of every tile.

    Example:
        >>> [weights.tolist() for weights in stacked_weights([0, 2], 4)]
        [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]]
    """
    places = np.arange(side)
    edges = write_edges(starts, side, starts[-1] + side)
    return [
        ((places >= begin - start) & (places < end - start)).astype(np.float32)
        for start, (begin, end) in zip(starts, itertools.pairwise(edges), strict=True)
    ]


def whole_logits(
    net: Network | Ensemble,
    raw: Volume,
    *,
    overlap: float = OVERLAP,
    tta: bool = False,
    trees: BoostedTrees | None = None,
) -> Float32:
    """Run a network over a volume that fits in memory, as `predict` does, and return its logits `heads z y x`, float32.

    Args:
        net: The network; it runs on the device of its weights.
        raw: Unsigned integers, or floats in 0-1, at least as large as the patch.
        overlap: Share of the patch that neighboring tiles have in common.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.
        trees: Boosted trees whose log-odds are averaged with the segmentation logits.

    Raises:
        InputError: when the volume is smaller than the patch.

    Example:
        >>> from cleftnet.nets.zoo import build
        >>> net = build("resunet", widths=(2, 4), patch=(2, 8, 8))
        >>> whole_logits(net, Volume(np.zeros((3, 8, 8), np.uint8)), overlap=0).shape
        (1, 3, 8, 8)
    """
    settings = PredictionSettings(overlap=overlap, tta=tta)
    network = TileNetwork(net, settings.tta)
    tiles = TileGrid(raw.box, net.spec.patch, overlap_in_voxels(net.spec.patch, settings.overlap))
    results: Iterable[tuple[Block, Values]] = network.logits(tiles, raw.__getitem__)
    blending = Blending(tiles, raw.box, len(net.spec.heads), network.device)
    for tile, logits in track(results, "predicting", len(tiles)):
        blending.add(tile, logits)
    found = blending.logits
    if trees is not None:
        found[0] = trees.averaged(found[0], raw.read(), raw.box, raw.box)
    return found
