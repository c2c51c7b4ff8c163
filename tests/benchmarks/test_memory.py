"""Peak memory of what works block by block does not grow with the volume; `python -m benchmarks memory` measures every verb."""

import tracemalloc

import numpy as np

from benchmarks.memory import VerbMemory, shape_of
from cleftnet.blockwise import ExecutionSettings
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.halo import HaloSettings
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.viewing.cleft_errors import find_cleft_errors
from cleftnet.volumes import Volume, write_volume

SIZE_NM = (40.0, 4.0, 4.0)


class Clefts:
    """Voxels of clefts on a grid, computed where they are read."""

    def __init__(self, shape, dtype, value):
        self.shape, self.dtype, self.value = shape, np.dtype(dtype), value

    def __getitem__(self, index):
        z, y, x = np.ogrid[index]
        return np.where((z % 8 < 3) & (y % 64 < 20) & (x % 64 < 20), self.value, 0).astype(self.dtype)


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def scored(shape):
    blocks = HaloSettings(shape=(8, 64, 64), halo_nm=201)
    probability, truth = (Volume(Clefts(shape, kind, 200), SIZE_NM) for kind in (np.uint8, np.uint64))
    return evaluate(probability, truth, settings=ScoringSettings(blocks=blocks)).objects


def test_evaluate_in_blocks_takes_the_memory_of_a_block():
    small, large = (24, 192, 192), (24, 192, 576)  # both with blocks that have neighbors on all sides
    scored(small)
    assert peak_bytes(lambda: scored(large)) < 1.3 * peak_bytes(lambda: scored(small))
    assert scored(small).matched == 3 * 3 * 3


def test_a_copy_takes_the_memory_of_a_slab(tmp_path):
    def copied(depth):
        write_volume(Volume(Clefts((depth, 512, 512), np.uint8, 200), SIZE_NM), tmp_path / f"{depth}.zarr")

    copied(16)
    assert peak_bytes(lambda: copied(128)) < 1.3 * peak_bytes(lambda: copied(64))


def test_comparing_labels_with_the_truth_for_the_viewer_takes_the_memory_of_a_slab_and_of_the_clefts():
    class Few(Clefts):
        def __getitem__(self, index):
            return super().__getitem__(index) * (np.ogrid[index][0] < 8).astype(self.dtype)

    def compared(depth):
        find_cleft_errors(*(Volume(Few((depth, 512, 512), np.uint64, 7), SIZE_NM) for _ in range(2)))

    compared(8)
    assert peak_bytes(lambda: compared(128)) < 1.3 * peak_bytes(lambda: compared(64))


def test_finding_synapses_takes_the_memory_of_a_block(tmp_path):
    def found(name, shape):
        probability = Volume(Clefts(shape, np.uint8, 200), SIZE_NM, address=name)
        execution = ExecutionSettings(block=(16, 128, 128))
        find_synapses(probability, tmp_path / name, settings=SynapseSettings(threshold=0.5), execution=execution)

    found("first", (16, 128, 128))
    small, large = (peak_bytes(lambda s=s: found(f"of {s}", (16, s, s))) for s in (256, 512))
    assert large < 1.5 * small


def test_bytes_per_voxel_are_those_that_the_largest_volume_added():
    assert VerbMemory("info", (1, 10, 40), (1, 8, 18)).bytes_per_voxel == 3
    assert [shape_of(4, scale) for scale in (1, 8)] == [(4, 16, 16), (8, 32, 32)]
