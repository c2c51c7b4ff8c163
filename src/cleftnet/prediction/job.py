"""A prediction ready to run: model, volume, tiles and settings, and the three steps that turn a block of raw into a result.

A block computes every tile that touches it, also the tiles across its borders, so that no voxel depends on how the volume
was cut into blocks. Blocks are boxes of the volume; tiles are boxes of what the network sees of it (`NetworkView`).
"""

from __future__ import annotations

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
from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX, TileGrid
from cleftnet.models.checkpoint import Float32, Model, load_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.folding import fold
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.blending import Blending
from cleftnet.prediction.block_sides import block_sides
from cleftnet.prediction.masking import PredictionMask
from cleftnet.prediction.prediction_settings import PredictionSettings, best_device, overlap_in_voxels, precision_on
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.prediction.view import NetworkView
from cleftnet.volumes import CHUNK_VOX, DISTANCE_NAME, PROBABILITY_NAME, Array, Volume, as_volume, sampled_checksums

EMPTY_LOGIT = -30.0  # segmentation logit of a tile that is not computed; its boundary logit is 0
BLOCK_BYTES = 2**30  # memory of the blocks that a process holds at a time
MIN_STEPS = (
    6  # tile steps along each axis of a block, so that it computes at most (7/6)³ = 1.6 times the tiles it needs
)
BLOCKS_PER_WORKER = 4  # at least, where the volume is large enough, so that no worker waits long for the last block
LEAST = 1 / 2550  # a tenth of a level: the least value that uint8 does not round to 0
UNKNOWN_WORKERS = 16  # assumed behind a scheduler

Arrays = dict[str, Array]


