"""A prediction ready to run: model, volume, tiles and settings, and the three steps that turn a block of raw into a result.

A block computes every tile that touches it, also the tiles across its borders, so that no voxel depends on how the volume
was cut into blocks.
"""

from __future__ import annotations

import functools
import hashlib
import math
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue

from cleftnet.blockwise import ExecutionSettings, Tick
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX, TileGrid
from cleftnet.models.checkpoint import Float32, Model, load_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.folding import fold
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.blending import Blending
from cleftnet.prediction.masking import PredictionMask
from cleftnet.prediction.prediction_settings import PredictionSettings, best_device, overlap_in_voxels, precision_on
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.volumes import CHUNK_VOX, DISTANCE_NAME, PROBABILITY_NAME, Array, Volume, as_volume, sampled_checksums

EMPTY_LOGIT = -30.0  # segmentation logit of a tile that is not computed; its boundary logit is 0
BLOCK_BYTES = 2**30  # memory of the blocks that a process holds at a time
MIN_STEPS = (
    6  # tile steps along each axis of a block, so that it computes at most (7/6)³ = 1.6 times the tiles it needs
)
BLOCKS_PER_WORKER = 4  # at least, where the volume is large enough, so that no worker waits long for the last block
UNKNOWN_WORKERS = 16  # assumed behind a scheduler

Arrays = dict[str, Array]


class BlockInput(NamedTuple):
    """Input of a block: raw of its read box, and where in it a prediction is wanted; None means everywhere."""

    raw: Array
    wanted: npt.NDArray[np.bool_] | None


class Target(Protocol):
    """An array that takes the voxels of a box."""

    def __setitem__(self, box: Box, values: Array, /) -> None:
        """Write one box."""


