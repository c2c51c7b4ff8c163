import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from cleftnet.errors import InputError
from cleftnet.metrics.distances import CremiScore, Distances, cremi_score, nearest_distances

CREMI, VNC = (40.0, 4.0, 4.0), (50.0, 4.6, 4.6)
SIZES_NM = st.sampled_from(
    [CREMI, VNC, (10.0, 10.0, 10.0), (100.0, 50.0, 25.0), (200.0, 200.0, 200.0), (30.0, 5.0, 6.0)]
)


def mask(shape, *voxels):
    made = np.zeros(shape, bool)
    for voxel in voxels:
        made[voxel] = True
    return made


def masks(count):
    """Masks of one small shape, each with a voxel at least."""
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
    one = lambda shape: hnp.arrays(np.bool_, shape, elements=st.booleans(), fill=st.just(False))  # noqa: E731
    drawn = shapes.flatmap(lambda shape: st.tuples(*[one(shape)] * count))
    return drawn.filter(lambda many: all(m.any() for m in many))


@settings(max_examples=100, deadline=None)
@given(masks(2), SIZES_NM)
def test_distances_equal_scipys_transform_at_the_voxels_asked_for(drawn, voxel_size_nm):
    voxels, targets = drawn
    expected = distance_transform_edt(~targets, sampling=voxel_size_nm)[voxels]
    np.testing.assert_allclose(np.concatenate(nearest_distances(voxels, targets, voxel_size_nm)), expected, rtol=1e-14)


@pytest.mark.parametrize("voxel_size_nm", [VNC, (50.0, 4.6, 5.2)])
def test_distances_stay_exact_over_a_wide_field(voxel_size_nm):
    """Where float32 transforms are off by a hundredth of a nm (edt with 4.6 nm pixels over 1250 of them: 0.027)."""
    rng = np.random.default_rng(0)
    targets, voxels = np.zeros((3, 300, 1300), bool), np.zeros((3, 300, 1300), bool)
    targets[rng.integers(0, 3, 5), rng.integers(0, 300, 5), rng.integers(0, 1300, 5)] = True
    voxels[rng.integers(0, 3, 2000), rng.integers(0, 300, 2000), rng.integers(0, 1300, 2000)] = True
    expected = distance_transform_edt(~targets, sampling=voxel_size_nm)[voxels]
    np.testing.assert_allclose(np.concatenate(nearest_distances(voxels, targets, voxel_size_nm)), expected, rtol=1e-14)


def test_distances_to_an_empty_mask_are_infinite():
    (distances,) = nearest_distances(mask((1, 2, 2), (0, 0, 0)), mask((1, 2, 2)), CREMI)
    assert distances.tolist() == [np.inf]


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(1, 2, 2\) and \(1, 2, 3\)"):
        nearest_distances(mask((1, 2, 2)), mask((1, 2, 3)), CREMI)


def test_cremi_score_of_a_drawn_row():
    """Pixels of 4 nm: truth at 0 and 1, prediction at 1, 2 and 3.

    Prediction to truth 0, 4, 8 nm: ADGT = 4. Truth to prediction 4, 0 nm: ADF = 2. CREMI score (4 + 2) / 2 = 3.
    """
    true, predicted = mask((1, 1, 9), (0, 0, slice(0, 2))), mask((1, 1, 9), (0, 0, slice(1, 4)))
    result = cremi_score(predicted, true, CREMI)
    assert (result.adgt, result.adf, result.score) == (4, 2, 3)
    assert result.of_predicted.std == pytest.approx(np.sqrt((16 + 0 + 16) / 3))
    assert (result.of_predicted.max, result.of_predicted.median, result.of_true.median) == (8, 4, 2)


def test_distances_run_across_sections_and_in_the_plane():
    """Three sections of 40 nm down and 40 pixels of 4 nm along: sqrt(120² + 160²) = 200."""
    result = cremi_score(mask((4, 1, 41), (0, 0, 0)), mask((4, 1, 41), (3, 0, 40)), CREMI)
    assert result.score == 200


