"""Runs a network over overlapping tiles and yields the logits of each tile.

A CPU computes one tile in each thread. A GPU computes batches of tiles, while threads prepare the next ones.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cleftnet.geometry import Block, Box, IntZYX
from cleftnet.models.checkpoint import Float32
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.kernels import fast_kernels
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.onednn import through_onednn
from cleftnet.prediction.prediction_settings import Precision, precision_on
from cleftnet.volumes import Array, intensity

FEATURE_MAPS = 8  # of the first level that are in memory at a time, about
TILES_BYTES = 2**31  # memory of the tiles that a CPU computes at the same time
BATCH_VOXELS = 2**23  # of a batch on a GPU: 16 tiles of 8×256×256 voxels
BATCH_SHARE = 8  # a batch takes at most this part of a GPU's memory
GPU_THREADS = 3  # batches under way on a GPU: one is computed, one waits for it, one is prepared

Values = Float32 | Tensor  # logits on a CPU, on a GPU


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
        precision: Arithmetic of the network; None takes the device's default (`precision_on`).
    """

    net: Network | Ensemble
    tta: bool = False
    precision: Precision | None = None

    @property
    def device(self) -> torch.device:
        """Device of the network's weights."""
        return next(self.net.parameters()).device

    @property
    def batch(self) -> int:
        """Number of tiles of one forward pass: one on a CPU, whose last bits would depend on the place in a batch."""
        if self.device.type == "cpu":
            return 1
        memory = torch.cuda.get_device_properties(self.device).total_memory
        wanted = BATCH_VOXELS // math.prod(self.net.spec.patch)
        return max(1, min(wanted, memory // BATCH_SHARE // self._tile_bytes))

    @property
    def threads(self) -> int:
        """Number of batches that are under way at the same time: on a CPU one for each thread, within the memory.

        Threads that share one tile wait for each other after every layer, much longer if another process uses one of
        their cores.
        """
        if self.device.type != "cpu":
            return GPU_THREADS
        return max(1, min(torch.get_num_threads(), TILES_BYTES // self._tile_bytes))

    @property
    def at_once(self) -> int:
        """Number of tiles that are under way at the same time."""
        return self.batch * self.threads

    @property
    def _tile_bytes(self) -> int:
        return 4 * FEATURE_MAPS * self.net.spec.widths[0] * math.prod(self.net.spec.shapes[0])

    def logits(self, tiles: Iterable[Block], fetch: Callable[[Box], Array]) -> Iterator[tuple[Block, Values]]:
        """Yield every tile in order with the logits `heads z y x` of its read box, float32, on the network's device.

        On a CPU no bit depends on the number of threads. On a GPU the last bits may depend on a tile's place in its batch.

        Args:
            tiles: The tiles to compute.
            fetch: Returns the gray values of a box.
        """
        device, rest = self.device, iter(tiles)
        exact = precision_on(device, self.precision) == "float32"
        under_way: deque[tuple[list[Block], Future[Values]]] = deque()
        with inferring(self.net), fast_kernels(device, exact=exact), _threads(self.threads) as pool:
            try:
                while some := list(itertools.islice(rest, self.batch)):
                    under_way.append((some, pool.submit(self._logits, [fetch(tile.read) for tile in some])))
                    if len(under_way) > self.threads:
                        yield from _first(under_way)
                while under_way:
                    yield from _first(under_way)
            finally:  # no thread goes on after an interruption
                wait([logits for _, logits in under_way if not logits.cancel()])

    def _logits(self, raws: Sequence[Array]) -> Values:
        """Return the logits `b heads z y x` of a batch; the rest of a batch that is not full is computed from zeros.

        So a GPU meets one size of batch only, for which it chooses its kernels once. From pinned memory a copy to the GPU
        does not wait for the computation.
        """
        cuda = self.device.type == "cuda"
        x = torch.zeros(self.batch, 1, *self.net.spec.patch, pin_memory=cuda)
        for tile, raw in zip(x[:, 0].numpy(), raws, strict=False):
            tile[:] = intensity(raw)
        logits = self._averaged(x.to(self.device, non_blocking=True))
        if not cuda:
            found: Float32 = logits.numpy()
            return found
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # untyped in torch
        done.record()
        done.synchronize()  # else this thread would prepare batches much faster than the GPU computes them
        return logits

    @torch.inference_mode()
    def _averaged(self, x: Tensor) -> Tensor:
        """Return logits `b heads z y x`; with `tta` averaged over all symmetries, one in memory at a time."""
        symmetries = _symmetries(self.net.spec.patch) if self.tta else [_Symmetry()]
        total = sum(symmetry.undo(self._run(symmetry.apply(x))) for symmetry in symmetries)
        assert isinstance(total, Tensor)
        return total / len(symmetries)

    def _run(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision_on(x.device, self.precision) == "bf16"):
            logits: Tensor = self.net(x.contiguous(memory_format=torch.channels_last_3d))
        return logits.float()


def _first(under_way: deque[tuple[list[Block], Future[Values]]]) -> Iterator[tuple[Block, Values]]:
    """Remove the first batch and yield its tiles, once they are computed."""
    tiles, logits = under_way.popleft()
    yield from zip(tiles, logits.result(), strict=False)


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
def inferring(net: Network | Ensemble) -> Iterator[None]:
    """Put a network into eval mode, with fast convolutions, while the body runs."""
    was_training = net.training
    net.eval()
    try:
        with through_onednn(net):
            yield
    finally:
        net.train(was_training)