class BlockInput(NamedTuple):
    """Input of a block.

    Attributes:
        raw: What the model sees of the boxes of its tiles, and as far around the block as its trees reach.
        wanted: Where in its read box a prediction is wanted; None means everywhere.
    """

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
        view: The region, and what the network sees of it.
        tiles: Overlapping tiles of what the network sees.
        settings: Everything else that decides the voxels.
        mask: Where a prediction is wanted; None means everywhere.
        targets: The arrays to write, by name.
    """

    model: Model
    digest: str
    volume: Volume
    region: Box
    view: NetworkView
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
        view = NetworkView.of(raw, loaded.card, settings)
        net = fold(at_patch(loaded.net, settings.patch)).channels_last()
        tiles = TileGrid(view.seen.box, net.spec.patch, overlap_in_voxels(net.spec.patch, settings.overlap))
        return cls(
            replace(loaded, net=net), model_digest(loaded), whole, roi or whole.box, view, tiles, settings, wanted
        )

    @property
    def raw(self) -> Volume:
        """The region to predict, as a volume of its own."""
        return self.view.raw

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
            **self.view.provenance(),
        }
        return identity | {name: value for name, value in self.settings if name not in identity}

    def inputs(self) -> dict[str, tuple[int | None, ...]]:
        """Return checksums of a sample of voxels, which tell whether the inputs have changed at their addresses."""
        masks = {} if self.settings.mask is None else {"mask": sampled_checksums(self.settings.mask)}
        return {"volume": sampled_checksums(self.raw), **masks}

    def provenance(self) -> dict[str, JsonValue]:
        """Return what the attributes of the prediction say about how it was made."""
        normalize = self.model.card.normalize
        measured: dict[str, JsonValue] = {"gray_percentiles": None, "gray_sections": False}
        if normalize is not None and self.settings.gray_range is None:
            measured = {"gray_percentiles": list(normalize.percentiles), "gray_sections": normalize.sections}
        return {"model_sha256": self.digest, **self.view.provenance(), **measured, **self._source()}

    def _source(self) -> dict[str, JsonValue]:
        """Return how synapses are found in the prediction, and the address of raw, where there are such."""
        point, raw = self.model.card.synapses, self.volume.source
        source: dict[str, JsonValue] = {} if point is None else {"synapses": point.model_dump(mode="json")}
        return source | ({} if raw is None else {"raw": raw})

    def writing_to(self, targets: Mapping[str, Target], *, in_workers: bool = False) -> Self:
        """Return the job with the arrays it writes to; for other processes its network is moved to the CPU first."""
        model = replace(self.model, net=self.model.net.cpu()) if in_workers else self.model
        return replace(self, model=model, targets=targets)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory for each voxel of a block in a process that reads one block, computes another and writes a third."""
        heads, stored = len(self.model.card.spec.heads), np.dtype(self.settings.dtype).itemsize
        per_seen = 2 * self.view.seen.dtype.itemsize + 4 * (heads + (self.model.trees is not None)) + 1
        per_raw = 2 * ((self.mask is not None) + heads * stored)
        if not self.view.rescaled:
            return per_raw + per_seen
        return math.ceil(per_raw + per_seen * self.view.seen_per_raw + 2 * (self.raw.dtype.itemsize + 4 * heads))

    def block_shape(self, execution: ExecutionSettings) -> IntZYX:
        """Return the sides of a block: those asked for, or sides that fit the memory and keep every worker busy."""
        if execution.block is not None:
            return execution.block
        voxels = BLOCK_BYTES / self.bytes_per_voxel
        workers = UNKNOWN_WORKERS if execution.scheduler else execution.workers
        if workers:
            voxels = min(voxels, self.region.voxels / (workers * BLOCKS_PER_WORKER))
        step = math.prod(side - shared for side, shared in zip(self.tiles.shape, self.tiles.overlap, strict=True))
        z, y, x = block_sides(self.tiles, CHUNK_VOX, max(voxels * self.view.seen_per_raw, float(step) * MIN_STEPS**3))
        if not self.view.rescaled:
            return z, y, x
        return self.view.raw_box(Box.of((z, y, x))).shape  # the grid of blocks rounds them to whole chunks

    def start(self, threads: int) -> None:
        """Prepare a worker process: set its threads, keep the memory it frees, and move the network to its device."""
        torch.set_num_threads(threads)
        keep_freed_memory()
        self.model.net.to(best_device())

    def reads(self, write: Box) -> Box:
        """Return the box of raw that a write box depends on."""
        return self.view.raw_box(self.sees(self.view.seen_box(write)))

    def sees(self, box: Box) -> Box:
        """Return what the tiles of a box cover, and as far around it as the trees reach."""
        tiles = self.tiles.reads(box)
        if self.model.trees is None:
            return tiles
        return tiles.hull(box.grow(self.model.trees.reach).intersect(self.view.seen.box))

    def read(self, block: Block) -> BlockInput:
        """Read what the model sees, and the mask."""
        seen = self.view.seen[self.sees(self.view.seen_box(block.write))]
        return BlockInput(seen, None if self.mask is None else self.mask[block.read])

    def compute(self, block: Block, data: BlockInput, tick: Tick) -> Arrays | None:
        """Return the block's arrays by name, or None if none of its tiles is computed: new arrays are zero already."""
        box = self.view.seen_box(block.write)
        read = self.sees(box)
        wanted: list[Block] = []
        empty: list[Block] = []
        for tile in self.tiles.touching(box):
            (wanted if self._is_wanted(tile, data, read, block.read) else empty).append(tile)
        if not wanted:
            return None
        heads = len(self.model.card.spec.heads)
        network = TileNetwork(self.model.net, self.settings.tta, self.settings.precision)
        blending = Blending(self.tiles, box, heads, network.device)
        computed = np.zeros(box.shape, np.bool_)
        results = network.logits(wanted, lambda tile: data.raw[tile.relative_to(read.start).slices])
        for done, (tile, logits) in enumerate(results, start=1):
            blending.add(tile, logits)
            computed[tile.read.intersect(box).relative_to(box.start).slices] = True
            tick(done / len(wanted))
        nothing = np.zeros((heads, *self.tiles.shape), np.float32)
        nothing[0] = EMPTY_LOGIT
        for tile in empty:
            blending.add(tile, nothing)
        covered = self.view.covered(computed, box, block.write)
        if data.wanted is not None:
            covered &= data.wanted[block.write.relative_to(block.read.start).slices]
        logits = blending.logits
        if self.model.trees is not None:
            logits[0] = self.model.trees.averaged(logits[0], data.raw, read, box)
        if np.isnan(logits).any():
            raise InputError(
                f"the network's output in {block.write} is not a number: the weights of the model are damaged"
            )
        return self._stored(logits, box, block.write, covered)

    def write(self, block: Block, arrays: Arrays | None) -> None:
        """Write the block's arrays."""
        for name, array in (arrays or {}).items():
            self.targets[name][block.write] = array

    def _is_wanted(self, tile: Block, data: BlockInput, read: Box, raw_read: Box) -> bool:
        if self.settings.skip_empty and not data.raw[tile.read.relative_to(read.start).slices].any():
            return False
        if data.wanted is None:
            return True
        return bool(data.wanted[self.view.raw_box(tile.read).relative_to(raw_read.start).slices].any())

    def _stored(self, logits: Float32, box: Box, write: Box, covered: npt.NDArray[np.bool_]) -> Arrays:
        """Turn logits `heads z y x` of a box that the network saw into the stored arrays of the write box, by name.

        Voxels that are not covered are 0. Probability and distance are interpolated, not logits: docs/results.md.
        """
        heads = {PROBABILITY_NAME: self.model.probability, DISTANCE_NAME: self.model.distance}
        arrays = {name: np.empty(covered.shape, self.settings.dtype) for name in self.targets}
        units = {name: np.empty(box.shape, np.float32) for name in arrays} if self.view.rescaled else {}

        def store(z: int) -> None:
            section = np.ascontiguousarray(logits[:, z])
            for name, array in arrays.items():
                unit = heads[name](section)
                assert unit is not None, f"the network has no head for {name}"
                if units:
                    units[name][z] = unit
                else:
                    array[z] = self._as_stored(unit) * covered[z]

        with ThreadPoolExecutor(torch.get_num_threads(), "store") as pool:  # a GPU waits for this
            list(pool.map(store, range(box.shape[0])))  # by section: intermediate arrays are larger than stored ones
        for name, unit in units.items():
            arrays[name][...] = self._as_stored(self.view.back(unit, box, write)) * covered
        return arrays

    def _as_stored(self, unit: Float32) -> Array:
        return to_uint8(unit) if self.settings.dtype == "uint8" else unit.astype(np.float32)


