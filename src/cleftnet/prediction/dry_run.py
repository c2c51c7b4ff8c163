"""What a prediction would take, before it is begun: blocks, memory and time, from one tile that is really computed."""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cleftnet.blockwise import BlockGrid, ExecutionSettings
from cleftnet.geometry import Block, Box, IntZYX
from cleftnet.models.checkpoint import Model
from cleftnet.prediction.inference import PredictionSettings
from cleftnet.prediction.predicting import Job
from cleftnet.prediction.tiles import TileNetwork
from cleftnet.volumes import CHUNK_VOX, Volume


@dataclass(frozen=True)
class PredictionEstimate:
    """What a prediction would take.

    Attributes:
        shape: Of what is predicted, voxels z y x.
        block: Sides of a block in voxels, z y x.
        blocks: How many there are.
        tiles: How many the volume has.
        computed_tiles: How many all blocks compute together: those across borders are computed on both sides.
        bytes_per_process: Peak memory of a process that does blocks; of a GPU's own memory nothing is known.
        seconds_per_tile: Measured on one tile, in this process.
        processes: That share the work; None behind a scheduler.
    """

    shape: IntZYX
    block: IntZYX
    blocks: int
    tiles: int
    computed_tiles: int
    bytes_per_process: int
    seconds_per_tile: float
    processes: int | None

    @property
    def seconds(self) -> float:
        """Of the whole prediction in one process with this one's threads."""
        return self.computed_tiles * self.seconds_per_tile

    def rows(self) -> list[tuple[str, str]]:
        """Return what people read: a name and a value each."""
        shared = "one worker" if self.processes is None else "all processes together"
        return [
            ("volume", f"{'×'.join(map(str, self.shape))} voxels"),
            ("blocks", f"{self.blocks:,} of {'×'.join(map(str, self.block))}"),
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
    volume: str | Path | Volume,
    *,
    roi: Box | None = None,
    settings: PredictionSettings = PredictionSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - so is this
) -> PredictionEstimate:
    """Prepare a prediction, compute one tile in the middle, and tell what all would take; nothing is written.

    Workers of this machine share the cores that the measured tile had for itself, so that on CPUs the time is that of all of
    them together; GPUs divide it among themselves.

    Args:
        model: As `predict` takes it, like everything here.
        volume: Raw, or its address.
        roi: The part to predict.
        settings: As `predict` takes them.
        execution: Into which blocks, and who would do them.

    Raises:
        InputError: for whatever `predict` would refuse to begin with, but the output.
    """
    job = Job.of(model, volume, roi, settings)
    grid = BlockGrid(job.raw.box, execution.block or job.block(execution), CHUNK_VOX)
    tiles = job.tiles
    middle = next(tiles.touching(Box.at([n // 2 for n in job.raw.shape], (1, 1, 1))))
    seconds = _measure(job, middle)
    gpus = torch.cuda.device_count()
    sharing = max(1, min(execution.workers, gpus)) if gpus else 1
    largest = grid[0].write
    read = tiles.reads(largest)
    blocks = job.bytes_per_voxel * largest.voxels + 2 * (read.voxels - largest.voxels) * job.raw.dtype.itemsize
    return PredictionEstimate(
        shape=job.raw.shape,
        block=largest.shape,
        blocks=len(grid),
        tiles=len(tiles),
        computed_tiles=_computed(job, grid),
        bytes_per_process=_peak_bytes() + blocks,
        seconds_per_tile=seconds / sharing,
        processes=None if execution.scheduler else max(1, execution.workers),
    )


def _measure(job: Job, tile: Block) -> float:
    """The time of one tile among as many as are computed at the same time, the network being warm."""
    raw = job.raw[tile.read]
    network, seconds = TileNetwork(job.model.net, job.how), math.inf
    for _ in range(2):
        start = time.perf_counter()
        for _ in network.logits([tile] * network.at_once, lambda box: raw):
            pass
        seconds = min(seconds, time.perf_counter() - start)
    return seconds / network.at_once


def _computed(job: Job, grid: BlockGrid) -> int:
    """Tiles of all blocks together: the product over the axes of the sums along them, since blocks and tiles are grids."""
    _, height, width = grid.counts
    first_along = (
        [grid[n * height * width] for n in range(grid.counts[0])],
        [grid[n * width] for n in range(height)],
        [grid[n] for n in range(width)],
    )
    return math.prod(
        sum(job.tiles.counts(block.write)[axis] for block in blocks) for axis, blocks in enumerate(first_along)
    )


def _peak_bytes() -> int:
    """The peak memory of this process so far, which has loaded and run the network."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
