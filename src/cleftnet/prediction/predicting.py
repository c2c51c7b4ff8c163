"""A whole volume through a network: cut into blocks, done by whoever is there, resumed where it stopped."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from cleftnet.blockwise import BlockGrid, ExecutionSettings, NewArray, Task, map_blocks, unfinished
from cleftnet.geometry import Box, IntZYX, TileGrid
from cleftnet.models.checkpoint import Model, load_model
from cleftnet.nets.folding import fold
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.skeleton import Network
from cleftnet.prediction.blocks import BlockPrediction, block_sides
from cleftnet.prediction.inference import PredictionSettings, best_device, overlap_in_voxels
from cleftnet.prediction.masking import PredictionMask
from cleftnet.volumes import CHUNK_VOX, DISTANCE_NAME, PREDICTION, PROBABILITY_NAME, Volume, WritableVolume, open_volume

BLOCK_BYTES = 2**30  # of the blocks that a process has in memory at a time
MIN_STEPS = 6  # of tiles that a block has along an axis, so that it computes at most (7/6)³ = 1.6 times what it must
BLOCKS_PER_WORKER = 4  # at least, where the volume is large enough, so that none waits long for the last
UNKNOWN_WORKERS = 16  # behind a scheduler


def predict(
    model: str | Path | Model,
    volume: str | Path | Volume,
    out: str | Path,
    *,
    roi: Box | None = None,
    settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - so is this
    overwrite: bool = False,
) -> Volume:
    """Predict a volume into `volumes/probability` and, where the model has it, `volumes/distance`, with voxel size and offset.

    Until it is whole, the output lies in `OUT.unfinished` beside it with a record of its finished blocks: after a crash or an
    interrupt the same call does only what is missing. Every voxel is the same whatever the blocks and whoever did them.

    Args:
        model: A run directory, a checkpoint file, or a loaded model.
        volume: Raw, or its address.
        out: What to write, in the format of its ending (`.hdf`, `.zarr`, `.n5`); it appears whole or not at all.
        roi: The part to predict, in voxels of the volume; None is all of it.
        settings: Everything else that decides the voxels: overlap, test-time augmentation, type, mask and more.
        execution: The size of the blocks, and who does them: this process, others beside it, or a Dask cluster.
        overwrite: Whether an existing `out` may be replaced, and another prediction begun there forgotten.

    Returns:
        The probability, opened lazily, with the model's threshold.

    Raises:
        InputError: when model or volume cannot be used, the network cannot take the patch, `out` exists, another prediction was
            begun there, or blocks of raw cannot be read.
        UnfinishedError: when blocks failed or the workers were lost, and it is not the input.

    Example:
        >>> import tempfile
        >>> from cleftnet.models.checkpoint import ModelCard
        >>> from cleftnet.nets.zoo import build
        >>> net = build("cleftnet", widths=(2, 4), patch=(4, 16, 16))
        >>> raw = Volume(np.zeros((4, 32, 32), np.uint8), (40, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     probability = predict(Model(net, ModelCard(spec=net.spec)), raw, f"{folder}/out.hdf")
        ...     probability.shape, probability.dtype, probability.threshold
        ((4, 32, 32), dtype('uint8'), 0.5)
    """
    job = Job.of(model, volume, roi, settings)
    arrays = [NewArray(PROBABILITY_NAME, settings.dtype, job.model.card.threshold)]
    if len(job.model.card.spec.heads) > 1:
        arrays.append(NewArray(DISTANCE_NAME, settings.dtype))
    task = Task(settings=job.settings, block=execution.block or job.block(execution))
    with unfinished(out, arrays, job.raw, task, overwrite) as output:
        work = job.work(output.arrays, moved=bool(execution.workers or execution.scheduler))
        grid = BlockGrid(job.raw.box, output.journal.block, output.chunk, work.reads)
        map_blocks(work, grid, output.journal, execution, what="predicting", environments=gpu_environments())
    return open_volume(out, default=PREDICTION)


@dataclass(frozen=True)
class Job:
    """A prediction made ready: all but where it is written and who does it.

    Attributes:
        model: Its network folded and at the patch it is run with.
        raw: What is predicted, cropped.
        tiles: Of raw.
        how: Everything else that decides the voxels.
        settings: What a later run must have in common to go on with this one.
    """

    model: Model
    raw: Volume
    tiles: TileGrid
    how: PredictionSettings
    settings: dict[str, JsonValue]

    @classmethod
    def of(
        cls, model: str | Path | Model, volume: str | Path | Volume, roi: Box | None, how: PredictionSettings
    ) -> Job:
        """Load, crop and check everything.

        Raises:
            InputError: when model, volume or mask cannot be used, or the network cannot take the patch.
        """
        loaded = model if isinstance(model, Model) else load_model(model, best_device())
        whole = volume if isinstance(volume, Volume) else open_volume(volume)
        raw, mask = whole, how.mask
        if roi is not None:
            raw = whole.crop(roi)
            if mask is not None and mask.voxel_size is None and mask.shape == whole.shape:
                mask = mask.crop(roi)
        if mask is not None:
            PredictionMask(mask, raw)
        _warn_about_voxel_size(loaded, raw)
        net = fold(_at_patch(loaded.net, how.patch)).channels_last()
        patch = net.spec.patch
        tiles = TileGrid(raw.box, patch, overlap_in_voxels(patch, how.overlap))
        settings: dict[str, JsonValue] = {
            "model": _digest(loaded),
            "volume": whole.identity(),
            "region": str(roi or whole.box),
            "voxel size": list(raw.voxel_size_nm),
            "offset": list(raw.offset_nm),
            "patch": list(patch),
            "mask": None if how.mask is None else how.mask.identity(),
        }
        plain = {name: value for name, value in how if name not in settings}
        return cls(Model(net, loaded.card), raw, tiles, how.model_copy(update={"mask": mask}), settings | plain)

    @property
    def step(self) -> IntZYX:
        """From one tile to the next, z y x."""
        z, y, x = (side - shared for side, shared in zip(self.tiles.shape, self.tiles.overlap, strict=True))
        return z, y, x

    @property
    def bytes_per_voxel(self) -> int:
        """Memory that a voxel of a block takes in a process which reads one block, computes another and writes a third."""
        heads, stored = len(self.model.card.spec.heads), np.dtype(self.how.dtype).itemsize
        blended = 4 * heads + 1
        return 2 * (self.raw.dtype.itemsize + (self.how.mask is not None) + heads * stored) + blended

    def block(self, execution: ExecutionSettings) -> IntZYX:
        """Return sides of a block that fit the memory and leave every worker something to do."""
        voxels = BLOCK_BYTES / self.bytes_per_voxel
        workers = UNKNOWN_WORKERS if execution.scheduler else execution.workers
        if workers:
            voxels = min(voxels, self.raw.box.voxels / (workers * BLOCKS_PER_WORKER))
        smallest = float(np.prod(self.step)) * MIN_STEPS**3
        return block_sides(self.tiles, CHUNK_VOX, max(voxels, smallest))

    def work(self, targets: Mapping[str, WritableVolume], moved: bool) -> BlockPrediction:
        """Return the prediction of a block; to be `moved` to other processes, it must not lie on a device."""
        model = Model(self.model.net.cpu(), self.model.card) if moved else self.model
        return BlockPrediction(model, self.raw, self.tiles, self.how, targets)


def gpu_environments() -> list[dict[str, str]]:
    """Return for every GPU the environment of a process that shall see it alone; nothing where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[: torch.cuda.device_count()]]


def _digest(model: Model) -> str:
    """The SHA-256 of a model's card and weights."""
    digest = hashlib.sha256(model.card.model_dump_json().encode())
    for name, tensor in sorted(model.net.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _at_patch(net: Network, patch: IntZYX | None) -> Network:
    """Return the network at another patch size, with a warning; itself where the size stays."""
    if patch is None or patch == net.spec.patch:
        return net
    resized = resize_network(net, patch)
    trained, wanted = ("×".join(map(str, sides)) for sides in (net.spec.patch, patch))
    changed = any(a.shape != b.shape for a, b in zip(net.parameters(), resized.parameters(), strict=True))
    queries = "its queries are interpolated, and " if changed else ""
    warnings.warn(
        f"this model was trained on patches of {trained}, not {wanted}; {queries}its threshold may no longer "
        f"fit: docs/results.md has what that did to our scores; `cleftnet evaluate --sweep` on labels of your own",
        stacklevel=4,
    )
    return resized


def _warn_about_voxel_size(model: Model, raw: Volume) -> None:
    """Warn when the volume's voxels are not of the size that the model was trained on, to a tenth."""
    trained, found = model.card.voxel_size_nm, raw.voxel_size_nm
    if trained is not None and any(abs(f / t - 1) > 0.1 for f, t in zip(found, trained, strict=True)):
        warnings.warn(
            f"the model was trained on voxels of {trained} nm, {raw.address} has {found} nm (z y x): expect worse results",
            stacklevel=4,
        )
