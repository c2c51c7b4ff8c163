import dataclasses
import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box, slabs
from cleftnet.metrics.evaluation import SWEEP_GRID, ScoringSettings, evaluate
from cleftnet.metrics.halo import HaloSettings
from cleftnet.metrics.pooling import mean_evaluation
from cleftnet.metrics.scores import OBJECT_SCORES
from cleftnet.volumes import INVALID, LABELS, Volume, open_volume

SIZE_NM = (40.0, 4.0, 4.0)
# the keys that docs/evaluation.md lists first
KEYS = [
    "cremi_score",
    "adgt",
    "adf",
    "f1",
    "precision",
    "recall",
    "auc",
    "fp_far",
    "fn_far",
    "threshold",
    "voxels_scored",
    "objects",
]


def volume(values, dtype, **more):
    array = np.array(values, dtype)
    return Volume(array.reshape((1,) * (3 - array.ndim) + array.shape), SIZE_NM, **more)


def probability(*values, **more):
    return volume(values, np.uint8, **more)


def labels(*values, **more):
    return volume(values, np.uint64, **more)


def counted(result):
    return result.objects.true, result.objects.predicted, result.objects.matched


def test_every_score_of_a_drawn_row():
    """Pixels of 4 nm, threshold 0.5, so that 128 and more are predicted.

    truth        1   1   .   .   2   .        clefts at 0, 1 and 4
    prediction   0  200 200  0   90  .        predicted at 1 and 2, one component
    ADGT: 1 lies on the truth, 2 is one pixel off: (0 + 4) / 2 = 2.
    ADF: 0 is one pixel off, 1 lies on the prediction, 4 is two pixels off: (4 + 0 + 8) / 3 = 4.
    One hit, one false alarm, two misses: precision 1/2, recall 1/3, F1 = 2 / (2 + 3) = 0.4.
    AUC: cleft voxels score 0, 200, 90, background 200, 0, 0. Of 9 pairs 0 wins none and ties 2, 200 wins 2 and ties 1, 90
    wins 2: (1 + 2.5 + 2) / 9. The component shares a voxel with cleft 1; cleft 2 is missed.
    """
    result = evaluate(probability(0, 200, 200, 0, 90, 0), labels(1, 1, 0, 0, 2, 0))
    values = result.to_json()
    assert (values["adgt"], values["adf"], values["cremi_score"]) == (2, 4, 3)
    assert (values["precision"], values["recall"], values["f1"]) == (1 / 2, 1 / 3, 0.4)
    assert values["auc"] == pytest.approx(5.5 / 9)
    counts = {"true": 2, "predicted": 1, "matched": 1, "splits": 0, "merges": 0}
    nothing = {"true": 0, "found": 0, "predicted": 0, "right": 0}
    bounds = [(0, 1e6), (1e6, 3e6), (3e6, 1e7), (1e7, None)]
    classes = [{"low_nm3": low, "high_nm3": high, **nothing} for low, high in bounds]
    classes[0] |= {"true": 2, "found": 1, "predicted": 1, "right": 1}
    scores = {"precision": 1, "recall": 0.5, "f1": 2 / 3, "average_precision": 0.5}
    assert values["objects"] == {**scores, **counts, "by_size": classes}
    assert (values["threshold"], values["voxels_scored"], values["undefined"], values["warnings"]) == (0.5, 6, {}, [])


def test_the_json_has_the_promised_keys_first_and_is_plain():
    values = evaluate(probability(0, 200), labels(1, 0)).to_json()
    assert sorted(list(values)[: len(KEYS)]) == sorted(KEYS)
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_invalid_voxels_are_left_out_of_every_score():
    """Without the two invalid voxels the prediction is perfect."""
    result = evaluate(probability(200, 0, 200, 200), labels(7, 0, INVALID, INVALID))
    assert (result.f1, result.cremi_score, result.auc, result.to_json()["voxels_scored"]) == (1, 0, 1, 2)
    assert counted(result) == (1, 1, 1)


def test_a_perfect_prediction_of_labels_scores_perfectly():
    truth = labels(7, 7, 0, 8, INVALID)
    values = evaluate(truth, truth).to_json()
    assert (values["cremi_score"], values["f1"], values["objects"]["f1"], values["fp_far"]) == (0, 1, 1, 0)


