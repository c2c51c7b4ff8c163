"""The challenge's evaluation of clefts, restated from its published rules in float64 SciPy, against ours.

Rules (docs/method.md, "Scores"): in both volumes a voxel is no cleft where its label is background or the truth is invalid;
Euclidean distances by each file's own resolution; plain means; far is strictly more than 200 nm.
"""

import warnings

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.halo import HaloSettings
from cleftnet.volumes import Volume, from_cremi

CREMI_BACKGROUND, CREMI_INVALID = 2**64 - 1, 2**64 - 2
TRUE_IDS = [CREMI_BACKGROUND, CREMI_BACKGROUND, CREMI_INVALID, 0, 7, 8]
PREDICTED_IDS = [CREMI_BACKGROUND, CREMI_BACKGROUND, 3, 0]
SIZES_NM = [(40.0, 4.0, 4.0), (50.0, 4.6, 4.6), (100.0, 50.0, 50.0), (200.0, 200.0, 200.0), (40.0, 40.0, 120.0)]


def challenge(predicted, true, predicted_resolution, true_resolution):
    """Mean, standard deviation, maximum, median and far count of both kinds of error."""
    invalid = true == CREMI_INVALID
    no_prediction = (predicted == CREMI_BACKGROUND) | invalid
    no_truth = (true == CREMI_BACKGROUND) | invalid
    false_positive = distance_transform_edt(no_truth, sampling=true_resolution)[~no_prediction]
    false_negative = distance_transform_edt(no_prediction, sampling=predicted_resolution)[~no_truth]
    return [
        (d.mean(), d.std(), d.max(initial=0), np.median(d), np.count_nonzero(d > 200))
        for d in (false_positive, false_negative)
    ]


@st.composite
def volumes(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7))
    ids = lambda choices: hnp.arrays(  # noqa: E731
        np.uint64, shape, elements=st.sampled_from(choices), fill=st.just(CREMI_BACKGROUND)
    )
    return draw(ids(PREDICTED_IDS)), draw(ids(TRUE_IDS)), draw(st.sampled_from(SIZES_NM))


def compare(drawn, blocks=None):
    """Score with ours, and check every number against the challenge's; also of masks without a voxel."""
    predicted, true, size_nm = drawn
    valid = true != CREMI_INVALID
    cleft = valid & (true != CREMI_BACKGROUND)
    volumes = Volume(from_cremi(predicted), size_nm), Volume(from_cremi(true), size_nm)
    if cleft.any() and cleft.sum() == valid.sum():
        with pytest.raises(InputError, match="its background was probably written as 0"):
            evaluate(*volumes, settings=ScoringSettings(blocks=blocks))
        return
    result = evaluate(*volumes, settings=ScoringSettings(blocks=blocks))
    assert result.exact
    if cleft.any() and (valid & (predicted != CREMI_BACKGROUND)).any():
        assert_equal_scores(result, predicted, true, size_nm)
    else:
        assert_undefined(result, predicted, true)


