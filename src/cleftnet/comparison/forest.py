"""A random forest on multi-scale filters: the classical pipeline that the networks are compared with (§II of the paper).

`train_forest(...).calibrated(...)` is trained and validated as a network is, and `predict` writes the same file.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, JsonValue

from cleftnet.blockwise import BlockGrid, ExecutionSettings, Task, Tick, map_blocks, unfinished
from cleftnet.comparison.voxel_drawing import common_voxel_size, draw_features
from cleftnet.errors import InputError
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX
from cleftnet.metrics.calibration import Calibration
from cleftnet.models.filters import Float32, axes_of, features, halo
from cleftnet.prediction import to_uint8
from cleftnet.progress import track
from cleftnet.settings import Settings
from cleftnet.training.validation import Region, Scores, assess
from cleftnet.volumes import (
    PREDICTION,
    PROBABILITY_NAME,
    Array,
    ArraySpec,
    Volume,
    WritableVolume,
    intensity,
    open_volume,
    sampled_checksums,
)

log = logging.getLogger(__name__)

BLOCK_VOX: IntZYX = (16, 384, 384)  # 0.25 GiB of features at the default scales
ROWS = 2**16  # voxels that go through the trees at a time


class ForestSettings(Settings):
    """Filters and size of a random forest.

    Attributes:
        sigmas_nm: Scales of the filters.
        trees: Number of trees.
        voxels: Number of training voxels: half of them in clefts, or all cleft voxels if there are fewer.
        max_depth: Largest depth of a tree; None grows every tree until its leaves are pure.
        min_leaf_voxels: Smallest number of training voxels in a leaf.
        n_jobs: Number of threads, which changes no result.
    """

    sigmas_nm: tuple[float, ...] = Field((5.0, 10.0, 20.0, 40.0, 80.0), min_length=1)
    trees: int = Field(100, ge=1)
    voxels: int = Field(200_000, ge=2)
    max_depth: int | None = Field(20, ge=1)
    min_leaf_voxels: int = Field(5, ge=1)
    n_jobs: int = Field(1, ge=1)


@dataclass(frozen=True)
class Forest:
    """A trained random forest, which lives in memory only: trees on disk would need unpickling.

    Attributes:
        settings: Filters and size.
        trees: The `sklearn.ensemble.RandomForestClassifier`.
        voxel_size_nm: z y x of the training data.
        calibration: Maps log-odds to probability.
        scores: Scores and threshold on the validation regions; None before calibration.
    """

    settings: ForestSettings
    trees: Any
    voxel_size_nm: FloatZYX
    calibration: Calibration = field(default_factory=Calibration)
    scores: Scores | None = None

    def calibrated(self, regions: Sequence[Region]) -> Forest:
        """Return this forest calibrated and scored on regions, as networks are.

        Args:
            regions: Validation regions; they are read into memory.
        """
        found = assess([self.log_odds(region.raw) for region in regions], regions)
        return replace(self, calibration=found.calibration, scores=found.scores)

    def log_odds(self, raw: Volume) -> Float32:
        """Return the uncalibrated log-odds of cleft for every voxel, float32 `z y x`.

        One undecided tree is added to the votes, so the log-odds are finite where all trees agree.

        Raises:
            InputError: when the voxel size is not that of the training data.
        """
        found = np.empty(raw.shape, np.float32)
        grid = self._blocks(raw, BLOCK_VOX)
        for block in track(grid, "predicting", len(grid)):
            found[block.write.slices] = self.of_block(raw[block.read], block)
        return found

    def predict(
        self, raw: Volume, out: str | Path, *, threshold: float | None = None, overwrite: bool = False
    ) -> Volume:
        """Predict a volume into `volumes/probability`, uint8, as `cleftnet.predict` does.

        Args:
            raw: Gray values with a voxel size.
            out: File to write (`.hdf`, `.zarr`, `.n5`). It appears when it is complete; after a crash, the same call resumes.
            threshold: Stored with the probability; default: the calibration's, or 0.5.
            overwrite: Whether to replace an existing file.

        Returns:
            The probability with its threshold, opened lazily.

        Raises:
            InputError: when the voxel size is not that of the training data, or `out` exists.
        """
        if threshold is None:
            threshold = self.scores.threshold if self.scores else 0.5
        settings: dict[str, JsonValue] = {
            "forest": self._digest(),
            "volume": raw.identity(),
            "region": str(raw.box),
            "voxel size": list(raw.voxel_size_nm),
            "offset": list(raw.offset_nm),
            "threshold": threshold,
        }
        task = Task(settings=settings, block=BLOCK_VOX, inputs={"volume": sampled_checksums(raw)})
        spec = ArraySpec.like(raw, PROBABILITY_NAME, "uint8", threshold)
        with unfinished(out, [spec], task, overwrite) as output:
            work = _ForestPrediction(self, raw, output.arrays[PROBABILITY_NAME])
            grid = self._blocks(raw, output.journal.block, output.chunk)
            map_blocks(work, grid, output.journal, ExecutionSettings(), what="predicting")
        return open_volume(out, default=PREDICTION)

    def of_block(self, raw: Array, block: Block) -> Float32:
        """Return the log-odds in the write box of a block, from raw in its read box."""
        inside = block.write.relative_to(block.read.start).slices
        seen = features(intensity(raw), self.voxel_size_nm, self.settings.sigmas_nm, inside)
        rows = seen.reshape(-1, seen.shape[-1])
        pieces = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        with ThreadPoolExecutor(self.settings.n_jobs) as pool:
            share = np.concatenate(list(pool.map(self._share, pieces)))
        trees = len(self.trees.estimators_)
        votes = np.float32(0.5) + share * np.float32(trees)
        return np.asarray(np.log(votes / (trees + 1 - votes)), np.float32).reshape(block.write.shape)

    def _share(self, rows: Float32) -> Float32:
        """Return the mean over the trees of the share of cleft in each row's leaf, always summed in the same order."""
        total = sum(tree.predict_proba(rows, check_input=False)[:, 1] for tree in self.trees.estimators_)
        return np.asarray(total / len(self.trees.estimators_), np.float32)

    def _blocks(self, raw: Volume, shape: IntZYX, chunk: IntZYX = (1, 1, 1)) -> BlockGrid:
        sizes, sigmas = (self.voxel_size_nm, raw.voxel_size_nm), self.settings.sigmas_nm
        if any(axes_of(sigma, sizes[0]) != axes_of(sigma, sizes[1]) for sigma in sigmas) or any(
            abs(found / learned - 1) > 0.1 for learned, found in zip(*sizes, strict=True)
        ):
            raise InputError(
                f"the forest was trained on voxels of {sizes[0]} nm, but {raw.address} has {sizes[1]} nm (z y x); train a "
                f"forest on voxels of that size"
            )
        return BlockGrid(raw.box, shape, chunk, functools.partial(Box.grow, by=halo(self.voxel_size_nm, sigmas)))

    def _digest(self) -> str:
        """Return the SHA-256 of trees and settings."""
        digest = hashlib.sha256(repr((self.settings, self.voxel_size_nm, self.calibration)).encode())
        for tree in self.trees.estimators_:
            for part in (tree.tree_.feature, tree.tree_.threshold, tree.tree_.children_left, tree.tree_.value):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _ForestPrediction:
    """Work on one block: raw in, probability out."""

    forest: Forest
    raw: Volume
    target: WritableVolume

    def start(self, threads: int) -> None:
        """Runs in the calling process; needs no setup."""

    def read(self, block: Block) -> Array:
        return self.raw[block.read]

    def compute(self, block: Block, raw: Array, tick: Tick) -> Array:
        return to_uint8(self.forest.calibration.probability(self.forest.of_block(raw, block)))

    def write(self, block: Block, probability: Array) -> None:
        self.target[block.write] = probability