@pytest.mark.parametrize(
    ("prediction", "truth", "undefined"),
    [
        pytest.param(
            probability(0, 9, 0),
            labels(0, 7, 0),
            {
                **dict.fromkeys(
                    ["cremi_score", "adgt", "adf", "precision", "objects.precision"],
                    "no voxel is predicted as cleft (threshold 0.5)",
                )
            },
            id="nothing predicted",
        ),
        pytest.param(
            probability(0, 200, 0),
            labels(0, 0, 0),
            dict.fromkeys(
                ["cremi_score", "adgt", "adf", "recall", "auc", "objects.recall", "objects.average_precision"],
                "the truth holds no cleft voxel in the region",
            ),
            id="nothing true",
        ),
        pytest.param(
            probability(0, 200, 0),
            labels(INVALID, INVALID, INVALID),
            dict.fromkeys(
                [*KEYS[:7], *(f"objects.{name}" for name in OBJECT_SCORES)],
                "no voxel of the region is labeled",
            ),
            id="all invalid",
        ),
        pytest.param(
            volume([0, 1, 1], bool),
            labels(0, 7, 0),
            {
                "auc": "a mask volume has no ROC curve; it takes a probability",
                "objects.average_precision": "a mask volume has no probability to rank clefts by",
            },
            id="mask",
        ),
        pytest.param(
            labels(0, 3, 4),
            labels(0, 7, 0),
            {
                "auc": "a labels volume has no ROC curve; it takes a probability",
                "objects.average_precision": "a labels volume has no probability to rank clefts by",
            },
            id="labels",
        ),
    ],
)
def test_a_score_that_is_not_defined_is_none_and_says_why(prediction, truth, undefined):
    result = evaluate(prediction, truth)
    values = result.to_json()
    values |= {f"objects.{name}": value for name, value in values["objects"].items()}
    assert result.undefined == undefined
    scores = [*KEYS[:9], *(f"objects.{name}" for name in OBJECT_SCORES)]
    assert [name for name in scores if values[name] is None] == [name for name in scores if name in undefined]


def test_neither_truth_nor_prediction_leaves_f1_undefined():
    result = evaluate(probability(0, 0), labels(0, 0))
    assert (result.f1, result.undefined["f1"]) == (
        None,
        "the truth holds no cleft voxel in the region, and none is predicted (threshold 0.5)",
    )


def test_missed_clefts_are_all_far_where_nothing_is_predicted():
    values = evaluate(probability(0, 0, 0), labels(7, 7, 0)).to_json()
    assert (values["fn_far"], values["fp_far"], values["recall"], values["f1"]) == (2, 0, 0, 0)


def test_the_threshold_stored_with_a_prediction_is_used():
    result = evaluate(probability(0, 100, threshold=0.3), labels(0, 1))
    assert (result.threshold, result.f1) == (0.3, 1)


def test_only_the_overlap_of_both_volumes_is_scored_and_told():
    """The prediction begins one pixel (4 nm) later than the truth and is one shorter: truth 1 to 2 meets prediction 0 to 1."""
    result = evaluate(probability(200, 0, offset_nm=(0, 0, 4)), labels(0, 7, 0, 0))
    assert (result.f1, result.scored_box, result.scores.counts.voxels) == (1, "0:1,0:1,1:3", 2)
    assert result.warnings == ("the prediction covers only 0:1,0:1,1:3 of the truth's 0:1,0:1,0:4",)


def test_a_region_scores_its_voxels_only():
    result = evaluate(probability(200, 0, 0, 200), labels(7, 0, 8, 0), roi=Box.parse("0:1,0:1,0:2"))
    assert (result.f1, result.scored_box, result.scores.counts.voxels) == (1, "0:1,0:1,0:2", 2)


