"""The forest on synthetic tissue: what it finds, and that neither blocks nor threads change it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cleftnet.comparison import forest as forest_module
from cleftnet.comparison.forest import Forest, ForestSettings, train_forest
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.prediction import to_uint8
from cleftnet.training.validation import Region
from cleftnet.volumes import Volume, is_cleft, open_volume

SMALL = ForestSettings(trees=12, voxels=3000, sigmas_nm=(6.0, 12.0, 24.0), max_depth=10)
LEARNED, HELD_OUT = Box((0, 0, 0), (16, 96, 60)), Box((0, 0, 60), (16, 96, 96))


def region(synthetic, box):
    return Region(synthetic.raw.crop(box), synthetic.labels.crop(box))


@pytest.fixture(scope="module")
def forest(synthetic) -> Forest:
    return train_forest(SMALL, [region(synthetic, LEARNED)], seed=0)


def test_it_finds_clefts_that_it_has_not_seen(forest, synthetic):
    held_out = region(synthetic, HELD_OUT)
    scores = forest.calibrated([held_out]).scores
    assert scores.auc > 0.8
    assert scores.calibration_error < 0.02 < scores.uncalibrated_error


def test_the_same_seed_grows_the_same_forest_whatever_the_threads(forest, synthetic):
    again = train_forest(SMALL.model_copy(update={"n_jobs": 2}), [region(synthetic, LEARNED)], seed=0)
    assert np.array_equal(again.log_odds(synthetic.raw), forest.log_odds(synthetic.raw))


def test_another_seed_grows_another_forest(forest, synthetic):
    other = train_forest(SMALL, [region(synthetic, LEARNED)], seed=1)
    assert not np.array_equal(other.log_odds(synthetic.raw), forest.log_odds(synthetic.raw))


def test_blocks_give_the_log_odds_of_the_whole_to_the_last_bit(forest, synthetic, monkeypatch):
    whole = forest.log_odds(synthetic.raw)
    monkeypatch.setattr(forest_module, "BLOCK_VOX", (5, 40, 33))
    monkeypatch.setattr(forest_module, "ROWS", 1000)
    assert np.array_equal(forest.log_odds(synthetic.raw), whole)


def test_log_odds_are_finite_where_all_trees_agree(forest, synthetic):
    largest = np.log(12.5 / 0.5)  # twelve votes of thirteen, and half of the thirteenth
    assert abs(forest.log_odds(synthetic.raw)).max() <= largest + 1e-5


@pytest.mark.parametrize("ending", ["hdf", "zarr"])
def test_the_file_is_what_cleftnet_predict_writes(forest, synthetic, tmp_path, ending):
    calibrated = forest.calibrated([region(synthetic, HELD_OUT)])
    part = synthetic.raw.crop(HELD_OUT)
    calibrated.predict(part, tmp_path / f"out.{ending}")
    found = open_volume(tmp_path / f"out.{ending}/volumes/probability")
    assert np.array_equal(found.read(), to_uint8(calibrated.calibration.probability(calibrated.log_odds(part))))
    assert (found.voxel_size_nm, found.offset_nm) == (part.voxel_size_nm, part.offset_nm)
    assert found.threshold == calibrated.scores.threshold
    histogram = ScoreHistogram.of(found.read(), is_cleft(synthetic.labels[HELD_OUT]))
    assert histogram.auc == pytest.approx(calibrated.scores.auc, abs=1e-12)


def test_a_threshold_of_ones_own_is_stored(forest, synthetic, tmp_path):
    part = synthetic.raw.crop(Box.of((4, 32, 32)))
    assert forest.predict(part, tmp_path / "a.hdf").threshold == 0.5
    assert forest.predict(part, tmp_path / "b.hdf", threshold=0.25).threshold == 0.25


def test_an_output_that_exists_is_kept_unless_told(forest, synthetic, tmp_path):
    part = synthetic.raw.crop(Box.of((4, 32, 32)))
    forest.predict(part, tmp_path / "out.hdf")
    with pytest.raises(InputError, match="exists"):
        forest.predict(part, tmp_path / "out.hdf")
    forest.predict(part, tmp_path / "out.hdf", overwrite=True)


def test_voxels_of_another_size_are_refused(forest, synthetic):
    with pytest.raises(InputError, match=r"trained on voxels of \(40.*has \(50"):
        forest.log_odds(replace(synthetic.raw, voxel_size=(50.0, 4.6, 4.6)))


def test_regions_of_different_voxel_sizes_are_refused(synthetic):
    here = region(synthetic, LEARNED)
    there = Region(replace(here.raw, voxel_size=(50.0, 4.6, 4.6)), here.labels)
    with pytest.raises(InputError, match="trees learn from one size"):
        train_forest(SMALL, [here, there])


def test_importing_the_forest_does_not_import_scikit_learn():
    code = "import sys, cleftnet.comparison.forest; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_classes_are_needed(synthetic):
    empty = Volume(np.zeros((4, 32, 32), np.uint64), synthetic.labels.voxel_size)
    with pytest.raises(InputError, match="need both"):
        train_forest(SMALL, [Region(synthetic.raw.crop(Box.of((4, 32, 32))), empty)])
