"""The network over tiles of its patch size, as many at a time as there are threads: logits in, whoever asks for them."""

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
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.inference import PredictionSettings
from cleftnet.prediction.onednn import through_onednn
from cleftnet.volumes import Array, intensity

FEATURE_MAPS = 8  # about as many of the first level's are in memory at a time
TILES_BYTES = 2**31  # of the tiles that are computed at the same time


class _Turn(NamedTuple):
    """A flip after an in-plane rotation, and back again."""

    quarter: int = 0
    axes: tuple[int, ...] = ()

    def there(self, x: Tensor) -> Tensor:
        return x.rot90(self.quarter, (-2, -1)).flip(self.axes)

    def back(self, x: Tensor) -> Tensor:
        return x.flip(self.axes).rot90(-self.quarter, (-2, -1))


def _turns(patch: IntZYX) -> list[_Turn]:
    """All flips and in-plane rotations: 16 where the patch is square in the plane, else 8."""
    quarters = (0, 1) if patch[1] == patch[2] else (0,)
    subsets = [axes for n in range(4) for axes in itertools.combinations((-3, -2, -1), n)]
    return [_Turn(quarter, axes) for quarter in quarters for axes in subsets]


@dataclass(frozen=True)
class TileNetwork:
    """A network that takes raw tiles and gives logits.

    Args:
        net: It runs where its weights are.
        how: Test-time augmentation and precision.
    """

    net: Network
    how: PredictionSettings

    @property
    def at_once(self) -> int:
        """How many tiles are computed at the same time: on a CPU one in each thread, as far as memory goes; on a GPU one.

        Threads that share the work of one tile wait for each other after every layer, and far longer where another process
        takes one of their cores.
        """
        if next(self.net.parameters()).device.type != "cpu":
            return 1
        tile_bytes = 4 * FEATURE_MAPS * self.net.spec.widths[0] * math.prod(self.net.spec.patch)
        return max(1, min(torch.get_num_threads(), TILES_BYTES // tile_bytes))

    def logits(self, tiles: Iterable[Block], fetch: Callable[[Box], Array]) -> Iterator[tuple[Block, Float32]]:
        """Yield every tile in turn with its logits `heads z y x` of the tile's read box, float32.

        Tiles go through the network one by one, never as a batch: there the place of a tile changes its last bits
        (docs/log.md). The number of threads changes none.

        Args:
            tiles: What to compute.
            fetch: Gives the gray values of a box.
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
            finally:
                wait([logits for _, logits in under_way if not logits.cancel()])  # nobody works on after an interrupt

    def _logits(self, raw: Array) -> Float32:
        logits: Float32 = self._averaged(torch.from_numpy(intensity(raw))[None, None])[0].numpy()
        return logits

    @torch.inference_mode()
    def _averaged(self, x: Tensor) -> Tensor:
        """The network's logits `b heads z y x`, averaged over turns where that is asked for; one turn is held at a time."""
        turns = _turns(self.net.spec.patch) if self.how.tta else [_Turn()]
        x = x.to(next(self.net.parameters()).device)
        total = sum(turn.back(self._run(turn.there(x))) for turn in turns)
        assert isinstance(total, Tensor)
        return (total / len(turns)).cpu()

    def _run(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.how.precision == "bf16"):
            logits: Tensor = self.net(x.contiguous(memory_format=torch.channels_last_3d))
        return logits.float()


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Share the threads that PyTorch has among so many threads of ours while the body runs."""
    before = torch.get_num_threads()
    try:
        yield _pool(number, max(1, before // number))
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _pool(number: int, each: int) -> ThreadPoolExecutor:
    """Threads that stay for the next block, since new ones bring memory of their own."""
    return ThreadPoolExecutor(number, "tile", torch.set_num_threads, (each,))


@contextmanager
def inferring(net: Network) -> Iterator[None]:
    """Have a network in eval mode, with fast convolutions, while the body runs."""
    keep_freed_memory()
    was_training = net.training
    net.eval()
    try:
        with through_onednn(net):
            yield
    finally:
        net.train(was_training)
