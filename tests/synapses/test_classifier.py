"""The classifier of components: what it is fitted to, how far its score can be trusted, and where it is stored."""

import json
import logging

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cleftnet.blockwise import ExecutionSettings
from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.models.operating_point import ObjectClassifier, OperatingPoint
from cleftnet.synapses import FEATURES, SynapseSettings, TuningSettings, find_synapses, tune
from cleftnet.synapses.classifying import cross_validated, fit_classifier, group_objects
from cleftnet.volumes import LABELS, Volume, open_volume, write_volume

SIZE_NM = (50.0, 10.0, 10.0)  # a voxel of 5000 nm³
SHAPE = (12, 320, 320)
GRID = TuningSettings(thresholds=(0.5,), gaps=(0,), sizes_nm3=(1e9,))  # no size helps, so a classifier decides


def tissue(seed):
    """Plates in 100 places, each a true cleft with a probability that grows with its size and its darkness in raw.

    Returns raw, a prediction that shows every plate alike, labels, and the probability that each plate was given.
    """
    rng = np.random.default_rng(seed)
    raw = rng.normal(150, 12, SHAPE)
    values, labels = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint64)
    chances = []
    for n in range(100):
        z, y, x = 2 + 4 * (n % 2), 8 + 30 * (n // 2 // 10), 8 + 30 * (n // 2 % 10)
        length, dark = int(rng.integers(6, 20)), rng.uniform(0, 40)
        plate = np.s_[z : z + 2, y : y + 4, x : x + length]
        values[plate] = rng.integers(150, 250, values[plate].shape)
        raw[plate] -= dark
        chances.append(expit((length - 13) / 3 + (dark - 20) / 8))
        labels[plate] = (n + 1) * (rng.random() < chances[-1])
    gray = Volume(raw.clip(0, 255).astype(np.uint8), SIZE_NM)
    return gray, Volume(values, SIZE_NM), Volume(labels, SIZE_NM), np.array(chances)


@pytest.fixture(scope="module")
def tuned():
    """Tuned on three volumes, each predicted as if by a model that never saw it."""
    raw, prediction, labels, _ = zip(*(tissue(seed) for seed in (0, 10, 11)), strict=True)
    return tune(list(prediction), list(labels), raw=list(raw), grid=GRID)


def listed(tuned, seed, *, with_raw=True):
    """Return the scores of all components of other tissue, and whether they are true."""
    raw, prediction, labels, chances = tissue(seed)
    every = tuned.settings.changed(min_score=0, raw=raw if with_raw else None)
    table = find_synapses(prediction, settings=every).table
    inside = labels.read()[tuple(table[f"{axis}_start"] for axis in "zyx")] > 0
    return table["score"].to_numpy(), inside, chances


def test_the_score_is_the_share_of_true_clefts_on_other_tissue(tuned):
    """300 components of three volumes: the mean within 0.08, and each third by score within 0.15."""
    found = [listed(tuned, seed)[:2] for seed in (1, 2, 3)]
    score, true = (np.concatenate(values) for values in zip(*found, strict=True))
    assert len(score) == 300
    assert score.mean() == pytest.approx(true.mean(), abs=0.08)
    for third in np.array_split(np.argsort(score), 3):
        assert score[third].mean() == pytest.approx(true[third].mean(), abs=0.15)


def test_the_classifier_with_raw_knows_more_than_the_one_without(tuned, messages):
    def loss(score, true):
        return -np.log(np.where(true, score, 1 - score)).mean()

    with_raw, without = listed(tuned, 4), listed(tuned, 4, with_raw=False)
    assert loss(*with_raw[:2]) < loss(*without[:2]) - 0.05
    assert "judged without it; give" in messages.text


def test_what_is_below_the_smallest_score_is_left_out(tuned):
    assert tuned.point.min_score > 0
    raw, prediction, _, _ = tissue(5)
    few = find_synapses(prediction, settings=tuned.settings.changed(raw=raw)).table
    every = find_synapses(prediction, settings=tuned.settings.changed(raw=raw, min_score=0)).table
    kept = every[every["score"] >= tuned.point.min_score]
    assert 0 < len(few) == len(kept) < len(every)
    assert few["synapse_id"].tolist() == list(range(1, len(few) + 1))
    np.testing.assert_array_equal(few["score"], kept["score"])


def test_blocks_change_no_byte_of_labels_and_table(tuned, tmp_path):
    raw, prediction, _, _ = tissue(6)
    settings = tuned.settings.changed(raw=raw)
    small = ExecutionSettings(block=(16, 128, 128))
    whole, parts = (
        find_synapses(prediction, tmp_path / name, settings=settings, execution=execution)
        for name, execution in (("whole", ExecutionSettings()), ("small", small))
    )
    assert (tmp_path / "whole/synapses.csv").read_bytes() == (tmp_path / "small/synapses.csv").read_bytes()
    np.testing.assert_array_equal(whole.labels.read(), parts.labels.read())
    assert whole.labels.read().max() == len(whole.table) > 0


def test_a_score_is_judged_on_objects_that_its_classifier_has_not_seen():
    """With features that say nothing, a classifier that had seen the objects would claim to know them."""
    rng = np.random.default_rng(0)
    right = rng.random(60) < 0.5
    features = {name: rng.normal(size=60) for name in "abcdefghijklmnopqrst"}
    scores = cross_validated(features, right, np.arange(60) % 5, strength=1.0)
    seen = fit_classifier(features, right, strength=1.0).probability(features)
    assert np.mean((seen > 0.5) == right) > 0.75
    assert np.mean((scores > 0.5) == right) < 0.65


def test_the_fit_finds_the_curve_that_the_data_were_drawn_from():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 6, 20000)
    fitted = fit_classifier({"x": x}, rng.random(20000) < expit(-4 + 1.2 * x), strength=100.0)
    slope = fitted.weight[0] / fitted.scale[0]
    assert slope == pytest.approx(1.2, abs=0.1)
    assert fitted.intercept - slope * fitted.center[0] == pytest.approx(-4, abs=0.3)


