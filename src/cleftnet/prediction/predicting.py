"""Runs a model over a whole volume, block by block, into memory or into a file that an interrupted run can complete."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cleftnet.blockwise import (
    BlockGrid,
    ExecutionSettings,
    Task,
    UnfinishedError,
    map_blocks,
    unfinished,
)
from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX
from cleftnet.models.checkpoint import Model
from cleftnet.prediction.job import PredictionJob
from cleftnet.prediction.prediction_settings import PredictionSettings
from cleftnet.volumes import PREDICTION, PROBABILITY_NAME, Array, ArraySpec, Volume, open_volume


def predict(
    model: str | Path | Model,
    volume: str | Path | Volume | Array,
    out: str | Path | None = None,
    *,
    voxel_size_nm: FloatZYX | None = None,
    roi: Box | None = None,
    settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - it is frozen
    overwrite: bool = False,
) -> Volume:
    """Predict the cleft probability of every voxel of a volume.

    Without `out` the probability stays in memory and nothing is written; `predict_in_memory` returns the distance as well.
    With `out`, a file is written that holds `volumes/probability` and, where the model has that head, `volumes/distance`,
    with voxel size and offset. Until the file is complete it lies in `OUT.unfinished`, with a record of the finished blocks:
    after a crash or an interruption the same call computes only the missing ones. Every voxel is the same bit for bit,
    whatever the blocks, and in memory as in a file.

    A volume whose voxels are not of the size that the model was trained on is resampled to that size block by block, and the
    prediction back onto the volume's own grid (`settings.rescale`); the attributes of the output say so.

    Args:
        model: A run directory, a checkpoint file, the name of a released model, or a loaded model.
        volume: Gray values: a volume, an address, or a NumPy array z y x.
        out: File to write, in the format of its ending (`.hdf`, `.zarr`, `.n5`); it appears whole or not at all.
        voxel_size_nm: Voxel size z y x in nm, for an array or a format that carries none.
        roi: The part to predict, in voxels of the volume; None predicts all of it.
        settings: Everything else that decides the voxels: overlap, test-time augmentation, data type, mask and more.
        execution: Size of the blocks, and which processes compute them; worker processes need `out`.
        overwrite: Replace an existing `out`, and discard another prediction that was begun there.

    Returns:
        The probability, with the model's threshold: in memory, or opened lazily from `out`.

    Raises:
        InputError: when model or volume cannot be used, the network cannot take the patch, `out` exists, another prediction was
            begun there, or blocks of the volume cannot be read.
        UnfinishedError: when blocks failed or the workers were lost for another reason than the input.

    Example:
        >>> from cleftnet.models.checkpoint import ModelCard
        >>> from cleftnet.nets.zoo import build
        >>> net = build("cleftnet", widths=(2, 4), patch=(4, 16, 16))
        >>> raw = np.zeros((4, 32, 32), np.uint8)
        >>> probability = predict(Model(net, ModelCard(spec=net.spec)), raw, voxel_size_nm=(40, 4, 4))
        >>> probability.shape, probability.dtype, probability.threshold
        ((4, 32, 32), dtype('uint8'), 0.5)
    """
    job = PredictionJob.prepare(model, volume, voxel_size_nm=voxel_size_nm, roi=roi, settings=settings)
    if out is None:
        return _in_memory(job, [PROBABILITY_NAME], execution)[PROBABILITY_NAME]
    thresholds = {PROBABILITY_NAME: job.model.card.threshold}
    specs = (ArraySpec.like(job.raw, name, settings.dtype, thresholds.get(name)) for name in job.heads)
    arrays = [replace(spec, provenance=job.provenance()) for spec in specs]
    task = Task(settings=job.identity(), block=job.block_shape(execution), inputs=job.inputs())
    with unfinished(out, arrays, task, overwrite, execution.accept_changed_input) as output:
        work = job.writing_to(output.arrays, in_workers=execution.uses_workers)
        grid = BlockGrid(job.raw.box, output.journal.block, output.chunk, work.reads)
        map_blocks(work, grid, output.journal, execution, what="predicting", environments=gpu_environments())
    return open_volume(out, default=PREDICTION)


def predict_in_memory(
    model: str | Path | Model,
    volume: str | Path | Volume | Array,
    *,
    voxel_size_nm: FloatZYX | None = None,
    roi: Box | None = None,
    settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - it is frozen
) -> dict[str, Volume]:
    """Predict a volume with every head of a model, and return the results in memory.

    Args:
        model: A run directory, a checkpoint file, the name of a released model, or a loaded model.
        volume: Gray values: a volume, an address, or a NumPy array z y x.
        voxel_size_nm: Voxel size z y x in nm, for an array or a format that carries none.
        roi: The part to predict, in voxels of the volume; None predicts all of it.
        settings: Everything else that decides the voxels: overlap, test-time augmentation, data type, mask and more.
        execution: Size of the blocks; worker processes cannot write to memory.

    Returns:
        `probability` and, where the model has that head, `distance`.

    Raises:
        InputError: when model or volume cannot be used, or the network cannot take the patch.

    Example:
        >>> from cleftnet.models.checkpoint import ModelCard
        >>> from cleftnet.nets.zoo import build
        >>> net = build("cleftnet", widths=(2, 4), patch=(4, 16, 16))
        >>> raw = Volume(np.zeros((4, 32, 32), np.uint8), (40, 4, 4))
        >>> list(predict_in_memory(Model(net, ModelCard(spec=net.spec)), raw))
        ['probability', 'distance']
    """
    job = PredictionJob.prepare(model, volume, voxel_size_nm=voxel_size_nm, roi=roi, settings=settings)
    return {name.rpartition("/")[2]: found for name, found in _in_memory(job, job.heads, execution).items()}


@dataclass(frozen=True)
class _ArrayTarget:
    """A NumPy array that takes the voxels of a box."""

    array: Array

    def __setitem__(self, box: Box, values: Array) -> None:
        self.array[box.slices] = values


def _in_memory(job: PredictionJob, names: Sequence[str], execution: ExecutionSettings) -> dict[str, Volume]:
    """Compute the named heads into arrays; an error of a block ends the prediction, since nothing can be completed later."""
    if execution.uses_workers:
        raise InputError("worker processes cannot write into memory; name a file, such as out='prediction.zarr'")
    raw = job.raw
    arrays = {name: np.zeros(raw.shape, job.settings.dtype) for name in names}
    work = job.writing_to({name: _ArrayTarget(array) for name, array in arrays.items()})
    grid = BlockGrid(raw.box, job.block_shape(execution), reads=work.reads)
    try:
        map_blocks(work, grid, set(), execution, what="predicting", give_up=1)
    except (InputError, UnfinishedError) as error:
        raise error.__cause__ or error from None
    return {
        name: Volume(
            array,
            raw.voxel_size,
            raw.offset_nm,
            address=f"{name} of {raw.address}",
            threshold=job.model.card.threshold if name == PROBABILITY_NAME else None,
            provenance=job.provenance(),
        )
        for name, array in arrays.items()
    }


def gpu_environments() -> list[dict[str, str]]:
    """Return for every GPU the environment variables of a worker process that uses it alone; empty without GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[: torch.cuda.device_count()]]
