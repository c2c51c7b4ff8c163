"""Threshold, gap and size chosen on labels; `test_classifier.py` has what is fitted there."""

import json

import numpy as np
import pytest

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import evaluate
from cleftnet.synapses import SynapseSettings, Tuning, TuningSettings, find_synapses, tune, tune_once
from cleftnet.synapses.blocks import LabelWriter
from cleftnet.synapses.tuning_result import order
from cleftnet.volumes import INVALID, LABELS, Volume, write_volume

SIZE_NM = (40.0, 10.0, 10.0)  # a voxel of 4000 nm³


def grid(**values):
    """Values to try, without gaps and seeds."""
    return TuningSettings(**{"gaps": (0,), "seed_thresholds": (0,), **values})


@pytest.fixture
def truth():
    """Two clefts of 40 voxels."""
    labels = np.zeros((4, 32, 32), np.uint64)
    labels[1:3, 2:4, 2:12] = 5
    labels[1:3, 20:22, 2:12] = 9
    return Volume(labels, SIZE_NM)


@pytest.fixture
def prediction(truth):
    """Both clefts at 0.6, a false one of four voxels that is as sure, and a veil of 0.35 that joins the two."""
    values = np.where(truth.read() > 0, 153, 0).astype(np.uint8)
    values[1, 4:20, 5] = 90
    values[3, 28:30, 28:30] = 153
    return Volume(values, SIZE_NM, threshold=0.3)


def at(tuning, threshold, size):
    return next(p for p in tuning.grid if (p.threshold, p.min_size_nm3) == (threshold, size))


def test_the_best_point_leaves_out_the_veil_and_the_small_false_one(prediction, truth):
    tuning = tune(prediction, truth, grid=grid(sizes_nm3=(0, 20000)))
    assert tuning.chosen.object_f1 == tuning.chosen.voxel_f1 == 1
    assert (tuning.point.threshold, tuning.point.min_size_nm3) == (0.4, 20000)
    veiled = at(tuning, 0.3, 20000)
    assert (veiled.predicted, veiled.matched, veiled.merges, veiled.splits) == (1, 1, 1, 0)
    assert (at(tuning, 0.5, 0).predicted, at(tuning, 0.5, 0).matched) == (3, 2)


def test_without_a_size_limit_a_point_has_the_scores_of_evaluate(prediction, truth):
    tuning = tune(prediction, truth, settings=SynapseSettings(hole_nm=0), grid=grid(sizes_nm3=(0,)))
    for point in tuning.grid:
        result = evaluate(prediction, truth, threshold=point.threshold)
        assert point.voxel_f1 == pytest.approx(result.f1, abs=1e-12)
        assert point.cremi_score == (result.cremi_score if point == tuning.chosen else None)
        assert (point.object_f1, point.predicted) == (result.objects.f1, result.objects.predicted)


def test_the_threshold_stored_with_the_prediction_is_tried(prediction, truth):
    tuning = tune(prediction, truth, grid=grid(thresholds=(0.5,), sizes_nm3=(0,)))
    assert [point.threshold for point in tuning.grid] == [0.3, 0.5]


def test_voxels_that_nobody_labelled_do_not_count(prediction, truth):
    labels = truth.read()
    labels[3] = INVALID  # over the false one
    tuning = tune(prediction, Volume(labels, SIZE_NM), grid=grid(sizes_nm3=(0,), thresholds=(0.5,)))
    assert at(tuning, 0.5, 0).voxel_f1 == 1


def test_what_was_chosen_finds_those_synapses_from_the_file_too(prediction, truth, tmp_path):
    tuning = tune(prediction, truth)
    tuning.save(tmp_path / "tuning.json")
    loaded = Tuning.load(tmp_path / "tuning.json")
    assert loaded == tuning
    found = find_synapses(prediction, tmp_path / "out", settings=loaded.settings)
    assert len(found.table) == tuning.chosen.predicted == 2
    assert found.used.origin == "given"
    np.testing.assert_array_equal(
        found.table["score"], found.table["mean_probability"]
    )  # two clefts teach no classifier


def test_the_verb_tunes_stores_and_takes_it_again(prediction, truth, tmp_path, capsys):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    write_volume(truth, tmp_path / "t.hdf", default=LABELS[0])

    def synapses(*arguments):
        with pytest.raises(SystemExit, match="0"):
            main(["synapses", str(tmp_path / "p.hdf"), *map(str, arguments), "--json"])
        return json.loads(capsys.readouterr().out)

    first = synapses(tmp_path / "a", "--tune", tmp_path / "t.hdf")
    assert (first["synapses"], first["tuning"]["object_f1"]) == (2, 1.0)
    second = synapses(tmp_path / "b", "--tuned", tmp_path / "a" / "tuning.json")
    assert (second["synapses"], second["threshold"]) == (2, first["threshold"])
    assert (tmp_path / "a" / "synapses.csv").read_bytes() == (tmp_path / "b" / "synapses.csv").read_bytes()
    assert synapses(tmp_path / "c", "--tuned", tmp_path / "a" / "tuning.json", "--min-size", 0)["synapses"] == 3