@pytest.mark.parametrize("strength", [0.003, 1.0])
def test_the_fit_is_that_of_scikit_learn(strength):
    rng = np.random.default_rng(0)
    features = {name: rng.normal(3, 2, 80) for name in "abcde"}
    right = features["a"] + rng.normal(size=80) > 3
    fitted = fit_classifier(features, right, strength)
    values = (np.stack(list(features.values()), axis=1) - fitted.center) / fitted.scale
    expected = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10).fit(values, right)
    np.testing.assert_allclose(fitted.weight, expected.coef_[0], atol=1e-6)
    assert fitted.intercept == pytest.approx(float(expected.intercept_[0]), abs=1e-6)


def test_neighbors_and_pieces_of_one_cleft_are_in_one_group_and_regions_are_groups_of_their_own():
    centers = np.array([[0.0, y, 0.0] for y in range(20)])
    groups = group_objects([centers], [np.ones(20, bool)])[0]
    assert groups.tolist() == sorted(groups.tolist())
    assert np.bincount(groups).tolist() == [4, 4, 4, 4, 4]
    same = group_objects([np.concatenate([centers, centers[3:4]])], [np.ones(21, bool)])[0]
    assert same[3] == same[20]
    regions = group_objects([centers] * 3, [np.ones(20, bool)] * 3)
    assert [set(own.tolist()) for own in regions] == [{0}, {1}, {2}]


def test_another_threshold_leaves_the_classifier_out_and_says_so(tuned, caplog):
    caplog.set_level(logging.INFO, "cleftnet")
    raw, prediction, _, _ = tissue(5)
    found = find_synapses(prediction, settings=tuned.settings.changed(threshold=0.6, raw=raw))
    np.testing.assert_array_equal(found.table["score"], found.table["mean_probability"])
    assert (found.used.point.min_size_nm3, found.used.point.min_score) == (2e5, 0)
    assert "another threshold, gap or hole width" in caplog.text
    assert "changed by threshold=0.6" in found.used.origin