@pytest.mark.parametrize(
    ("voxel_size_nm", "apart", "far"),
    [
        pytest.param(CREMI, (5, 0, 0), 0, id="5 sections of 40 nm are exactly 200"),
        pytest.param(CREMI, (0, 30, 40), 0, id="120 and 160 nm in the plane are exactly 200"),
        pytest.param(CREMI, (3, 0, 40), 0, id="120 nm down and 160 along are exactly 200"),
        pytest.param(CREMI, (5, 0, 1), 1, id="one pixel more is farther"),
        pytest.param(CREMI, (0, 0, 51), 1, id="204 nm are farther"),
        pytest.param(VNC, (4, 0, 0), 0, id="4 sections of 50 nm are exactly 200"),
        pytest.param(VNC, (4, 1, 0), 1, id="one pixel more is farther there too"),
        pytest.param(VNC, (0, 0, 43), 0, id="43 pixels of 4.6 nm are 197.8"),
        pytest.param((16.0, 1.6, 1.6), (0, 75, 100), 0, id="120 and 160 nm of 1.6 nm pixels, which floats cannot hold"),
    ],
)
def test_far_means_strictly_more_than_200_nm(voxel_size_nm, apart, far):
    shape = tuple(side + 1 for side in apart)
    result = cremi_score(mask(shape, (0, 0, 0)), mask(shape, apart), voxel_size_nm)
    assert (result.fp_far, result.fn_far) == (far, far)


def test_an_invalid_voxel_is_neither_a_cleft_nor_a_target_but_distances_pass_through_it():
    """Pixels of 4 nm. Truth at 2 and prediction at 1 are invalid; what is left is truth at 4 and prediction at 0: 16 nm."""
    true, predicted = mask((1, 1, 5), (0, 0, 2), (0, 0, 4)), mask((1, 1, 5), (0, 0, 0), (0, 0, 1))
    valid = ~mask((1, 1, 5), (0, 0, slice(1, 3)))
    result = cremi_score(predicted, true, CREMI, valid)
    assert (result.adgt, result.adf, result.of_predicted.count) == (16, 16, 1)


@pytest.mark.parametrize(("predicted", "true"), [(True, False), (False, True), (False, False)])
def test_the_score_is_undefined_where_a_mask_is_empty_and_all_voxels_of_the_other_are_far(predicted, true):
    result = cremi_score(np.full((1, 2, 2), predicted), np.full((1, 2, 2), true), CREMI)
    assert (result.score, result.adgt, result.adf, result.of_predicted.std, result.of_true.median) == (None,) * 5
    assert (result.fp_far, result.fn_far) == (4 * predicted, 4 * true)


@settings(max_examples=30, deadline=None)
@given(masks(1), SIZES_NM)
def test_a_perfect_prediction_scores_zero(drawn, voxel_size_nm):
    result = cremi_score(drawn[0], drawn[0], voxel_size_nm)
    assert (result.score, result.fp_far, result.fn_far) == (0, 0, 0)


@settings(max_examples=30, deadline=None)
@given(masks(3), SIZES_NM)
def test_predicting_more_never_raises_the_distance_from_truth_to_prediction(drawn, voxel_size_nm):
    true, predicted, more = drawn
    before, after = (cremi_score(p, true, voxel_size_nm).adf for p in (predicted, predicted | more))
    assert after <= before + 1e-12


@settings(max_examples=30, deadline=None)
@given(masks(2), SIZES_NM)
def test_swapping_prediction_and_truth_swaps_both_distances(drawn, voxel_size_nm):
    there, back = cremi_score(*drawn, voxel_size_nm), cremi_score(*drawn[::-1], voxel_size_nm)
    assert (there.adgt, there.adf, there.fp_far) == (back.adf, back.adgt, back.fn_far)


DISTANCES = hnp.arrays(
    np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 4.0, 40.0, 200.0, 204.0, 1e4 / 3])
)


@settings(max_examples=60, deadline=None)
@given(DISTANCES)
@example(np.array([0.0, 4.0]))
def test_statistics_of_distinct_values_equal_numpys_over_all(distances):
    counted = Distances.of(distances)
    assert counted.mean == pytest.approx(np.mean(distances))
    assert counted.std == pytest.approx(np.std(distances), abs=1e-9)
    assert (counted.max, counted.median, counted.count) == (np.max(distances), np.median(distances), distances.size)


@settings(max_examples=30, deadline=None)
@given(DISTANCES, DISTANCES)
def test_distances_of_two_parts_add_up_to_those_of_the_whole(first, second):
    total, whole = (
        Distances.total([Distances.of(first), Distances.of(second)]),
        Distances.of(np.concatenate([first, second])),
    )
    assert (total.values_nm.tolist(), total.counts.tolist()) == (whole.values_nm.tolist(), whole.counts.tolist())


def test_no_distance_at_all_has_no_statistics():
    nothing = CremiScore.total([])
    assert (nothing.score, nothing.of_true.max, nothing.fp_far) == (None, None, 0)
