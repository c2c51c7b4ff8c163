"""The tanh distance map against drawings of a few voxels, and against the distance of every pair of voxels."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.patches.targets import distance_map
from cleftnet.volumes import INVALID, OUTSIDE, is_cleft, is_labelled

ONE, TWO, THREE = math.tanh(1), math.tanh(2), math.tanh(3)


def row(*ids):
    return np.array([[ids]], np.uint64)


def by_hand(labels, spacing=(1, 1, 1)):
    """Eq. 6 for every pair of voxels: the nearest labelled voxel that is not of the same cleft."""
    at = np.argwhere(np.ones(labels.shape)) * spacing
    ids, out = labels.ravel(), np.zeros(labels.size)
    for i in np.flatnonzero(is_cleft(ids)):
        others = at[is_labelled(ids) & (ids != ids[i])]
        out[i] = math.tanh(np.linalg.norm(others - at[i], axis=1).min()) if len(others) else 1
    return out.reshape(labels.shape)


def assert_row(labels, expected, **unit):
    np.testing.assert_allclose(distance_map(labels, **unit)[0, 0], expected, rtol=1e-6)


def test_the_boundary_is_the_first_voxel_outside():
    assert_row(row(0, 7, 7, 7, 0), [0, ONE, TWO, ONE, 0])


def test_touching_clefts_have_a_boundary_between_them():
    assert_row(row(0, 7, 7, 9, 9, 9, 0), [0, ONE, ONE, ONE, TWO, ONE, 0])


def test_ids_that_agree_in_their_lower_32_bits_are_different_clefts():
    assert_row(row(0, 1, 1 + 2**32, 0), [0, ONE, ONE, 0])


def test_a_plate_one_voxel_thick_is_one_voxel_from_its_boundary_everywhere():
    labels = np.zeros((3, 6, 6), np.uint64)
    labels[1] = 4
    np.testing.assert_allclose(distance_map(labels), is_cleft(labels) * ONE, rtol=1e-6)


def test_distance_is_positive_exactly_on_clefts():
    labels = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.uint64)
    np.testing.assert_array_equal(distance_map(labels) > 0, is_cleft(labels))


def test_the_border_of_the_volume_is_no_boundary():
    assert_row(row(7, 7, 7, 0), [THREE, TWO, ONE, 0])
    assert_row(row(7, 7, 7), [1, 1, 1])


def test_a_cleft_cut_by_the_border_of_a_patch_differs_from_the_map_of_the_volume():
    """On the patch alone, the cleft's end beyond the border is unknown, so the map is made on whole volumes."""
    whole = row(0, 0, 7, 7, 0, 0)
    assert_row(whole[..., :4], [0, 0, ONE, TWO])
    np.testing.assert_allclose(distance_map(whole)[0, 0, :4], [0, 0, ONE, ONE], rtol=1e-6)


@pytest.mark.parametrize("unlabelled", [INVALID, OUTSIDE], ids=["invalid", "outside"])
def test_an_unlabelled_voxel_is_no_boundary_and_has_none(unlabelled):
    assert_row(row(0, 7, 7, unlabelled, unlabelled), [0, ONE, TWO, 0, 0])
    assert_row(row(0, 7, 7, unlabelled, 0), [0, ONE, TWO, 0, 0])
    assert_row(row(0, 7, unlabelled, 9, 0), [0, ONE, 0, ONE, 0])


def test_in_nm_an_anisotropic_voxel_is_farther_along_z():
    labels = np.zeros((3, 3, 3), np.uint64)
    labels[:, 1] = 5  # open along z: the boundary lies 8 nm away along y
    labels[0] = labels[2] = 0  # and now 40 nm away along z
    nearest = distance_map(labels, unit="nm", voxel_size_nm=(40, 8, 8), scale_nm=40)
    assert nearest[1, 1, 1] == pytest.approx(math.tanh(8 / 40))
    labels[1] = 5
    along_z = distance_map(labels, unit="nm", voxel_size_nm=(40, 8, 8), scale_nm=40)
    assert along_z[1, 1, 1] == pytest.approx(math.tanh(40 / 40))


