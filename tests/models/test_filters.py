"""Filters against images whose derivatives are known, and against themselves on a part of the volume."""

import numpy as np
import pytest

from cleftnet.models.filters import axes_of, features, halo

ISOTROPIC, SECTIONS = (4.0, 4.0, 4.0), (50.0, 5.0, 5.0)


def gaussian_blob(shape, sigma_vox):
    """A Gaussian of height 1 in the middle of a volume."""
    square = sum(
        ((axis - (side - 1) / 2) / sigma) ** 2
        for axis, side, sigma in zip(np.ogrid[tuple(map(slice, shape))], shape, sigma_vox, strict=True)
    )
    return np.exp(-square / 2).astype(np.float32)


def at_the_middle(raw, voxel_size_nm, sigma_nm):
    return features(raw, voxel_size_nm, [sigma_nm], tuple(side // 2 for side in raw.shape))


def test_a_scale_of_less_than_half_a_section_sees_one_section():
    assert axes_of(24.9, SECTIONS) == (1, 2)
    assert axes_of(25, SECTIONS) == (0, 1, 2)
    assert halo(SECTIONS, [24]) == (0, 15, 15)  # 3 · 24 nm / 5 nm, and one for differences


def test_even_gray_has_no_slope_and_no_curvature():
    found = features(np.full((3, 40, 40), 0.25, np.float32), SECTIONS, [10, 30])
    assert found.shape == (3, 40, 40, 1 + 5 + 6)
    np.testing.assert_allclose(found[..., [0, 1, 6]], 0.25, rtol=1e-5)
    np.testing.assert_allclose(np.delete(found, [0, 1, 6], axis=3), 0, atol=1e-5)


def test_a_ramp_has_its_slope_in_nm_times_the_scale():
    """0.01 a voxel of 5 nm is 0.002 a nm; times 10 nm."""
    ramp = np.broadcast_to(np.arange(41, dtype=np.float32) * 0.01, (1, 41, 41)).copy()
    raw, smooth, slope, trace, low, high = at_the_middle(ramp, SECTIONS, 10)
    assert (raw, smooth, slope) == pytest.approx((0.2, 0.2, 0.02), abs=1e-5)
    assert (trace, low, high) == pytest.approx((0, 0, 0), abs=1e-5)


def test_a_dark_sheet_is_curved_across_and_not_along():
    """A sheet x² of raw: the second derivative is 2 a square voxel across and 0 along; (10 nm / 5 nm)² · 2 = 8."""
    x = np.arange(-20, 21, dtype=np.float32)
    sheet = np.broadcast_to((x / 20) ** 2, (1, 41, 41)).copy()
    _, _, slope, trace, low, high = at_the_middle(sheet, SECTIONS, 10)
    assert slope == pytest.approx(0, abs=1e-5)
    assert trace * 400 == pytest.approx(8, rel=1e-3)
    assert (low * 400, high * 400) == pytest.approx((0, 8), abs=1e-2)


def test_a_sheet_at_an_angle_has_the_same_eigenvalues():
    y, x = np.mgrid[-20:21, -20:21].astype(np.float32)
    tilted = (((x + y) / np.sqrt(2) / 20) ** 2)[None]
    *_, low, high = at_the_middle(tilted, SECTIONS, 10)
    assert (low * 400, high * 400) == pytest.approx((0, 8), abs=1e-2)


def test_a_round_blob_is_curved_alike_along_three_axes():
    """A Gaussian of σ smoothed by σ is one of √2 σ: σ² times its second derivative at the top is −½ of its height."""
    blob = gaussian_blob((41, 41, 41), (4, 4, 4))
    _, smooth, _, trace, *eigenvalues = at_the_middle(blob, ISOTROPIC, 16)
    assert smooth == pytest.approx(2**-1.5, rel=0.03)
    assert eigenvalues == pytest.approx([-smooth / 2] * 3, rel=0.05)
    assert trace == pytest.approx(sum(eigenvalues), rel=1e-4)


def test_what_is_as_long_in_nm_looks_the_same_whatever_the_voxels():
    """A blob of 40 nm in cubes of 4 nm and in sections of 20 nm."""
    cubes = at_the_middle(gaussian_blob((81, 81, 81), (10, 10, 10)), ISOTROPIC, 40)
    sections = at_the_middle(gaussian_blob((17, 81, 81), (2, 10, 10)), (20.0, 4.0, 4.0), 40)
    np.testing.assert_allclose(sections, cubes, rtol=0.07, atol=1e-3)


@pytest.mark.parametrize("voxel_size_nm", [ISOTROPIC, SECTIONS, (40.0, 4.0, 4.0)])
def test_with_its_halo_a_part_has_the_features_of_the_whole_to_the_last_bit(voxel_size_nm):
    raw = np.random.default_rng(0).random((14, 60, 64), np.float32)
    sigmas = (4.0, 9.0, 21.0) if voxel_size_nm == SECTIONS else (4.0, 6.0)
    part = tuple(slice(max(0, n // 2 - 3), n // 2 + 2) for n in raw.shape)
    reach = halo(voxel_size_nm, sigmas)
    read = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(part, reach, strict=True))
    inside = tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, read, strict=True))
    whole = features(raw, voxel_size_nm, sigmas)
    assert np.array_equal(features(raw[read], voxel_size_nm, sigmas, inside), whole[part])
    places = tuple(np.array([s.start, s.stop - 1]) for s in part)
    assert np.array_equal(features(raw, voxel_size_nm, sigmas, places), whole[places])