@dataclass(frozen=True)
class PredictionJob:
    """A prediction ready to run, and the `blockwise.Work` that computes its blocks.

    Attributes:
        model: Its network is folded, and resized to the patch that it runs with.
        digest: SHA-256 of the model as it was loaded.
        volume: The volume that `region` is cut from.
        region: The part to predict, in voxels of the volume.
        tiles: Overlapping tiles of the region.
        settings: Everything else that decides the voxels.
        mask: Where a prediction is wanted; None means everywhere.
        targets: The arrays to write, by name.
    """

    model: Model
    digest: str
    volume: Volume
    region: Box
    tiles: TileGrid
    settings: PredictionSettings
    mask: PredictionMask | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        model: str | Path | Model,
        volume: str | Path | Volume | Array,
        *,
        voxel_size_nm: FloatZYX | None = None,
        roi: Box | None = None,
        settings: PredictionSettings,
    ) -> Self:
        """Load the model, open the volume, and check that they fit together.

        Raises:
            InputError: when model, volume or mask cannot be used, or the network cannot take the patch.
        """
        loaded = model if isinstance(model, Model) else load_model(model, best_device())
        device = next(loaded.net.parameters()).device
        settings = settings.model_copy(update={"precision": precision_on(device, settings.precision)})
        whole = as_volume(volume, voxel_size_nm=voxel_size_nm)
        raw, mask = whole, settings.mask
        if roi is not None:
            raw = whole.crop(roi)
            if mask is not None and mask.voxel_size is None and mask.shape == whole.shape:
                mask = mask.crop(roi)
        wanted = None if mask is None else PredictionMask(mask, raw)
        _warn_about_voxel_size(loaded, raw)
        net = fold(_at_patch(loaded.net, settings.patch)).channels_last()
        tiles = TileGrid(raw.box, net.spec.patch, overlap_in_voxels(net.spec.patch, settings.overlap))
        return cls(Model(net, loaded.card), _digest(loaded), whole, roi or whole.box, tiles, settings, wanted)

    @property
    def raw(self) -> Volume:
        """The region to predict, as a volume of its own."""
        return self.volume.crop(self.region)

    @property
    def heads(self) -> list[str]:
        """Names of the arrays that the model predicts: the probability, and the distance if it has that head."""
        return [PROBABILITY_NAME, DISTANCE_NAME][: len(self.model.card.spec.heads)]

    def identity(self) -> dict[str, JsonValue]:
        """Return what a later run must have in common with this one to complete its output."""
        raw, mask = self.raw, self.settings.mask
        identity: dict[str, JsonValue] = {
            "model": self.digest,
            "volume": self.volume.identity(),
            "region": str(self.region),
            "voxel size": list(raw.voxel_size_nm),
            "offset": list(raw.offset_nm),
            "patch": list(self.tiles.shape),
            "mask": None if mask is None else mask.identity(),
        }
        return identity | {name: value for name, value in self.settings if name not in identity}

    def inputs(self) -> dict[str, tuple[int | None, ...]]:
        """Return checksums of a sample of voxels, which tell whether the inputs have changed at their addresses."""
        masks = {} if self.settings.mask is None else {"mask": sampled_checksums(self.settings.mask)}
        return {"volume": sampled_checksums(self.raw), **masks}

    def writing_to(self, targets: Mapping[str, Target], *, in_workers: bool = False) -> Self:
        """Return the job with the arrays it writes to; for other processes its network is moved to the CPU first."""
        model = Model(self.model.net.cpu(), self.model.card) if in_workers else self.model
        return replace(self, model=model, targets=targets)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory for each voxel of a block in a process that reads one block, computes another and writes a third."""
        heads, stored = len(self.model.card.spec.heads), np.dtype(self.settings.dtype).itemsize
        blended = 4 * heads + 1
        return 2 * (self.volume.dtype.itemsize + (self.mask is not None) + heads * stored) + blended

    def block_shape(self, execution: ExecutionSettings) -> IntZYX:
        """Return the sides of a block: those asked for, or sides that fit the memory and keep every worker busy."""
        if execution.block is not None:
            return execution.block
        voxels = BLOCK_BYTES / self.bytes_per_voxel
        workers = UNKNOWN_WORKERS if execution.scheduler else execution.workers
        if workers:
            voxels = min(voxels, self.region.voxels / (workers * BLOCKS_PER_WORKER))
        step = math.prod(side - shared for side, shared in zip(self.tiles.shape, self.tiles.overlap, strict=True))
        return block_sides(self.tiles, CHUNK_VOX, max(voxels, float(step) * MIN_STEPS**3))

    def start(self, threads: int) -> None:
        """Prepare a worker process: set its threads, keep the memory it frees, and move the network to its device."""
        torch.set_num_threads(threads)
        keep_freed_memory()
        self.model.net.to(best_device())

    def reads(self, write: Box) -> Box:
        """Return the box of raw that the tiles of a write box cover."""
        return self.tiles.reads(write)

    def read(self, block: Block) -> BlockInput:
        """Read raw and mask."""
        return BlockInput(self.raw[block.read], None if self.mask is None else self.mask[block.read])

    def compute(self, block: Block, data: BlockInput, tick: Tick) -> Arrays | None:
        """Return the block's arrays by name, or None if none of its tiles is computed: new arrays are zero already."""
        wanted: list[Block] = []
        empty: list[Block] = []
        for tile in self.tiles.touching(block.write):
            (wanted if self._is_wanted(tile, data, block.read) else empty).append(tile)
        if not wanted:
            return None
        heads = len(self.model.card.spec.heads)
        network = TileNetwork(self.model.net, self.settings.tta, self.settings.precision)
        blending = Blending(self.tiles, block.write, heads, network.device)
        seen = np.zeros(block.write.shape, np.bool_)
        results = network.logits(wanted, lambda box: data.raw[box.relative_to(block.read.start).slices])
        for done, (tile, logits) in enumerate(results, start=1):
            blending.add(tile, logits)
            seen[tile.read.intersect(block.write).relative_to(block.write.start).slices] = True
            tick(done / len(wanted))
        nothing = np.zeros((heads, *self.tiles.shape), np.float32)
        nothing[0] = EMPTY_LOGIT
        for tile in empty:
            blending.add(tile, nothing)
        if data.wanted is not None:
            seen &= data.wanted[block.write.relative_to(block.read.start).slices]
        return self._stored(blending.logits, seen)

    def write(self, block: Block, arrays: Arrays | None) -> None:
        """Write the block's arrays."""
        for name, array in (arrays or {}).items():
            self.targets[name][block.write] = array

    def _is_wanted(self, tile: Block, data: BlockInput, read: Box) -> bool:
        where = tile.read.relative_to(read.start).slices
        if self.settings.skip_empty and not data.raw[where].any():
            return False
        return data.wanted is None or bool(data.wanted[where].any())

    def _stored(self, logits: Float32, seen: npt.NDArray[np.bool_]) -> Arrays:
        """Turn logits `heads z y x` into the stored arrays, by name; voxels that no computed tile covers are 0."""
        arrays = {name: np.empty(seen.shape, self.settings.dtype) for name in self.targets}
        heads = {PROBABILITY_NAME: self.model.probability, DISTANCE_NAME: self.model.distance}

        def store(z: int) -> None:
            section = np.ascontiguousarray(logits[:, z])
            for name, array in arrays.items():
                unit = heads[name](section)
                assert unit is not None, f"the network has no head for {name}"
                values = to_uint8(unit) if self.settings.dtype == "uint8" else unit.astype(np.float32)
                array[z] = values * seen[z]

        with ThreadPoolExecutor(torch.get_num_threads(), "store") as pool:  # a GPU waits for this
            list(pool.map(store, range(len(seen))))  # by section, since intermediate arrays are larger than stored ones
        return arrays