def test_in_nm_the_scale_is_the_distance_whose_tanh_is_that_of_one():
    assert_row(row(0, 7, 0), [0, ONE, 0], unit="nm", voxel_size_nm=(50, 4.6, 4.6), scale_nm=4.6)


ids = st.sampled_from([0, 0, 0, 1, 2, 2**40, INVALID])
small_labels = hnp.arrays(np.uint64, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)), elements=ids)


@settings(deadline=None, max_examples=60)
@given(small_labels)
def test_it_is_the_distance_of_every_pair_of_voxels(labels):
    np.testing.assert_allclose(distance_map(labels), by_hand(labels), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(small_labels, st.sampled_from([(40, 4, 4), (50, 4.6, 4.6), (10, 10, 10), (4, 40, 7)]), st.floats(5, 500))
def test_in_nm_it_is_the_distance_of_every_pair_of_voxels(labels, voxel_size_nm, scale_nm):
    found = distance_map(labels, unit="nm", voxel_size_nm=voxel_size_nm, scale_nm=scale_nm)
    np.testing.assert_allclose(found, by_hand(labels, np.array(voxel_size_nm) / scale_nm), rtol=1e-4)


def test_the_map_is_float32_between_0_and_1():
    found = distance_map(np.ones((2, 30, 30), np.uint64))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [{}, {"voxel_size_nm": (40, 4, 4)}, {"scale_nm": 50}, {"voxel_size_nm": (40, 4, 4), "scale_nm": 0}],
    ids=["neither", "no scale", "no voxel size", "scale 0"],
)
def test_a_map_in_nm_asks_for_voxel_size_and_scale(wrong):
    with pytest.raises(InputError, match="needs voxel_size_nm"):
        distance_map(row(0, 7, 0), unit="nm", **wrong)


def test_an_unknown_unit_names_those_there_are():
    with pytest.raises(InputError, match="unknown distance unit 'um'; expected 'voxel' or 'nm'"):
        distance_map(row(0, 7, 0), unit="um")


# -- signed --


def test_outside_a_signed_map_counts_down_from_the_cleft():
    assert_row(row(0, 0, 7, 7, 7, 0), [-TWO, -ONE, ONE, TWO, ONE, -ONE], signed=True)


def test_a_signed_map_ends_three_scales_outside():
    assert_row(row(7, 0, 0, 0, 0, 0), [ONE, -ONE, -TWO, -THREE, -THREE, -THREE], signed=True)
    assert_row(row(0, 0), [-THREE, -THREE], signed=True)


def test_a_signed_map_in_nm_is_scaled_outside_as_inside():
    half = math.tanh(0.5)
    nm = {"unit": "nm", "voxel_size_nm": (50, 25, 25), "scale_nm": 50}
    assert_row(row(0, 0, 7, 0), [-ONE, -half, half, -half], signed=True, **nm)


def test_a_signed_map_is_0_on_unlabelled_voxels():
    assert_row(row(0, 7, 7, INVALID, 0), [-ONE, ONE, TWO, 0, -TWO], signed=True)


@settings(deadline=None, max_examples=40)
@given(small_labels)
def test_outside_it_is_the_distance_to_the_nearest_cleft_voxel_and_inside_as_ever(labels):
    found, unsigned = distance_map(labels, signed=True), distance_map(labels)
    at, cleft = np.argwhere(np.ones(labels.shape)), is_cleft(labels)
    clefts = at[cleft.ravel()]
    outside = np.array([np.linalg.norm(clefts - v, axis=1).min(initial=3) for v in at]).reshape(labels.shape)
    expected = np.where(cleft, unsigned, -np.tanh(np.minimum(outside, 3)) * is_labelled(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.array_equal(found[cleft], unsigned[cleft])
    assert found.min() > -1
