"""Where voxels are taken from: against NumPy's quarter turns, and against tissue whose gray value tells its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.geometry import Box
from cleftnet.patches.augment import slip, translation
from cleftnet.patches.deformation import UNFOLDED, Deformation, elastic, rotation, scaled
from cleftnet.patches.patch import Patch

STILL = np.zeros((2, 2), np.intp)


def tissue(value):
    """Tissue without a border whose raw and target both are `value(z, y, x)`."""

    def read(box):
        z, y, x = (np.arange(a, b, dtype=np.float32) for a, b in zip(box.start, box.stop, strict=True))
        values = np.broadcast_to(value(z[:, None, None], y[:, None], x), box.shape).astype(np.float32)
        return Patch(values, values.copy())

    return read


def deform(read, box, deformation):
    return deformation.apply(read(deformation.reads(box)))


def random_patch(shape=(2, 6, 6), seed=0):
    raw, target = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    return Patch(raw, target)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("side", [6, 7])
def test_a_rotation_by_right_angles_is_exactly_that_of_numpy(quarters, side):
    patch = random_patch((2, side, side))
    wide = patch.each(lambda a: np.pad(a, [(0, 0), (1, 2), (1, 2)], constant_values=99))
    turn = Deformation((side, side), STILL, rotation((side, side), 90 * quarters))
    (_, y, x), box = turn.reads(Box.of((2, side, side))).start, turn.reads(Box.of((2, side, side)))
    assert (y, x) == (0, 0)  # nothing around a square patch is needed but the voxel that linear interpolation asks for
    turned = turn.apply(wide.each(lambda a: a[box.shift((0, 1, 1)).slices]))
    assert np.array_equal(turned.raw, np.rot90(patch.raw, quarters, axes=(1, 2)))
    assert np.array_equal(turned.target, np.rot90(patch.target, quarters, axes=(1, 2)))


def test_a_rotation_by_45_degrees_takes_the_corner_from_beyond_the_patch():
    """The corner of a patch of side 101 lies 50·√2 = 70.7 voxels from its middle: straight below it after the turn."""
    rows, columns = rotation((101, 101), 45)
    assert (rows[-1, -1], columns[-1, -1]) == pytest.approx((50 + 50 * np.sqrt(2), 50))


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 360), st.integers(0, 1000))
def test_raw_and_labels_come_from_the_same_place(degrees, seed):
    """Gray values that rise by 1 a voxel tell their place exactly under linear interpolation; the nearest voxel lies
    within half a voxel of it along either axis, and in the same section."""
    rng = np.random.default_rng(seed)
    plane = (24, 31)
    places = rotation(plane, degrees) + elastic(plane, 8, 3.0, rng)
    deformation = Deformation(plane, rng.integers(-5, 6, (3, 2)), places)
    box = Box.at((4, 7, -3), (3, *plane))
    for value in (lambda z, y, x: 1000 * z + y + 0 * x, lambda z, y, x: 1000 * z + 0 * y + x):
        patch = deform(tissue(value), box, deformation)
        assert abs(patch.raw - patch.target).max() <= 0.5 + 1e-2  # float32 at 6000 has steps of 5e-4


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 360), st.integers(0, 1000))
def test_each_voxel_comes_from_the_place_that_the_map_names(degrees, seed):
    rng = np.random.default_rng(seed)
    plane = (16, 20)
    places, shifts = rotation(plane, degrees), rng.integers(-5, 6, (2, 2))
    box = Box.at((0, 3, 5), (2, *plane))
    deformation = Deformation(plane, shifts, places)
    rows = deform(tissue(lambda z, y, x: y + 0 * x + 0 * z), box, deformation).raw
    columns = deform(tissue(lambda z, y, x: x + 0 * y + 0 * z), box, deformation).raw
    np.testing.assert_allclose(rows, 3 + places[0] + shifts[:, 0, None, None], atol=1e-4)
    np.testing.assert_allclose(columns, 5 + places[1] + shifts[:, 1, None, None], atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 360), st.integers(0, 1000))
def test_no_target_is_invented(degrees, seed):
    rng = np.random.default_rng(seed)
    plane = (12, 12)
    deformation = Deformation(plane, STILL, rotation(plane, degrees) + elastic(plane, 8, 3.0, rng))
    crop = random_patch(deformation.reads(Box.of((2, *plane))).shape, seed)
    patch = deformation.apply(crop)
    assert np.isin(patch.target, crop.target).all()
    assert crop.raw.min() - 1e-6 <= patch.raw.min() <= patch.raw.max() <= crop.raw.max() + 1e-6


def test_a_slipped_section_is_taken_from_aside_and_the_others_stay():
    patch = deform(
        tissue(lambda z, y, x: 100 * y + x + 0 * z), Box.of((3, 4, 4)), Deformation((4, 4), slip(3, 1, (2, -1)))
    )
    assert patch.raw[:, 0, 0].tolist() == [0, 199, 0]
    assert np.array_equal(patch.raw, patch.target)  # whole voxels: nothing is interpolated


def test_after_a_translation_all_sections_lie_aside():
    patch = deform(
        tissue(lambda z, y, x: 100 * y + x + 0 * z), Box.of((3, 4, 4)), Deformation((4, 4), translation(3, 1, (2, -1)))
    )
    assert patch.raw[:, 0, 0].tolist() == [0, 199, 199]


def test_without_any_change_the_patch_is_what_was_read():
    patch = random_patch()
    assert Deformation((6, 6), STILL).apply(patch) is patch


@pytest.mark.parametrize("seed", range(5))
def test_an_elastic_deformation_within_its_limit_does_not_fold(seed):
    """The area of every pixel after the deformation, the determinant of its derivatives, is positive."""
    moves = elastic((64, 64), 8, UNFOLDED * 8, np.random.default_rng(seed))
    dy, dx = (np.gradient(moves, axis=axis) for axis in (1, 2))
    assert ((1 + dy[0]) * (1 + dx[1]) - dy[1] * dx[0]).min() > 0


def test_an_elastic_deformation_is_smooth_and_differs_from_place_to_place():
    moves = elastic((64, 96), 32, 8.0, np.random.default_rng(0))
    assert np.ptp(moves[0]) > 2
    assert abs(np.diff(moves, axis=1)).max() < 8 / 32 * 2
    assert abs(np.diff(moves, n=2, axis=2)).max() < 0.06


def test_a_patch_scaled_by_2_shows_twice_as_much_tissue_about_the_same_middle():
    box = Box((0, 100, 200), (2, 105, 209))
    reduced = deform(
        tissue(lambda z, y, x: 1000 * y + x), box, Deformation((5, 9), STILL, scaled(rotation((5, 9), 0), 2))
    )
    assert reduced.raw[0, 2].tolist() == [102000 + 204 + 2 * step for step in range(-4, 5)]
    assert reduced.raw[0, :, 4].tolist() == [1000 * (102 + 2 * step) + 204 for step in range(-2, 3)]
    assert np.array_equal(reduced.target, reduced.raw)
