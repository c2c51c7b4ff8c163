"""A prediction with six synapses and three crumbs, drawn by hand, and a review of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cleftnet.review import ReviewSet, ReviewSettings, make_review
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.volumes import Volume, write_cremi, write_volume

SIZE_NM = (50.0, 10.0, 10.0)  # 5000 nm³ a voxel
OFFSET_NM = (100.0, 0.0, 20.0)
# z, y, x of the first voxel and the probability (of 255); synapses have 2×4×10 voxels, 400,000 nm³
SYNAPSES = ((1, 2, 2, 150), (1, 30, 2, 160), (1, 2, 40, 200), (1, 30, 40, 210), (8, 2, 2, 220), (8, 30, 40, 230))
CRUMBS = ((8, 30, 2, 250), (8, 2, 40, 140), (8, 2, 55, 130))  # 1×3×5 voxels, 75,000 nm³
FEW = ReviewSettings(uncertain=2, random=2, missed=2, surroundings_nm=50.0)


@dataclass(frozen=True)
class Made:
    """Where the results of `find_synapses` lie, its input, and settings of a small review."""

    folder: Path
    synapses: Path
    values: np.ndarray
    few: ReviewSettings = FEW


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    values = np.zeros((12, 48, 64), np.uint8)
    for z, y, x, value in SYNAPSES:
        values[z : z + 2, y : y + 4, x : x + 10] = value
    for z, y, x, value in CRUMBS:
        values[z, y : y + 3, x : x + 5] = value
    write_cremi(folder / "A.hdf", raw=Volume(np.full(values.shape, 100, np.uint8), SIZE_NM, OFFSET_NM))
    raw = str(folder / "A.hdf/volumes/raw")
    write_volume(
        Volume(values, SIZE_NM, OFFSET_NM, threshold=0.5, provenance={"raw": raw}),
        folder / "prediction.zarr/volumes/probability",
    )
    find_synapses(folder / "prediction.zarr", folder / "synapses", settings=SynapseSettings(min_size_nm3=2e5))
    return Made(folder, folder / "synapses", values)


@pytest.fixture
def review(made, tmp_path) -> ReviewSet:
    return make_review(made.synapses, tmp_path / "review", settings=FEW)
