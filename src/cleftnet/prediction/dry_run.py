"""Estimates the blocks, memory and time of a prediction from one tile that is computed."""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cleftnet.blockwise import BlockGrid, ExecutionSettings
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX
from cleftnet.models.checkpoint import Model
from cleftnet.prediction.job import PredictionJob
from cleftnet.prediction.prediction_settings import PredictionSettings
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.volumes import CHUNK_VOX, Array, Volume


@dataclass(frozen=True)
class PredictionEstimate:
    """Estimated cost of a prediction.

    Attributes:
        shape: Shape of the predicted region in voxels, z y x.
        seen_shape: Shape of the region at the voxel size at which the network sees it.
        block: Sides of a block in voxels, z y x.
        blocks: Number of blocks.
        tiles: Number of tiles of the region.
        computed_tiles: Number of tiles that all blocks compute together; tiles across borders are computed on both sides.
        bytes_per_process: Peak memory of a process that computes blocks, without the memory of a GPU.
        seconds_per_tile: Measured on one tile, in this process.
        seconds_of_trees: Time of the boosted trees for the whole region, from that of the same tile; 0 without trees.
        processes: Number of processes that share the work; None behind a scheduler.
    """

    shape: IntZYX
    seen_shape: IntZYX
    block: IntZYX
    blocks: int
    tiles: int
    computed_tiles: int
    bytes_per_process: int
    seconds_per_tile: float
    seconds_of_trees: float
    processes: int | None

    @property
    def seconds(self) -> float:
        """Time of the whole prediction in one process with the threads of this one."""
        return self.computed_tiles * self.seconds_per_tile + self.seconds_of_trees

    def rows(self) -> list[tuple[str, str]]:
        """Return the estimate as pairs of a name and a readable value."""
        shared = "one worker" if self.processes is None else "all processes together"
        return [
            ("volume", f"{_sides(self.shape)} voxels"),
            *([("resampled to", f"{_sides(self.seen_shape)} voxels")] if self.seen_shape != self.shape else []),
            ("blocks", f"{self.blocks:,} of {_sides(self.block)}"),
            (
                "tiles",
                f"{self.tiles:,}, {self.computed_tiles / self.tiles - 1:.0%} of them computed twice at borders of blocks",
            ),
            ("memory", f"{self.bytes_per_process / 2**30:.2f} GiB a process"),
            (
                "speed",
                f"{math.prod(self.shape) / self.seconds / 1e6:.3g} Mvoxel/s, {self.seconds_per_tile:.3g} s a tile",
            ),
            ("time", f"{_duration(self.seconds)} for {shared}"),
        ]


def estimate_prediction(
    model: str | Path | Model,
    volume: str | Path | Volume | Array,
    *,
    voxel_size_nm: FloatZYX | None = None,
    roi: Box | None = None,
    settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - it is frozen
) -> PredictionEstimate:
    """Prepare a prediction, compute one tile in the middle, and estimate the whole; nothing is written.

    On CPUs, workers of one machine share the cores that the measured tile used alone, so the time is that of all workers
    together. GPUs divide the time among them.

    Args:
        model: As for `predict`, like all other arguments.
        volume: Gray values: a volume, an address, or a NumPy array z y x.
        voxel_size_nm: Voxel size z y x in nm, for an array or a format that carries none.
        roi: The part to predict.
        settings: Everything else that decides the voxels.
        execution: Size of the blocks, and which processes would compute them.

    Raises:
        InputError: when `predict` would refuse model, volume or settings.
    """
    job = PredictionJob.prepare(model, volume, voxel_size_nm=voxel_size_nm, roi=roi, settings=settings)
    grid = BlockGrid(job.raw.box, job.block_shape(execution), CHUNK_VOX)
    tiles = job.tiles
    middle = next(tiles.touching(Box.at([n // 2 for n in job.view.seen.shape], (1, 1, 1))))
    seconds = _measure(job, middle)
    gpus = torch.cuda.device_count()
    sharing = max(1, min(execution.workers, gpus)) if gpus else 1
    largest = grid[0].write
    seen = job.view.seen_box(largest)
    around = job.sees(seen).voxels - seen.voxels
    blocks = job.bytes_per_voxel * largest.voxels + 2 * around * job.view.seen.dtype.itemsize
    return PredictionEstimate(
        shape=job.raw.shape,
        seen_shape=job.view.seen.shape,
        block=largest.shape,
        blocks=len(grid),
        tiles=len(tiles),
        computed_tiles=_computed(job, grid),
        bytes_per_process=_peak_bytes() + blocks,
        seconds_per_tile=seconds / sharing,
        seconds_of_trees=_measure_trees(job, middle) * job.view.seen.box.voxels,
        processes=None if execution.scheduler else max(1, execution.workers),
    )


def _measure(job: PredictionJob, tile: Block) -> float:
    """Return the seconds of one tile among as many as are computed at the same time, after a first run."""
    raw = job.view.seen[tile.read]
    network, seconds = TileNetwork(job.model.net, job.settings.tta, job.settings.precision), math.inf
    for _ in range(2):
        start = time.perf_counter()
        for _ in network.logits([tile] * network.at_once, lambda box: raw):
            pass
        seconds = min(seconds, time.perf_counter() - start)
    return seconds / network.at_once


def _measure_trees(job: PredictionJob, tile: Block) -> float:
    """Return the seconds of the boosted trees for one voxel; 0 without trees."""
    if job.model.trees is None:
        return 0.0
    read = job.sees(tile.read)
    raw = job.view.seen[read]
    start = time.perf_counter()
    job.model.trees.log_odds(raw, read, tile.read)
    return (time.perf_counter() - start) / tile.read.voxels


def _computed(job: PredictionJob, grid: BlockGrid) -> int:
    """Return the number of tiles of all blocks together.

    Blocks and tiles are grids, so it is the product over the axes of the sums along each.
    """
    _, height, width = grid.counts
    first_along = (
        [grid[n * height * width] for n in range(grid.counts[0])],
        [grid[n * width] for n in range(height)],
        [grid[n] for n in range(width)],
    )
    return math.prod(
        sum(job.tiles.counts(job.view.seen_box(block.write))[axis] for block in blocks)
        for axis, blocks in enumerate(first_along)
    )


def _sides(shape: IntZYX) -> str:
    return "×".join(map(str, shape))


def _peak_bytes() -> int:
    """Return the peak memory of this process, which has loaded and run the network."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