def test_sections_are_named_by_their_z_in_the_truth_and_their_distances_run_through_the_volume():
    """Truth in section 0, prediction in section 1, both at pixel 0: each is 40 nm from the other, in its own section."""
    truth, prediction = volume([[[7, 0]], [[0, 0]]], np.uint64), volume([[[0, 0]], [[200, 0]]], np.uint8)
    sections = evaluate(prediction, truth).sections
    assert (sections[0].distances.adf, sections[0].distances.adgt, sections[0].counts.true) == (40, None, 1)
    assert (sections[1].distances.adgt, sections[1].distances.adf, sections[1].counts.predicted) == (40, None, 1)
    whole = volume([[[0, 0]], [[7, 0]], [[0, 0]]], np.uint64)
    assert list(evaluate(whole, whole, roi=Box.parse("1:3,0:1,0:2")).sections) == [1, 2]


def test_a_truth_that_is_all_cleft_is_refused():
    with pytest.raises(InputError, match=r"every labeled voxel .* is cleft: its background was probably written as 0"):
        evaluate(probability(200, 0), labels(7, 7))


def test_a_prediction_that_is_all_cleft_is_scored_with_a_warning():
    assert "background was probably written as 0" in evaluate(labels(7, 7), labels(7, 0)).warnings[0]
    assert "threshold too low" in evaluate(probability(200, 200), labels(7, 0)).warnings[0]


def test_a_prediction_that_is_invalid_where_the_truth_is_labelled_is_refused():
    with pytest.raises(InputError, match="marks 1 voxels invalid"):
        evaluate(labels(INVALID, INVALID, 0), labels(0, INVALID, 7))


def test_a_uint8_prediction_of_zeros_and_ones_is_refused_until_it_is_said_what_it_is():
    ones, truth = probability(0, 1, 0), labels(0, 7, 0)
    with pytest.raises(InputError, match="nothing above 1"):
        evaluate(ones, truth)
    assert evaluate(ones, truth, kind="mask").f1 == 1
    assert evaluate(ones, truth, kind="probability").f1 == 0
    assert evaluate(probability(0, 0, 0), truth).f1 == 0


def test_floats_beyond_1_are_refused():
    with pytest.raises(InputError, match="logits need a sigmoid"):
        evaluate(volume([-3.0, 4.0], np.float32), labels(0, 7))


def test_a_truth_of_floats_is_refused():
    with pytest.raises(InputError, match="are the two swapped"):
        evaluate(labels(0, 7), volume([0.1, 0.9], np.float32))


def test_a_sweep_scores_the_grid_and_names_the_best():
    """Truth at 0 and 1. Up to 0.2 the 60 (0.235) is a false alarm; from 0.25 on it is gone; from 0.4 on the 100 is missed."""
    result = evaluate(probability(200, 100, 60, 0), labels(7, 7, 0, 0), settings=ScoringSettings(sweep=True))
    assert list(result.sweep.at) == list(SWEEP_GRID)
    assert result.sweep.best_f1 == (100 / 255, 1)
    assert result.sweep.best_cremi_score == (0.25, 0)
    assert (result.sweep.at[0.2].counts.f1, result.sweep.at[0.5].counts.f1) == (0.8, 2 / 3)
    assert result.sweep.at[0.5].to_json() == result.scores.to_json()
    assert result.to_json()["sweep"]["best_f1"] == {"threshold": 100 / 255, "f1": 1}


def test_masks_cannot_be_swept():
    with pytest.raises(InputError, match="only probabilities"):
        evaluate(volume([True], bool), labels(7), settings=ScoringSettings(sweep=True))


def test_slabs_that_are_parts_of_slices_are_put_together_again(monkeypatch):
    rng = np.random.default_rng(0)
    predicted = rng.choice(np.array([0, 0, 200], np.uint8), (9, 300, 5))
    true = rng.choice(np.array([0, 0, 7, 8, INVALID], np.uint64), (9, 300, 5))
    prediction, truth = Volume(predicted, SIZE_NM), Volume(true, SIZE_NM)
    at_once = evaluate(prediction, truth).to_json()
    monkeypatch.setattr("cleftnet.metrics.predictions.slabs", lambda box: slabs(box, max_voxels=8 * 128 * 5))
    assert evaluate(prediction, truth).to_json() == at_once


def test_a_truth_given_as_mask_has_its_components_as_clefts():
    assert counted(evaluate(probability(200, 0, 200), volume([1, 0, 1], bool))) == (2, 2, 2)