def train_forest(settings: ForestSettings, regions: Sequence[Region], seed: int = 0) -> Forest:
    """Train a forest on voxels drawn from labelled regions.

    Args:
        settings: Filters and size.
        regions: Raw and labels, of one voxel size.
        seed: Seed of the drawn voxels and of the trees.

    Returns:
        The forest, not calibrated yet.

    Raises:
        InputError: when voxel sizes differ, or when cleft or background is missing.

    Example:
        >>> from cleftnet.synthetic import synthetic_volume
        >>> tissue = synthetic_volume((8, 64, 64), seed=0)
        >>> forest = train_forest(ForestSettings(trees=3, voxels=500), [Region(tissue.raw, tissue.labels)])
        >>> forest.log_odds(tissue.raw).shape
        (8, 64, 64)
    """
    from sklearn.ensemble import RandomForestClassifier

    size = common_voxel_size(regions)
    rows, cleft = draw_features(regions, settings.sigmas_nm, settings.voxels, seed)
    log.info(f"growing {settings.trees} trees on {len(rows):,} voxels, {int(cleft.sum()):,} of them in clefts")
    trees = RandomForestClassifier(
        settings.trees,
        max_depth=settings.max_depth,
        min_samples_leaf=settings.min_leaf_voxels,
        class_weight="balanced",
        n_jobs=settings.n_jobs,
        random_state=seed,
    )
    return Forest(settings, trees.fit(rows, cleft), size)