def test_the_same_command_goes_on_after_a_crash_and_tunes_no_second_time(
    prediction, truth, tmp_path, monkeypatch, capsys
):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    write_volume(truth, tmp_path / "t.hdf", default=LABELS[0])
    command = ["synapses", str(tmp_path / "p.hdf"), str(tmp_path / "out"), "--tune", str(tmp_path / "t.hdf"), "--json"]

    def broken(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelWriter, "write", broken)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            main(command)
    kept = (tmp_path / "out" / "tuning.json").read_bytes()
    monkeypatch.setattr("cleftnet.synapses.tuning.tune", broken)
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert json.loads(capsys.readouterr().out)["synapses"] == 2
    assert (tmp_path / "out" / "tuning.json").read_bytes() == kept


@pytest.mark.parametrize("changed", ["prediction", "truth", "settings"])
def test_a_tuning_of_something_else_is_not_taken(prediction, truth, tmp_path, changed):
    path = tmp_path / "tuning.json"
    first = tune_once(path, prediction, truth, SynapseSettings())
    assert tune_once(path, prediction, truth, SynapseSettings(threshold=0.9)) == first  # which is not used
    other = Volume(np.roll(truth.read(), 1, axis=2), SIZE_NM)
    given = {"prediction": prediction, "truth": truth, "settings": SynapseSettings()}
    others = {"prediction": Volume(prediction.read() // 2, SIZE_NM), "truth": other, "settings": SynapseSettings(gap=1)}
    given[changed] = others[changed]
    with pytest.raises(InputError, match="tuned on other volumes or with other settings"):
        tune_once(path, *given.values())
    assert tune_once(path, *given.values(), overwrite=True) == Tuning.load(path)


def test_a_file_that_no_tuning_wrote_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(InputError, match="holds no tuning"):
        Tuning.load(tmp_path / "t.json")


def test_a_truth_without_clefts_is_refused(prediction):
    with pytest.raises(InputError, match="no cleft"):
        tune(prediction, Volume(np.zeros(prediction.shape, np.uint64), SIZE_NM))


def test_labels_have_no_threshold_to_tune(truth):
    with pytest.raises(InputError, match="only a probability"):
        tune(truth, truth)


def test_arrays_are_tuned_as_the_volumes_of_them_are(prediction, truth):
    unstored = Volume(prediction.read(), SIZE_NM)
    of_arrays = tune(prediction.read(), truth.read(), voxel_size_nm=SIZE_NM, grid=grid(sizes_nm3=(0, 20000)))
    assert of_arrays == tune(unstored, truth, grid=grid(sizes_nm3=(0, 20000)))


def test_a_cleft_that_misses_a_section_is_whole_with_the_gap_that_was_chosen(truth):
    labels = truth.read()
    labels[0:4, 2:4, 2:12], labels[0:4, 20:22, 2:12] = 5, 9
    values = np.where(labels > 0, 200, 0).astype(np.uint8)
    values[1] = 0
    tuning = tune(Volume(values, SIZE_NM), Volume(labels, SIZE_NM))
    assert (tuning.point.gap, tuning.chosen.predicted, tuning.chosen.object_f1, tuning.chosen.splits) == (1, 2, 1.0, 0)
    every_size = TuningSettings(sizes_nm3=(0,), seed_thresholds=(0,))
    kept = tune(Volume(values, SIZE_NM), Volume(labels, SIZE_NM), settings=SynapseSettings(gap=0), grid=every_size)
    assert (kept.point.gap, kept.chosen.splits) == (0, 2)


def test_several_regions_are_tuned_as_one_whose_counts_add_up(prediction, truth):
    empty = Volume(np.zeros(truth.shape, np.uint64), SIZE_NM)
    one = tune(prediction, truth, grid=grid(sizes_nm3=(0,), thresholds=(0.5,)))
    two = tune([prediction, prediction], [truth, empty], grid=grid(sizes_nm3=(0,), thresholds=(0.5,)))
    before, after = at(one, 0.5, 0), at(two, 0.5, 0)
    assert (after.true, after.matched, after.predicted) == (before.true, before.matched, 2 * before.predicted)


def test_regions_without_a_partner_are_refused(prediction, truth):
    with pytest.raises(InputError, match="2 predictions, 1 truths"):
        tune([prediction, prediction], truth)


@pytest.mark.parametrize(("f1", "decides"), [(0.82, False), (0.86, True)])
def test_a_classifier_decides_only_where_it_leads_sizes_by_a_margin(prediction, truth, f1, decides):
    size = tune(prediction, truth, grid=grid(sizes_nm3=(0,), thresholds=(0.5,))).chosen
    size = size.model_copy(update={"voxel_f1": 0.8, "object_f1": 0.8})
    classifier = size.model_copy(update={"voxel_f1": f1, "object_f1": f1, "min_score": 0.5})
    assert (min([size, classifier], key=order) == classifier) is decides


@pytest.fixture
def large_and_pale(truth):
    """Two clefts with a core of 0.95 in a rim of 0.4, and a false one of 0.6, larger than both."""
    values = np.where(truth.read() > 0, 102, 0).astype(np.uint8)
    values[1:3, 2:4, 5], values[1:3, 20:22, 5] = 242, 242
    values[0:4, 26:31, 14:30] = 153
    return Volume(values, SIZE_NM, threshold=0.3)


def test_a_large_but_pale_false_one_is_left_out_by_the_threshold_of_seeds(large_and_pale, truth):
    tuning = tune(large_and_pale, truth)
    assert (tuning.point.threshold, tuning.point.seed_threshold) == (0.1, 0.7)
    assert tuning.chosen.voxel_f1 == tuning.chosen.object_f1 == 1
    assert len(find_synapses(large_and_pale, settings=tuning.settings).table) == 2
    without = tune(large_and_pale, truth, grid=grid())
    assert without.point.seed_threshold == 0
    assert without.chosen.voxel_f1 < 0.8
    kept = tune(large_and_pale, truth, settings=SynapseSettings(seed_threshold=0.5))
    assert {point.seed_threshold for point in kept.grid} == {0.5}


def test_seeds_below_the_threshold_are_not_tried(prediction, truth):
    tuning = tune(prediction, truth)
    tried = {(point.threshold, point.seed_threshold) for point in tuning.grid}
    assert {(0.6, 0.0), (0.6, 0.7), (0.5, 0.5)} <= tried
    assert all(seed == 0 or seed >= threshold for threshold, seed in tried)


@pytest.mark.parametrize(("voxel_f1", "object_f1"), [(0.5, 0.75), (0.75, 0.5)])
def test_voxels_and_whole_synapses_decide_together(prediction, truth, voxel_f1, object_f1):
    point = tune(prediction, truth, grid=grid(sizes_nm3=(0,), thresholds=(0.5,))).chosen
    both = point.model_copy(update={"voxel_f1": 0.65, "object_f1": 0.65})
    one = point.model_copy(update={"voxel_f1": voxel_f1, "object_f1": object_f1})
    assert min([one, both], key=order) == both


def test_voxels_of_several_regions_are_counted_together(prediction, truth):
    empty = Volume(np.zeros(truth.shape, np.uint64), SIZE_NM)
    pale = Volume(np.zeros(truth.shape, np.uint8), SIZE_NM)
    values = {"grid": grid(sizes_nm3=(0,), thresholds=(0.5,)), "settings": SynapseSettings(hole_nm=0)}
    one, two = (
        at(tune(*pair, **values), 0.5, 0) for pair in ((prediction, truth), ([prediction, pale], [truth, truth]))
    )
    hits, found = 80, 84  # both clefts of 40 voxels, and the false one of 4
    assert one.voxel_f1 == pytest.approx(2 * hits / (found + 80))
    assert two.voxel_f1 == pytest.approx(2 * hits / (found + 160))
    assert at(tune([prediction, pale], [truth, empty], **values), 0.5, 0).voxel_f1 == one.voxel_f1


def test_a_higher_threshold_of_the_caller_ends_seeds_that_every_synapse_would_have(large_and_pale, truth):
    point = tune(large_and_pale, truth).point
    used = find_synapses(large_and_pale, settings=SynapseSettings(point=point, threshold=0.9)).used.point
    assert (used.threshold, used.seed_threshold) == (0.9, 0)
    used = find_synapses(large_and_pale, settings=SynapseSettings(point=point, threshold=0.3)).used.point
    assert (used.threshold, used.seed_threshold) == (0.3, 0.7)


def test_zero_ends_the_seeds_of_a_model(large_and_pale, truth):
    point = tune(large_and_pale, truth).point
    found = find_synapses(large_and_pale, settings=SynapseSettings(point=point, seed_threshold=0))
    assert (found.used.point.describe().count("seed"), len(found.table)) == (0, 3)
    tuning = tune(large_and_pale, truth, settings=SynapseSettings(seed_threshold=0))
    assert {p.seed_threshold for p in tuning.grid} == {0.0}


def test_thresholds_above_all_seeds_are_not_tried(prediction, truth):
    tuning = tune(prediction, truth, grid=grid(seed_thresholds=(0.5,)))
    assert max(p.threshold for p in tuning.grid) == 0.5