def test_the_point_stored_with_a_prediction_is_used_and_options_override_it(tuned, tmp_path, capsys):
    raw, prediction, _, _ = tissue(7)
    write_volume(raw, tmp_path / "raw.hdf", default="volumes/raw")
    stored = {"synapses": tuned.point.model_dump(mode="json"), "raw": str(tmp_path / "raw.hdf/volumes/raw")}
    carrying = Volume(prediction.read(), SIZE_NM, threshold=0.3, provenance=stored)
    write_volume(carrying, tmp_path / "p.zarr", default="volumes/probability")

    def synapses(name, *arguments):
        with pytest.raises(SystemExit, match="0"):
            main(["synapses", str(tmp_path / "p.zarr"), str(tmp_path / name), *arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    expected = find_synapses(prediction, settings=tuned.settings.changed(raw=raw))
    plain = synapses("plain")
    assert plain["synapses"] == len(expected.table)
    assert (plain["operating_point"], plain["threshold"]) == ("stored with the prediction", 0.5)
    assert plain["classifier_features"] == len(FEATURES)
    every = synapses("every", "--min-score", "0")
    assert every["synapses"] == 100
    assert every["operating_point"] == "stored with the prediction, changed by min_score=0"
    (tmp_path / "raw.hdf").rename(tmp_path / "moved.hdf")
    assert synapses("moved")["classifier_features"] < len(FEATURES)  # judged without raw
    assert synapses("given", "--raw", str(tmp_path / "moved.hdf"))["synapses"] == plain["synapses"]


def test_a_prediction_without_a_point_gets_the_default_size_at_its_own_threshold():
    values = np.zeros((2, 40, 40), np.uint8)
    values[0, 2:5, 2:17], values[0, 20:23, 2:14] = 100, 100  # of 225,000 and 180,000 nm³
    found = find_synapses(Volume(values, SIZE_NM, threshold=0.3))
    assert (len(found.table), found.threshold, found.used.origin) == (1, 0.3, "default")
    assert (
        len(find_synapses(Volume(values, SIZE_NM, threshold=0.3), settings=SynapseSettings(min_size_nm3=0)).table) == 2
    )


def test_masks_and_labels_keep_components_of_any_size():
    values = np.zeros((2, 9, 9), bool)
    values[0, 2, 2] = True
    assert len(find_synapses(Volume(values, SIZE_NM)).table) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"weight": [1.0]}, "2 features, 2 centers, 2 scales and 1 weights"),
        ({"scale": [1.0, 0.0]}, "greater than 0"),
        ({"intercept": "code"}, "valid number"),
        ({"features": ["log_volume", "beauty"]}, "asks for 'beauty', which this version"),
        ({"pickle": "gASV"}, "unknown key 'classifiers.0.pickle'"),
    ],
)
def test_a_damaged_classifier_is_refused_in_one_line(damage, message):
    classifier = {
        "features": ["log_volume", "darkness"],
        "center": [5.0, 1.0],
        "scale": [1.0, 1.0],
        "weight": [1.0, 2.0],
        "intercept": 0.0,
    }
    point = {"threshold": 0.5, "classifiers": [classifier | damage]}
    prediction = Volume(np.zeros((2, 9, 9), np.uint8), SIZE_NM, address="p.hdf", provenance={"synapses": point})
    with pytest.raises(InputError, match=message) as raised:
        find_synapses(prediction)
    assert "\n" not in str(raised.value)
    assert "p.hdf" in str(raised.value)


def test_the_verb_tunes_and_stores_the_point_in_the_model(model, tmp_path, capsys):
    from cleftnet.models.checkpoint import load_card, save_model

    raw, prediction, labels, _ = tissue(0)
    save_model(tmp_path / "m.safetensors", model)
    for volume, name in ((raw, "raw.hdf/volumes/raw"), (prediction, "p.hdf/volumes/probability"), (labels, "t.hdf")):
        write_volume(volume, tmp_path / name, default=LABELS[0])
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("synapses", str(tmp_path / "p.hdf"), str(tmp_path / "out"), "--tune", str(tmp_path / "t.hdf")),
                *("--raw", str(tmp_path / "raw.hdf"), "--into", str(tmp_path / "m.safetensors"), "--json"),
            ]
        )
    chosen = json.loads((tmp_path / "out/tuning.json").read_text())["point"]
    assert load_card(tmp_path / "m.safetensors").synapses == OperatingPoint(**chosen)
    assert json.loads(capsys.readouterr().out)["operating_point"] == "given"


def test_a_classifier_needs_one_value_for_each_feature():
    with pytest.raises(InputError, match="expected one of each for every feature"):
        ObjectClassifier(features=("a", "b"), center=(0,), scale=(1, 1), weight=(1, 1), intercept=0)


def test_labels_on_disk_are_those_in_memory_with_a_classifier(tuned, tmp_path):
    raw, prediction, _, _ = tissue(8)
    settings = tuned.settings.changed(raw=raw)
    find_synapses(prediction, tmp_path / "out", settings=settings)
    stored = open_volume(tmp_path / "out/labels.zarr", default=LABELS)
    np.testing.assert_array_equal(stored.read(), find_synapses(prediction, settings=settings).labels.read())