def test_splits_merges_sizes_and_the_curve_of_a_drawn_row():
    """Pixels of 640 nm³. Cleft 7 (4 pixels) is in two pieces, 8 and 9 are under one; the last prediction is false and surer.

    truth        7   7   7   7   .   8   .   9   .   .       sizes 4, 1, 1
    prediction  200  .  200 200  .  150 150 150  .  255      sizes 1, 2, 3, 1; means 200, 200, 150, 255
    By mean probability: the false one first, then 7's two pieces, of which one is matched, then the merge.
    """
    truth = labels(7, 7, 7, 7, 0, 8, 0, 9, 0, 0)
    objects = evaluate(probability(200, 0, 200, 200, 0, 150, 150, 150, 0, 255), truth).objects
    assert (objects.splits, objects.merges, objects.matched) == (1, 1, 2)
    assert [(c.true, c.found, c.predicted, c.right) for c in objects.by_size] == [(3, 2, 4, 2), *[(0, 0, 0, 0)] * 3]
    assert objects.curve.scores.tolist() == [1, 200 / 255, 150 / 255]
    assert objects.curve.precision.tolist() == [0, 1 / 3, 1 / 2]
    assert objects.curve.recall.tolist() == [0, 1 / 3, 2 / 3]
    assert objects.average_precision == pytest.approx(1 / 3 * 1 / 3 + 1 / 3 * 1 / 2)


def test_clefts_can_match_by_the_distance_of_their_centroids():
    """Truth at pixels 0 and 1, centroid 2 nm; prediction at 3, 12 nm: 10 nm apart, and no voxel shared."""
    prediction, truth = probability(0, 0, 0, 200), labels(7, 7, 0, 0)
    assert evaluate(prediction, truth).objects.matched == 0
    assert evaluate(prediction, truth, settings=ScoringSettings(match_nm=10)).objects.matched == 1
    assert evaluate(prediction, truth, settings=ScoringSettings(match_nm=9.9)).objects.matched == 0
    with pytest.raises(InputError, match=r"match_nm: .*given: -1"):
        ScoringSettings(match_nm=-1)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]), st.booleans())
def test_blocks_with_a_halo_that_covers_give_the_same_scores_as_the_whole(seed, share, as_float):
    rng = np.random.default_rng(seed)
    predicted = rng.choice(np.array([60, 128, 255], np.uint8), (8, 6, 7)) * (rng.random((8, 6, 7)) < share)
    true = rng.choice(np.array([7, 8, INVALID], np.uint64), (8, 6, 7)) * (rng.random((8, 6, 7)) < share)
    prediction, truth = Volume(predicted, SIZE_NM), Volume(true, SIZE_NM)
    if as_float:
        prediction = Volume((predicted / 255).astype(np.float32), SIZE_NM)
    whole = evaluate(prediction, truth, settings=ScoringSettings(sweep=True)).to_json()
    parts = evaluate(
        prediction, truth, settings=ScoringSettings(sweep=True, blocks=HaloSettings(shape=(3, 6, 4), halo_nm=400))
    ).to_json()
    for values in (parts, whole):
        values["objects"]["average_precision"] = pytest.approx(values["objects"]["average_precision"])
    assert parts == whole


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.4]),
    st.sampled_from(["labels", "one id", "bool", "mask", "uint8"]),
)
def test_whole_clefts_are_the_same_in_blocks_as_in_one_piece(seed, share, kind):
    rng = np.random.default_rng(seed)
    shape = (5, 6, 7)
    cleft, ids = rng.random(shape) < share, rng.integers(1, 4, shape).astype(np.uint64)
    true = np.where(rng.random(shape) < share, ids if seed % 2 else np.uint64(3), 0).astype(np.uint64)
    true[rng.random(shape) < 0.2] = INVALID
    predicted = {
        "labels": np.where(cleft, np.roll(ids, 1), 0).astype(np.uint64),
        "one id": cleft.astype(np.uint64) * np.uint64(9),
        "bool": cleft,
        "mask": cleft.astype(np.uint8),
        "uint8": np.where(cleft, rng.integers(128, 256, shape), 10).astype(np.uint8),
    }[kind]
    scored = [
        evaluate(
            Volume(predicted, SIZE_NM),
            Volume(true, SIZE_NM),
            kind="mask" if kind == "mask" else None,
            settings=ScoringSettings(blocks=blocks, match_nm=60 if seed % 3 == 0 else None),
        ).objects
        for blocks in (None, HaloSettings(shape=(2, 3, 4), halo_nm=201), HaloSettings(shape=(1, 1, 1), halo_nm=201))
    ]
    assert scored[1] == scored[0]
    assert scored[2] == scored[0]
    assert scored[0].by_size
    if kind == "uint8":
        for name in ("scores", "precision", "recall"):
            np.testing.assert_allclose(getattr(scored[1].curve, name), getattr(scored[0].curve, name), rtol=1e-12)


