"""Boosted trees: two of them by hand, against scikit-learn, in a file, and beside a network in a prediction."""

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from cleftnet.comparison.boosting import BoostingSettings, train_trees
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.models.checkpoint import Model, load_model, load_trees, save_model, save_trees
from cleftnet.models.filters import features
from cleftnet.models.trees import BoostedTrees, TreeSettings
from cleftnet.prediction import PredictionSettings, estimate_prediction, predict, predict_in_memory, whole_logits
from cleftnet.training.validation import Region

SIZE = (40, 4, 4)
INFINITY = np.float32(np.inf)


@pytest.fixture(scope="module")
def trees(synthetic):
    settings = BoostingSettings(trees=8, depth=3, voxels=4000, sigmas_nm=(6, 12, 30))
    return train_trees(settings, [Region(synthetic.raw, synthetic.labels)], seed=1)


@pytest.fixture
def both(model, trees):
    return Model(model.net, model.card.model_copy(update={"trees": trees.settings}), trees)


def by_hand(*trees):
    """Trees from lists of features, thresholds and leaves."""
    feature, threshold, value = zip(*trees, strict=True)
    settings = TreeSettings(sigmas_nm=(8,), voxel_size_nm=SIZE)
    return BoostedTrees(
        settings, np.array(feature, np.int16), np.array(threshold, np.float32), np.array(value, np.float32)
    )


def test_two_trees_of_two_questions():
    """The first asks feature 0 ≤ 0.5, then feature 1 ≤ 0.1 on the left and ≤ 0.9 on the right; the second only feature 1."""
    found = by_hand(
        ([0, 1, 1], [0.5, 0.1, 0.9], [1, 2, 3, 4]), ([1, 0, 0], [0.5, INFINITY, INFINITY], [0.1, 0, 0.2, 0])
    )
    rows = np.array([[0.5, 0.1], [0.5, 0.2], [0.6, 0.9], [0.6, 1.0]], np.float32)
    np.testing.assert_allclose(found.of_features(rows), [1.1, 2.1, 3.2, 4.2], rtol=1e-6)


def test_the_mean_of_trees_has_the_mean_log_odds():
    one, other = by_hand(([0], [0.5], [1, 3])), by_hand(([0], [0.2], [5, 7]))
    rows = np.array([[0.1], [0.3], [0.9]], np.float32)
    mean = BoostedTrees.mean([one, other])
    np.testing.assert_allclose(mean.of_features(rows), (one.of_features(rows) + other.of_features(rows)) / 2)
    again = mean.split(2)
    assert np.array_equal(again[0].of_features(rows), one.of_features(rows))
    assert np.array_equal(again[1].of_features(rows), other.of_features(rows))


def test_trained_trees_are_those_of_scikit_learn(synthetic, trees):
    """The same classifier, grown here on features of the same voxels, gives the same log-odds."""
    grown = {}
    original = HistGradientBoostingClassifier.fit

    def fit(self, rows, cleft):
        grown["classifier"] = original(self, rows, cleft)
        return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistGradientBoostingClassifier, "fit", fit)
        settings = BoostingSettings(trees=8, depth=3, voxels=4000, sigmas_nm=(6, 12, 30))
        again = train_trees(settings, [Region(synthetic.raw, synthetic.labels)], seed=1)
    rows = features(np.asarray(synthetic.raw, np.float32) / 255, SIZE, (6, 12, 30))
    rows = rows.reshape(-1, rows.shape[-1])
    np.testing.assert_allclose(again.of_features(rows), grown["classifier"].decision_function(rows), atol=1e-5)
    np.testing.assert_array_equal(again.value, trees.value)


def test_a_branch_that_ends_early_is_the_same_on_both_sides(trees):
    ended = np.isinf(trees.threshold[:, -1])
    assert (trees.value[ended, -1] == trees.value[ended, -2]).all()


def test_any_box_has_the_log_odds_of_the_whole(synthetic, trees):
    raw = np.asarray(synthetic.raw)
    whole = trees.log_odds(raw, Box.of(raw.shape), Box.of(raw.shape))
    wanted = Box((3, 20, 40), (9, 70, 96))
    read = wanted.grow(trees.reach).intersect(Box.of(raw.shape))
    np.testing.assert_array_equal(trees.log_odds(raw[read.slices], read, wanted), whole[wanted.slices])


def test_trees_come_back_from_a_file(trees, tmp_path):
    save_trees(tmp_path / "trees.safetensors", trees)
    found = load_trees(tmp_path / "trees.safetensors")
    assert found.settings == trees.settings
    assert all(np.array_equal(getattr(found, name), getattr(trees, name)) for name in ("feature", "threshold", "value"))


def test_a_model_keeps_its_trees_and_half_precision_does_not_round_them(both, tmp_path):
    save_model(tmp_path / "model.safetensors", both, half=True)
    found = load_model(tmp_path / "model.safetensors")
    assert found.card == both.card
    assert np.array_equal(found.trees.threshold, both.trees.threshold)


def test_a_model_whose_trees_are_missing_is_refused(both, tmp_path):
    save_model(tmp_path / "model.safetensors", dataclasses.replace(both, trees=None))
    with pytest.raises(InputError, match="do not fit"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("damage", [{"feature": -1}, {"feature": 99}], ids=str)
def test_trees_that_ask_for_features_there_are_none_of_are_refused(both, damage, tmp_path):
    broken = dataclasses.replace(both.trees, feature=np.full_like(both.trees.feature, damage["feature"]))
    save_model(tmp_path / "model.safetensors", dataclasses.replace(both, trees=broken))
    with pytest.raises(InputError, match="do not fit"):
        load_model(tmp_path / "model.safetensors")


def test_a_prediction_is_the_mean_of_network_and_trees(both, model, trees, synthetic):
    raw = synthetic.raw
    logits = whole_logits(model.net, raw, overlap=0)
    expected = logits.copy()
    expected[0] = (logits[0] + trees.log_odds(np.asarray(raw), raw.box, raw.box)) / 2
    found = predict_in_memory(both, raw, settings=PredictionSettings(overlap=0, dtype="float32"))
    np.testing.assert_allclose(found["probability"].read(), both.probability(expected), atol=1e-6)
    np.testing.assert_array_equal(whole_logits(model.net, raw, overlap=0, trees=trees), expected)


def test_the_size_of_the_blocks_changes_no_byte_of_it(both, synthetic, tmp_path):
    from cleftnet.blockwise import ExecutionSettings

    found = [
        predict(both, synthetic.raw, tmp_path / f"{number}.zarr", execution=ExecutionSettings(block=block)).read()
        for number, block in enumerate([(16, 96, 96), (8, 64, 32)])
    ]
    np.testing.assert_array_equal(*found)


def test_other_trees_are_another_model_to_a_prediction_that_resumes(both, synthetic):
    from cleftnet.prediction.job import PredictionJob

    other = dataclasses.replace(both, trees=dataclasses.replace(both.trees, value=2 * both.trees.value))
    digests = {
        PredictionJob.prepare(model, synthetic.raw, settings=PredictionSettings()).digest for model in (both, other)
    }
    assert len(digests) == 2


def test_an_estimate_includes_the_time_of_the_trees(both, model, synthetic):
    assert estimate_prediction(both, synthetic.raw).seconds_of_trees > 0
    assert estimate_prediction(model, synthetic.raw).seconds_of_trees == 0
