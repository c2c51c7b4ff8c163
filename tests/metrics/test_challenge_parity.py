"""The challenge's evaluation of clefts, restated from its published rules in float64 SciPy, against ours.

Rules (docs/method.md, "Scores"): in both volumes a voxel is no cleft where its label is background or the truth is invalid;
Euclidean distances by each file's own resolution; plain means; far is strictly more than 200 nm.
"""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

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
        (d.mean(), d.std(), d.max(), np.median(d), np.count_nonzero(d > 200)) for d in (false_positive, false_negative)
    ]


@st.composite
def volumes(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7))
    ids = lambda choices: hnp.arrays(  # noqa: E731
        np.uint64, shape, elements=st.sampled_from(choices), fill=st.just(CREMI_BACKGROUND)
    )
    return draw(ids(PREDICTED_IDS)), draw(ids(TRUE_IDS)), draw(st.sampled_from(SIZES_NM))


def scored(drawn):
    """True where the challenge's score is defined: either mask has a voxel, and the truth is not cleft everywhere."""
    predicted, true, _ = drawn
    valid = true != CREMI_INVALID
    cleft = valid & (true != CREMI_BACKGROUND)
    return cleft.any() and (valid & (predicted != CREMI_BACKGROUND)).any() and cleft.sum() < valid.sum()


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
    assume(scored(drawn))
    predicted, true, size_nm = drawn
    result = evaluate(Volume(from_cremi(predicted), size_nm), Volume(from_cremi(true), size_nm))
    assert_equal_scores(result, predicted, true, size_nm)


@settings(max_examples=30, deadline=None)
@given(volumes())
def test_every_number_equals_the_challenges_block_by_block(drawn):
    assume(scored(drawn))
    predicted, true, size_nm = drawn
    blocks = HaloSettings(shape=(3, 4, 4), halo_nm=1500)
    result = evaluate(
        Volume(from_cremi(predicted), size_nm),
        Volume(from_cremi(true), size_nm),
        settings=ScoringSettings(blocks=blocks),
    )
    assert result.exact
    assert_equal_scores(result, predicted, true, size_nm)


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