def test_a_cleft_across_four_blocks_is_one():
    predicted = np.zeros((1, 4, 4), np.uint8)
    predicted[0, 1, 1], predicted[0, 2, 2], predicted[0, 0, 3] = (
        200,
        200,
        200,
    )  # the first two touch at a corner of blocks
    truth = np.where(predicted, 7, 0).astype(np.uint64)
    result = evaluate(
        Volume(predicted, SIZE_NM),
        Volume(truth, SIZE_NM),
        settings=ScoringSettings(blocks=HaloSettings(shape=(1, 2, 2), halo_nm=201)),
    )
    assert (result.objects.true, result.objects.predicted, result.objects.matched) == (2, 2, 2)


def test_blocks_with_a_halo_too_small_say_that_their_scores_are_lower_bounds():
    predicted, true = np.zeros((20, 1, 1), np.uint8), np.zeros((20, 1, 1), np.uint64)
    predicted[0], true[19] = 200, 7
    result = evaluate(
        Volume(predicted, SIZE_NM),
        Volume(true, SIZE_NM),
        settings=ScoringSettings(blocks=HaloSettings(shape=(2, 1, 1), halo_nm=240)),
    )
    assert (result.exact, result.scores.distances.fp_far) == (False, 1)
    assert result.warnings == (
        "2 distances reach beyond the halo of their block; ADGT, ADF and CREMI score are lower bounds",
    )
    assert result.cremi_score <= 19 * 40


def test_a_region_too_large_for_one_piece_is_cut_by_itself(monkeypatch):
    monkeypatch.setattr("cleftnet.metrics.evaluation.WHOLE_VOX", 5)
    assert evaluate(probability(0, 200, 0), labels(0, 7, 0)).objects is not None
    result = evaluate(probability(*[0] * 9, 200), labels(*[0] * 9, 7))
    assert (result.f1, result.cremi_score, result.exact) == (1, 0, True)


def test_blocks_know_that_a_mask_is_empty_everywhere():
    predicted = np.zeros((20, 1, 1), np.uint8)
    predicted[0] = 200
    blocks = HaloSettings(shape=(2, 1, 1), halo_nm=240)
    result = evaluate(
        Volume(predicted, SIZE_NM),
        Volume(np.zeros((20, 1, 1), np.uint64), SIZE_NM),
        settings=ScoringSettings(blocks=blocks),
    )
    assert (result.cremi_score, result.to_json()["adgt"], result.exact) == (None, None, True)
    assert result.sections[0].distances.adgt is None


def write(path, name, values, **attributes):
    with h5py.File(path, "a") as file:
        file[name] = values
        file[name].attrs.update(attributes)


def test_files_are_opened_by_their_address_and_cremi_background_is_understood(tmp_path):
    true = np.full((1, 2, 3), 2**64 - 1, np.uint64)
    true[0, 0, 0] = 7
    write(tmp_path / "A.hdf", "volumes/labels/clefts", true, resolution=SIZE_NM)
    with h5py.File(tmp_path / "A.hdf", "a") as file:
        file.attrs["file_format"] = "0.2"
    write(tmp_path / "p.hdf", "volumes/probability", np.where(true == 7, 200, 0).astype(np.uint8), resolution=SIZE_NM)
    result = evaluate(str(tmp_path / "p.hdf"), tmp_path / "A.hdf")
    assert (result.f1, result.cremi_score, result.scores.counts.voxels) == (1, 0, 6)


