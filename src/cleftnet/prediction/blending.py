"""Tiles that overlap become one array: each voxel the mean of all tiles that saw it, weighted by how far inside each it lies.

Which tiles there are depends on the volume alone, never on who computes them, and so do the voxels of any part of it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

import numpy as np

from cleftnet.geometry import OVERLAP, Block, Box, TileGrid
from cleftnet.models.checkpoint import Float32
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.inference import PredictionSettings, overlap_in_voxels
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.progress import track
from cleftnet.volumes import Volume


class Blending:
    """The weighted means of tiles' logits over a box.

    Args:
        tiles: Of the whole volume.
        box: The part that is wanted.
        heads: Of the network.

    Attributes:
        logits: `heads z y x` of the box, float32, once all tiles that read any of it have been added, always in one order.

    Example:
        >>> blending = Blending(TileGrid(Box.of((1, 1, 6)), (1, 1, 4), (0, 0, 2)), Box.of((1, 1, 6)), 1)
        >>> for value, tile in enumerate(blending.tiles):
        ...     blending.add(tile, np.full((1, 1, 1, 4), value, np.float32))
        >>> blending.logits.round(2).ravel().tolist()
        [0.0, 0.0, 0.33000001311302185, 0.6700000166893005, 1.0, 1.0]
    """

    def __init__(self, tiles: TileGrid, box: Box, heads: int) -> None:
        self.tiles, self.box = tiles, box
        self.logits = np.zeros((heads, *box.shape), np.float32)
        inside = box.relative_to(tiles.box.start)
        self._weights = [
            _weights_around(starts, side, low, high)
            for starts, side, low, high in zip(tiles.starts, tiles.shape, inside.start, inside.stop, strict=True)
        ]

    def add(self, tile: Block, logits: Float32) -> None:
        """Add a tile: logits `heads z y x` of what it reads."""
        part = tile.read.intersect(self.box)
        inside = part.relative_to(tile.read.start).slices
        corner = tile.read.relative_to(self.tiles.box.start).start
        z, y, x = (axis[start][where] for axis, start, where in zip(self._weights, corner, inside, strict=True))
        weighted = logits[(slice(None), *inside)] * (z[:, None, None] * y[:, None] * x)
        self.logits[(slice(None), *part.relative_to(self.box.start).slices)] += weighted


def _weights_around(starts: Sequence[int], side: int, low: int, high: int) -> dict[int, Float32]:
    """Return the weights of the tiles along one axis that read any of low to high, by where they begin; few among many."""
    first, last = bisect.bisect_right(starts, low - side), bisect.bisect_left(starts, high) - 1
    near = starts[bisect.bisect_right(starts, starts[first] - side) : bisect.bisect_left(starts, starts[last] + side)]
    return dict(zip(near, smooth_weights([start - near[0] for start in near], side), strict=True))


def smooth_weights(starts: Sequence[int], side: int) -> list[Float32]:
    """Return for every tile along one axis how much each of its voxels counts; where tiles overlap, these sum to 1.

    A voxel counts by its distance from the nearest end of the tile (a triangle, never zero). Since the weight of a voxel in
    a tile is the product over the axes, and each axis sums to 1, so does the product: no sum of weights is kept anywhere.

    Args:
        starts: Where the tiles begin, ascending, the first at 0.
        side: How long each is.

    Example:
        >>> [weights.tolist() for weights in smooth_weights([0, 2], 4)]
        [[1.0, 1.0, 0.6666666865348816, 0.3333333432674408], [0.3333333432674408, 0.6666666865348816, 1.0, 1.0]]
    """
    hat = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float64)
    total = np.zeros(starts[-1] + side)
    for start in starts:
        total[start : start + side] += hat
    return [(hat / total[start : start + side]).astype(np.float32) for start in starts]


def whole_logits(net: Network, raw: Volume, *, overlap: float = OVERLAP, tta: bool = False) -> Float32:
    """Run a network over a volume that fits in memory, and return its logits `heads z y x`, float32.

    Args:
        net: It runs where its weights are.
        raw: Unsigned integers, or floats in 0-1, at least as large as the patch.
        overlap: Share of the patch that neighbouring tiles have in common.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.

    Raises:
        InputError: when the volume is smaller than the patch.

    Example:
        >>> from cleftnet.nets.zoo import build
        >>> net = build("resunet", widths=(2, 4), patch=(2, 8, 8))
        >>> whole_logits(net, Volume(np.zeros((3, 8, 8), np.uint8)), overlap=0).shape
        (1, 3, 8, 8)
    """
    network = TileNetwork(net, PredictionSettings(overlap=overlap, tta=tta))
    tiles = TileGrid(raw.box, net.spec.patch, overlap_in_voxels(net.spec.patch, overlap))
    found: Iterable[tuple[Block, Float32]] = network.logits(tiles, raw.__getitem__)
    blending = Blending(tiles, raw.box, len(net.spec.heads))
    for tile, logits in track(found, "predicting", len(tiles)):
        blending.add(tile, logits)
    return blending.logits