def to_uint8(unit: Float32) -> npt.NDArray[np.uint8]:
    """Return values of 0-1 as 0-255, rounded to the nearest: v stands for v / 255.

    Example:
        >>> to_uint8(np.array([0, 0.2, 0.5, 1], np.float32)).tolist()
        [0, 51, 128, 255]
    """
    return np.rint(unit * 255).astype(np.uint8)


def block_sides(tiles: TileGrid, chunk: IntZYX, voxels: float) -> IntZYX:
    """Choose the sides of a block so that few tiles are computed twice.

    Both sides of a border between blocks compute the tiles across it, on average as many as a tile is steps long. Of all
    blocks that end at chunk borders and fit, the one with the fewest tiles in total is taken; of equals, the smallest.

    Args:
        tiles: Tiles of the volume.
        chunk: Sides of a chunk, which the sides of the block are multiples of.
        voxels: Largest number of voxels of a block; a block of a single chunk is always allowed.

    Example:
        >>> block_sides(TileGrid(Box.of((512, 1024, 1024)), (16, 128, 128), (2, 16, 16)), (16, 128, 128), 2**26)
        (64, 1024, 1024)
    """
    sides, computed = [], []
    for axis, (length, patch, shared, unit) in enumerate(
        zip(tiles.box.shape, tiles.shape, tiles.overlap, chunk, strict=True)
    ):
        chunks = -(-length // unit)
        choices = np.minimum(np.unique(-(-chunks // np.arange(1, chunks + 1))) * unit, length)  # those that divide well
        choices = choices[choices * (math.prod(chunk) / unit) <= max(voxels, math.prod(chunk))]
        sides.append(choices)
        computed.append(len(tiles.starts[axis]) + (-(-length // choices) - 1) * patch / (patch - shared))
    size, work = (functools.reduce(np.multiply.outer, values) for values in (sides, computed))
    fits = np.nonzero((size <= voxels) | (size == size.min()))
    best = np.lexsort((size[fits], work[fits]))[0]
    z, y, x = (int(choices[where[best]]) for choices, where in zip(sides, fits, strict=True))
    return z, y, x


def _digest(model: Model) -> str:
    """Return the SHA-256 of a model's card and weights."""
    digest = hashlib.sha256(model.card.model_dump_json().encode())
    for name, tensor in sorted(model.net.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _at_patch(net: Network | Ensemble, patch: IntZYX | None) -> Network | Ensemble:
    """Return the network resized to another patch, with a warning; the network itself where the patch stays the same."""
    if patch is None or patch == net.spec.patch:
        return net
    resized = resize_network(net, patch)
    trained, wanted = ("×".join(map(str, sides)) for sides in (net.spec.patch, patch))
    changed = any(a.shape != b.shape for a, b in zip(net.parameters(), resized.parameters(), strict=True))
    queries = "its queries are interpolated, and " if changed else ""
    warnings.warn(
        f"this model was trained on patches of {trained}, not {wanted}; {queries}its threshold may no longer fit: see "
        f"docs/results.md for the effect on our scores, and evaluate it on labels of your own with sweep=True",
        stacklevel=4,
    )
    return resized


def _warn_about_voxel_size(model: Model, raw: Volume) -> None:
    """Warn if a side of the volume's voxels differs by more than a tenth from that of the training data."""
    trained, given = model.card.voxel_size_nm, raw.voxel_size_nm
    if trained is not None and any(abs(g / t - 1) > 0.1 for g, t in zip(given, trained, strict=True)):
        warnings.warn(
            f"the model was trained on voxels of {trained} nm, {raw.address} has {given} nm (z y x): expect worse results",
            stacklevel=4,
        )