def to_uint8(unit: Float32) -> npt.NDArray[np.uint8]:
    """Return values of 0-1 as 0-255, rounded to the nearest: v stands for v / 255.

    Values from 1/2550 on become at least 1. Of the voxels of clefts, those that a network misses lie there, and if they
    became 0 with the rest of the tissue, the AUC would not see their order (docs/results.md, "Out of fold").

    Example:
        >>> to_uint8(np.array([0, 0.0003, 0.0004, 0.2, 0.5, 1], np.float32)).tolist()
        [0, 0, 1, 51, 128, 255]
    """
    levels = np.rint(unit * 255).astype(np.uint8)
    return np.maximum(levels, unit >= LEAST)


def model_digest(model: Model) -> str:
    """Return the SHA-256 of a model's card and weights, hexadecimal."""
    digest = hashlib.sha256(model.card.model_dump_json().encode())
    trees = {} if model.trees is None else model.trees.tensors()
    for name, tensor in sorted((model.net.state_dict() | trees).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def at_patch(net: Network | Ensemble, patch: IntZYX | None) -> Network | Ensemble:
    """Return the network resized to another patch, with a warning; the network itself where the patch stays the same.

    The warning names the line that called the caller's caller: a public function calls this through one other.

    Args:
        net: The network; it is not changed.
        patch: The patch size z y x in voxels; None keeps that of the network.

    Raises:
        InputError: when the network cannot take the patch.
    """
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
