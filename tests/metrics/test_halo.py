import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.metrics.distances import CremiScore, cremi_score
from cleftnet.metrics.halo import HaloSettings, score_block, whole

SIZE_NM = (100.0, 50.0, 50.0)


def blockwise(predicted, true, blocks):
    box = Box.of(predicted.shape)
    parts = []
    for block in blocks.cover(box, SIZE_NM):
        read = block.read.slices
        parts += score_block(predicted[read], true[read], block, box, SIZE_NM)
    return CremiScore.total(parts)


def random_masks(seed, share=0.05, shape=(12, 14, 13)):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share, rng.random(shape) < share


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(3, 12), st.integers(5, 14), st.integers(4, 13)))
def test_blocks_whose_halo_covers_every_distance_equal_the_whole(seed, shape):
    predicted, true = random_masks(seed)
    predicted[3, 3, 3] = true[4, 4, 4] = True
    parts, one = (
        blockwise(predicted, true, HaloSettings(shape=shape, halo_nm=2000)),
        cremi_score(predicted, true, SIZE_NM),
    )
    assert parts.of_predicted.values_nm.tolist() == one.of_predicted.values_nm.tolist()
    assert parts.of_true.counts.tolist() == one.of_true.counts.tolist()
    assert (parts.of_predicted.lower_bounds, parts.of_true.lower_bounds) == (0, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.002, 0.02, 0.1]))
def test_a_halo_too_small_never_exaggerates_a_distance_unless_it_says_so_is_exact_and_always_counts_far_voxels(
    seed, share
):
    predicted, true = random_masks(seed, share)
    predicted[0, 0, 0] = true[-1, -1, -1] = True
    parts, one = (
        blockwise(predicted, true, HaloSettings(shape=(4, 5, 6), halo_nm=201)),
        cremi_score(predicted, true, SIZE_NM),
    )
    for mine, exact in [(parts.of_predicted, one.of_predicted), (parts.of_true, one.of_true)]:
        assert mine.mean <= exact.mean if mine.lower_bounds else mine.mean == exact.mean
    assert (parts.fp_far, parts.fn_far) == (one.fp_far, one.fn_far)


@pytest.mark.parametrize("upwards", [True, False])
def test_a_lower_bound_is_the_distance_to_the_nearest_voxel_that_the_block_does_not_see(upwards):
    """Blocks of 2 sections of 100 nm, halo of 3: the first reads 0 to 4. From section 0 the next unseen, 5, is 500 nm away."""
    predicted, true = np.zeros((12, 1, 1), bool), np.zeros((12, 1, 1), bool)
    ends = (0, 11) if upwards else (11, 0)
    predicted[ends[0]], true[ends[1]] = True, True
    distances = blockwise(predicted, true, HaloSettings(shape=(2, 1, 1), halo_nm=201)).of_predicted
    assert (distances.values_nm.tolist(), distances.lower_bounds) == ([500], 1)


def test_the_whole_as_one_block_has_only_exact_distances():
    predicted, true = random_masks(1)
    box = Box.of(predicted.shape)
    (block,) = whole(box)
    total = CremiScore.total(score_block(predicted, true, block, box, SIZE_NM))
    assert total.score == cremi_score(predicted, true, SIZE_NM).score
    assert total.of_predicted.lower_bounds == 0


def test_a_halo_that_cannot_tell_far_voxels_is_refused():
    with pytest.raises(InputError, match=r"halo_nm: .* greater than 200 .given: 200"):
        HaloSettings(halo_nm=200)


def test_a_block_without_voxels_is_refused():
    with pytest.raises(InputError, match=r"shape\.1: .* greater than 0 .given: 0"):
        HaloSettings(shape=(4, 0, 4))