def test_a_cremi_file_of_zeros_is_refused_as_truth_and_warned_of_as_prediction(tmp_path):
    for name, values in (
        ("zeros.hdf", np.zeros((1, 2, 3), np.uint64)),
        ("A.hdf", np.full((1, 2, 3), 2**64 - 1, np.uint64)),
    ):
        values[0, 0, 0] = 0
        write(tmp_path / name, "volumes/labels/clefts", values, resolution=SIZE_NM)
        with h5py.File(tmp_path / name, "a") as file:
            file.attrs["file_format"] = "0.2"
    with pytest.raises(InputError, match="background was probably written as 0"):
        evaluate(tmp_path / "A.hdf", tmp_path / "zeros.hdf")
    assert "every scored voxel is predicted" in evaluate(tmp_path / "zeros.hdf", tmp_path / "A.hdf").warnings[0]


def test_rows_show_every_score_with_its_unit_or_why_it_is_missing():
    rows = {name: rest for name, *rest in evaluate(probability(0, 9, 0), labels(0, 7, 0)).rows()}
    assert rows["cremi_score"] == ["-", "no voxel is predicted as cleft (threshold 0.5)"]
    assert rows["recall"] == ["0.0000", ""]
    assert rows["fn_far"] == ["1", "voxels"]
    assert rows["objects f1"] == ["0.0000", "0 matched of 1 true, 0 predicted, 0 splits, 0 merges"]
    assert rows["objects precision"] == ["-", "no voxel is predicted as cleft (threshold 0.5)"]
    assert "objects recall" not in rows
    nothing = {name: rest for name, *rest in evaluate(probability(0, 9, 0), labels(0, 0, 0)).rows()}
    assert nothing["objects f1"] == [
        "-",
        "0 matched of 0 true, 0 predicted: the truth holds no cleft voxel in the region",
    ]


def test_the_mean_over_volumes_weighs_each_volume_alike():
    """A volume of 4 voxels that is 4 nm off and one of 2 voxels that is perfect: mean CREMI score 2, mean F1 1/2."""
    first, second = evaluate(probability(200, 0, 0, 0), labels(0, 7, 0, 0)), evaluate(probability(200, 0), labels(7, 0))
    assert (first.cremi_score, second.cremi_score, first.f1, second.f1) == (4, 0, 0, 1)
    mean = mean_evaluation([first, second])
    assert (len(mean.volumes), mean.scores["cremi_score"], mean.scores["f1"], mean.undefined) == (2, 2, 0.5, {})


def test_a_score_that_one_volume_lacks_has_no_mean():
    mean = mean_evaluation([evaluate(probability(200, 0), labels(7, 0)), evaluate(probability(0, 0), labels(7, 0))])
    assert mean.scores["cremi_score"] is None
    assert mean.undefined["cremi_score"] == "volume 2 of 2: no voxel is predicted as cleft (threshold 0.5)"
    assert mean.to_json()["recall"] == 0.5


def test_whole_clefts_are_averaged_too_and_counted_together():
    """A volume with 1 cleft found of 2, and one with its only cleft found: recall 1/2 and 1, mean 3/4; 2 of 3 clefts."""
    half = evaluate(probability(200, 0, 0, 0), labels(7, 0, 8, 0))
    objects = mean_evaluation([half, evaluate(probability(200, 0), labels(7, 0))]).to_json()["objects"]
    assert [objects[name] for name in OBJECT_SCORES] == [1, 0.75, pytest.approx((2 / 3 + 1) / 2), 0.75]
    assert [objects[name] for name in ("true", "predicted", "matched", "splits", "merges")] == [3, 2, 2, 0, 0]
    smallest = {"low_nm3": 0, "high_nm3": 1e6, "true": 3, "found": 2, "predicted": 2, "right": 2}
    assert objects["by_size"][0] == smallest


def test_the_mean_of_objects_keeps_the_reason_it_is_missing():
    nothing = evaluate(probability(0, 0), labels(7, 0))
    mean = mean_evaluation([nothing])
    assert mean.to_json()["objects"]["precision"] is None
    reason = "volume 1 of 1: no voxel is predicted as cleft (threshold 0.5)"
    assert mean.undefined["objects.precision"] == reason
    assert ("mean objects precision", "-", reason) in mean.rows()


