"""Runs a network over overlapping tiles, as many at a time as there are threads, and yields the logits of each tile."""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cleftnet.geometry import Block, Box, IntZYX
from cleftnet.models.checkpoint import Float32
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.onednn import through_onednn
from cleftnet.prediction.prediction_settings import Precision
from cleftnet.volumes import Array, intensity

FEATURE_MAPS = 8  # of the first level that are in memory at a time, about
TILES_BYTES = 2**31  # memory of the tiles that are computed at the same time


class _Symmetry(NamedTuple):
    """An in-plane rotation followed by a flip, and its inverse."""

    quarter: int = 0
    axes: tuple[int, ...] = ()

    def apply(self, x: Tensor) -> Tensor:
        return x.rot90(self.quarter, (-2, -1)).flip(self.axes)

    def undo(self, x: Tensor) -> Tensor:
        return x.flip(self.axes).rot90(-self.quarter, (-2, -1))


def _symmetries(patch: IntZYX) -> list[_Symmetry]:
    """Return all flips and in-plane rotations: 16 if the patch is square in the plane, else 8."""
    quarters = (0, 1) if patch[1] == patch[2] else (0,)
    subsets = [axes for n in range(4) for axes in itertools.combinations((-3, -2, -1), n)]
    return [_Symmetry(quarter, axes) for quarter in quarters for axes in subsets]


@dataclass(frozen=True)
class TileNetwork:
    """A network that turns raw tiles into logits.

    Args:
        net: The network; it runs on the device of its weights.
        tta: Average over flips and in-plane rotations (test-time augmentation).
        precision: Arithmetic of the network.
    """

    net: Network
    tta: bool = False
    precision: Precision = "float32"

    @property
    def at_once(self) -> int:
        """Number of tiles that are computed at the same time: on a CPU one for each thread, within the memory; on a GPU one.

        Threads that share one tile wait for each other after every layer, much longer if another process uses one of
        their cores.
        """
        if next(self.net.parameters()).device.type != "cpu":
            return 1
        tile_bytes = 4 * FEATURE_MAPS * self.net.spec.widths[0] * math.prod(self.net.spec.patch)
        return max(1, min(torch.get_num_threads(), TILES_BYTES // tile_bytes))

    def logits(self, tiles: Iterable[Block], fetch: Callable[[Box], Array]) -> Iterator[tuple[Block, Float32]]:
        """Yield every tile in order with the logits `heads z y x` of its read box, float32.

        Tiles are not batched, since the last bits of a tile would depend on its place in the batch (docs/log.md). They do
        not depend on the number of threads.

        Args:
            tiles: The tiles to compute.
            fetch: Returns the gray values of a box.
        """
        under_way: deque[tuple[Block, Future[Float32]]] = deque()
        with inferring(self.net), _threads(self.at_once) as pool:
            try:
                for tile in tiles:
                    under_way.append((tile, pool.submit(self._logits, fetch(tile.read))))
                    if len(under_way) > self.at_once:
                        first, logits = under_way.popleft()
                        yield first, logits.result()
                while under_way:
                    last, logits = under_way.popleft()
                    yield last, logits.result()
            finally:  # no thread goes on after an interruption
                wait([logits for _, logits in under_way if not logits.cancel()])

    def _logits(self, raw: Array) -> Float32:
        logits: Float32 = self._averaged(torch.from_numpy(intensity(raw))[None, None])[0].numpy()
        return logits

    @torch.inference_mode()
    def _averaged(self, x: Tensor) -> Tensor:
        """Return logits `b heads z y x`; with `tta` averaged over all symmetries, one in memory at a time."""
        symmetries = _symmetries(self.net.spec.patch) if self.tta else [_Symmetry()]
        x = x.to(next(self.net.parameters()).device)
        total = sum(symmetry.undo(self._run(symmetry.apply(x))) for symmetry in symmetries)
        assert isinstance(total, Tensor)
        return (total / len(symmetries)).cpu()

    def _run(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.net(x.contiguous(memory_format=torch.channels_last_3d))
        return logits.float()


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that divide PyTorch's threads among them; the calling thread keeps its number of threads."""
    before = torch.get_num_threads()
    try:
        yield _pool(number, max(1, before // number))
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _pool(number: int, each: int) -> ThreadPoolExecutor:
    """Return threads that are kept for the next block, since every new thread allocates memory of its own."""
    return ThreadPoolExecutor(number, "tile", torch.set_num_threads, (each,))


@contextmanager
def inferring(net: Network) -> Iterator[None]:
    """Put a network into eval mode, with fast convolutions, while the body runs."""
    was_training = net.training
    net.eval()
    try:
        with through_onednn(net):
            yield
    finally:
        net.train(was_training)
