import numpy as np

from cleftnet.blockwise import BlockGrid, ExecutionSettings
from cleftnet.geometry import TileGrid
from cleftnet.prediction import estimate_prediction
from cleftnet.prediction.dry_run import PredictionEstimate
from cleftnet.volumes import CHUNK_VOX, Volume

RAW = Volume(np.zeros((40, 150, 200), np.uint8), (40, 4, 4))


def test_tiles_are_counted_as_the_blocks_will_compute_them(model):
    found = estimate_prediction(model, RAW, execution=ExecutionSettings(block=(16, 128, 128)))
    tiles = TileGrid(RAW.box, (8, 32, 32), (4, 16, 16))
    grid = BlockGrid(RAW.box, (16, 128, 128), CHUNK_VOX)
    assert found.blocks == len(grid) == 3 * 2 * 2
    assert found.tiles == len(tiles)
    assert found.computed_tiles == sum(len(list(tiles.touching(b.write))) for b in grid)


def test_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate_prediction(model, RAW)
    assert list(tmp_path.iterdir()) == []


def test_time_is_that_of_all_computed_tiles_and_of_the_trees():
    found = PredictionEstimate(
        shape=(64, 100, 100), seen_shape=(64, 100, 100), block=(32, 100, 100), blocks=2, tiles=1000,
        computed_tiles=1100, bytes_per_process=2**30,
        seconds_per_tile=0.5, seconds_of_trees=50, processes=2,
    )  # fmt: skip
    assert found.seconds == 600
    rows = dict(found.rows())
    assert rows["time"] == "10 min for all processes together"
    assert rows["tiles"] == "1,000, 10% of them computed twice at borders of blocks"
    assert rows["memory"] == "1.00 GiB a process"