def assert_undefined(result, predicted, true):
    """The challenge has the mean of no numbers, NaN, for the mask without a voxel, and a distance to nothing for the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says that the mean is of an empty slice
        theirs = [part[0] for part in challenge(predicted, true, (1, 1, 1), (1, 1, 1))]
    assert np.isnan(theirs).any()
    assert result.cremi_score is result.scores.distances.adgt is result.scores.distances.adf is None
    assert {"cremi_score", "adgt", "adf"} <= result.undefined.keys()


def assert_equal_scores(result, predicted, true, size_nm):
    parts = result.scores.distances.of_predicted, result.scores.distances.of_true
    expected = challenge(predicted, true, size_nm, size_nm)
    for ours, (mean, std, largest, median, far) in zip(parts, expected, strict=True):
        assert ours.mean == pytest.approx(mean, abs=1e-6)
        assert ours.std == pytest.approx(std, abs=1e-6)
        assert ours.max == pytest.approx(largest, abs=1e-6)
        assert ours.median == pytest.approx(median, abs=1e-6)
        assert ours.farther_than(200) == far
    assert result.cremi_score == pytest.approx((expected[0][0] + expected[1][0]) / 2, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(volumes())
def test_every_number_equals_the_challenges(drawn):
    compare(drawn)


@settings(max_examples=30, deadline=None)
@given(volumes())
def test_every_number_equals_the_challenges_block_by_block(drawn):
    compare(drawn, HaloSettings(shape=(3, 4, 4), halo_nm=1500))


def test_both_agree_on_a_larger_volume_with_clefts_far_apart():
    rng = np.random.default_rng(3)
    predicted, true = (np.full((30, 90, 110), CREMI_BACKGROUND, np.uint64) for _ in range(2))
    for volume in (predicted, true):
        for z, y, x in rng.integers((0, 0, 0), (27, 80, 95), (4, 3)):
            volume[z : z + 3, y : y + 3, x : x + 12] = rng.integers(1, 9)
    true[:, 40:50] = CREMI_INVALID
    result = evaluate(Volume(from_cremi(predicted), (50, 4.6, 4.6)), Volume(from_cremi(true), (50, 4.6, 4.6)))
    assert result.scores.distances.fp_far + result.scores.distances.fn_far > 0
    assert_equal_scores(result, predicted, true, (50, 4.6, 4.6))


# The corners that docs/evaluation.md lists, where ours and the challenge's evaluation differ.

CREMI_OUTSIDE, B = 2**64 - 3, CREMI_BACKGROUND


def cremi(*ids, size_nm=(40.0, 4.0, 4.0), offset_nm=(0.0, 0.0, 0.0)):
    return Volume(from_cremi(np.array([[ids]], np.uint64)), size_nm, offset_nm)


@pytest.mark.parametrize(
    ("predicted", "true", "reason"),
    [
        ((B, B, B), (B, 7, B), "no voxel is predicted as cleft"),
        ((B, 7, B), (B, B, B), "the truth holds no cleft voxel"),
        ((B, 7, B), (CREMI_INVALID,) * 3, "no voxel of the region is labeled"),
    ],
    ids=["empty prediction", "empty truth", "all invalid"],
)
def test_without_a_voxel_the_score_is_undefined_and_says_why(predicted, true, reason):
    result = evaluate(cremi(*predicted), cremi(*true))
    assert_undefined(result, np.array([[predicted]], np.uint64), np.array([[true]], np.uint64))
    assert reason in result.undefined["cremi_score"]


def test_voxels_outside_the_labeled_region_are_left_out_with_a_warning_and_clefts_to_the_challenge():
    predicted, true = (B, 7, B, B), (B, 7, B, CREMI_OUTSIDE)
    result = evaluate(cremi(*predicted), cremi(*true))
    assert (result.cremi_score, result.scores.counts.voxels) == (0, 3)
    assert any("2^64-3" in warning for warning in result.warnings)
    theirs = challenge(*(np.array([[ids]], np.uint64) for ids in (predicted, true)), (40, 4, 4), (40, 4, 4))
    assert [part[0] for part in theirs] == [0, 4]  # the fourth voxel is a missed cleft, 8 nm away


def test_invalid_voxels_alone_need_no_warning():
    assert evaluate(cremi(B, 7, B, B), cremi(B, 7, B, CREMI_INVALID)).warnings == ()


@pytest.mark.parametrize("value", [CREMI_INVALID, CREMI_OUTSIDE])
def test_a_prediction_that_is_invalid_where_the_truth_is_labeled_is_refused_and_a_cleft_to_the_challenge(value):
    with pytest.raises(InputError, match="a prediction must say cleft or background everywhere"):
        evaluate(cremi(B, value, B), cremi(B, 7, B))
    ids = [np.array([[[B, a, B]]], np.uint64) for a in (value, 7)]
    assert [part[0] for part in challenge(*ids, (40, 4, 4), (40, 4, 4))] == [0, 0]


def test_a_truth_that_is_all_0_is_refused_and_one_cleft_to_the_challenge():
    with pytest.raises(InputError, match="its background was probably written as 0"):
        evaluate(cremi(B, 7, B), cremi(0, 0, 0))


def test_offsets_place_the_volumes_and_the_challenge_compares_by_index():
    """Both hold one cleft, 4 nm along x."""
    result = evaluate(cremi(B, 7, B, B), cremi(7, B, B, B, offset_nm=(0.0, 0.0, 4.0)))
    assert (result.cremi_score, result.scores.counts.voxels) == (0, 3)


def test_resolutions_that_differ_are_refused_and_each_used_for_its_own_volume_by_the_challenge():
    with pytest.raises(InputError, match="voxel sizes differ"):
        evaluate(cremi(B, 7, B), cremi(B, 7, B, size_nm=(50.0, 4.0, 4.0)))


def test_a_padded_volume_is_cut_by_its_offset_and_refused_without_one():
    assert evaluate(cremi(B, B, 7, B, B, B), cremi(7, B, B, offset_nm=(0.0, 0.0, 8.0))).cremi_score == 0
    with pytest.raises(InputError, match="no offset says how they meet"):
        evaluate(cremi(B, B, 7, B, B, B), cremi(7, B, B))
