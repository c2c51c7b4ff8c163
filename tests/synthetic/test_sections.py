import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.synthetic.sections import Sections, SmoothNoise, frame, within


@pytest.fixture
def drifting() -> Sections:
    rng = np.random.default_rng(0)
    return Sections((5, 12, 9), (40.0, 4.0, 5.0), rng.normal(0, 6, (5, 2)).astype(np.float32))


def test_a_voxel_lies_at_its_index_times_the_voxel_size_plus_the_shift_of_its_section() -> None:
    sections = Sections((3, 8, 8), (40.0, 4.0, 4.0), np.float32([[0, 0], [3, -2], [0, 0]]))
    assert sections.place_nm([[1, 2, 5]]).tolist() == [[40, 11, 18]]


def test_a_place_is_in_the_voxel_that_lies_there(drifting: Sections) -> None:
    every = np.argwhere(np.ones(drifting.shape))
    voxels, inside = drifting.voxels(drifting.place_nm(every))
    assert inside.all()
    np.testing.assert_array_equal(voxels, every)


def test_a_place_outside_of_the_stack_is_told_apart_and_gets_the_nearest_voxel(drifting: Sections) -> None:
    voxels, inside = drifting.voxels([[-400, 20, 20], [80, 1000, 20], [80, 20, 20]])
    assert inside.tolist() == [False, False, True]
    assert voxels[0, 0] == 0
    assert voxels[1, 1] == 11


def test_distances_around_a_place_are_those_of_the_voxels_places(drifting: Sections) -> None:
    center = np.float32([90, 21, 17])
    index, offsets = drifting.around(center, 45)
    found = np.stack(np.broadcast_arrays(*offsets), axis=-1)
    voxels = np.argwhere(np.ones(drifting.shape)).reshape(*drifting.shape, 3)[index]
    expected = drifting.place_nm(voxels.reshape(-1, 3)) - center
    np.testing.assert_allclose(found.reshape(-1, 3), expected, atol=1e-4)


def test_the_box_around_a_place_holds_every_voxel_within_the_radius(drifting: Sections) -> None:
    center, radius = np.float32([90, 21, 17]), 22.0
    index, _ = drifting.around(center, radius)
    boxed = np.zeros(drifting.shape, bool)
    boxed[index] = True
    every = np.argwhere(np.ones(drifting.shape))
    near = np.linalg.norm(drifting.place_nm(every) - center, axis=1) <= radius
    assert near.any()
    assert boxed[tuple(every[near].T)].all()


def test_smooth_noise_belongs_to_the_tissue_not_to_the_pixels() -> None:
    straight = Sections((2, 40, 40), (40.0, 4.0, 4.0), np.zeros((2, 2), np.float32))
    moved = Sections((2, 40, 40), (40.0, 4.0, 4.0), np.float32([[0, 0], [12, 8]]))  # 3 and 2 pixels
    fixed, other = (SmoothNoise(s, np.random.default_rng(3), 50).section(1) for s in (straight, moved))
    np.testing.assert_allclose(other[:-3, :-2], fixed[3:, 2:], atol=1e-5)


def test_smooth_noise_is_about_standard_normal() -> None:
    sections = Sections((40, 120, 120), (40.0, 10.0, 10.0), np.zeros((40, 2), np.float32))
    noise = SmoothNoise(sections, np.random.default_rng(0), 60)
    field = np.stack([noise.section(z) for z in range(40)])
    assert abs(field.mean()) < 0.1
    assert 0.8 < field.std() < 1.2


@given(st.floats(-60, 60), st.floats(1, 20), st.floats(1, 80))
@settings(max_examples=50, deadline=None)
def test_the_filled_share_is_the_mean_over_the_thickness(distance: float, half_width: float, smear: float) -> None:
    through = distance + smear * (np.arange(10_000) + 0.5 - 5_000) / 10_000
    share = within(np.float32([distance]), half_width, np.float32([smear]))
    assert share[0] == pytest.approx(np.mean(np.abs(through) < half_width), abs=2e-3)


def test_a_frame_is_three_unit_vectors_at_right_angles_the_first_along_the_axis() -> None:
    axes = np.stack(frame((1, -2, 3), 0.7))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(axes[0] * np.sqrt(14), [1, -2, 3], atol=1e-5)