def test_clefts_that_were_not_matched_have_no_mean():
    voxels_only = dataclasses.replace(evaluate(probability(200, 0), labels(7, 0)), objects=None)
    mean = mean_evaluation([voxels_only])
    assert mean.to_json()["objects"] is None
    assert ("mean objects", "-", "volume 1 of 1: undefined") in mean.rows()


def test_the_mean_names_the_threshold_that_all_share():
    one, other = (evaluate(probability(200, 0), labels(7, 0), threshold=threshold) for threshold in (0.5, 0.6))
    assert mean_evaluation([one, one]).to_json()["threshold"] == 0.5
    assert mean_evaluation([one, other]).to_json()["threshold"] is None
    assert mean_evaluation([one, other]).to_json()["voxels_scored"] == 4


def test_there_is_no_mean_of_nothing():
    with pytest.raises(InputError, match="at least one"):
        mean_evaluation([])


def test_the_real_volume_scores_perfectly_against_itself_and_one_section_off_by_50_nm_at_most(real_data):
    """20×1024×768 voxels, 37 ids (36 synapses and a crumb of 12 voxels), sections of 50 nm."""
    truth = open_volume(real_data / "vnc-l3/vnc-l3.hdf", default=LABELS).crop(Box((0, 0, 0), (20, 1024, 768)))
    same = evaluate(truth, truth)
    assert (same.cremi_score, same.f1, same.scores.counts.voxels) == (0, 1, 20 * 1024 * 768)
    assert counted(same) == (37, 37, 37)
    assert [(c.true, c.found, c.predicted, c.right) for c in same.objects.by_size] == [
        (n, n, n, n) for n in (10, 12, 15, 0)
    ]
    moved = np.roll(truth.read(), 1, axis=0)
    moved[0] = 0
    shifted = evaluate(Volume(moved, truth.voxel_size), truth)
    assert shifted.scores.distances.of_predicted.max == 50
    assert 0 < shifted.scores.distances.adgt < 50


def test_arrays_score_as_the_volumes_of_them_do():
    labels_, values = np.zeros((2, 4, 4), np.uint64), np.zeros((2, 4, 4), np.uint8)
    labels_[0, 1:3, 1:3], values[0, 1:3, 1:4] = 7, 200
    of_volumes = evaluate(Volume(values, SIZE_NM), Volume(labels_, SIZE_NM)).to_json()
    assert evaluate(values, labels_, voxel_size_nm=SIZE_NM).to_json() == of_volumes
    with pytest.raises(InputError, match="carries no voxel size"):
        evaluate(values, labels_)


def test_the_sums_over_volumes_are_those_of_each():
    settings_ = ScoringSettings(sweep=True)
    one = evaluate(probability(200, 100, 0), labels(7, 7, 0), settings=settings_)
    two = evaluate(probability(0, 200, 200), labels(7, 7, 0), settings=settings_)
    mean = mean_evaluation([one, two])
    assert mean.counts == one.scores.counts + two.scores.counts
    assert mean.histogram.auc == (one.histogram + two.histogram).auc
    assert (mean.clefts.true, mean.clefts.matched) == (2, 2)
    assert mean.cremi_at[0.5] == (one.sweep.at[0.5].distances.score + two.sweep.at[0.5].distances.score) / 2


def test_mean_and_pooled_f1_are_named_apart():
    """F1 of 1 on one cleft voxel, and of 1/2 (one right, one wrong, one missed) on the other: 3/4 on the mean, 2/3 pooled."""
    one = evaluate(probability(200, 0, 0), labels(7, 0, 0))
    two = evaluate(probability(200, 200, 0, 0), labels(7, 0, 7, 0))
    mean = mean_evaluation([one, two])
    assert (mean.to_json()["f1"], mean.to_json()["pooled"]["f1"]) == (0.75, pytest.approx(2 / 3))
    assert {name: value for name, value, _ in mean.rows()}.items() >= {
        "mean f1": "0.7500",
        "pooled f1": "0.6667",
    }.items()


def test_sums_over_volumes_are_undefined_where_one_volume_lacks_them():
    mask = evaluate(volume([True, False], bool), labels(7, 0))
    mean = mean_evaluation([evaluate(probability(200, 0), labels(7, 0)), mask])
    assert mean.histogram is None
    assert mean.cremi_at == {}
