"""Lower resolutions: how many there are, and their values."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.volumes import LABELS, LayoutSettings, Volume, open_volume, write_volume
from cleftnet.volumes.pyramid import plan

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 300))


def test_flat_voxels_are_halved_in_plane_until_they_are_about_cubes():
    """40×4×4 nm becomes 40×8×8, 40×16×16, 40×32×32, and then all sides grow: 80×64×64."""
    levels = plan((400, 4096, 4096), (40, 4, 4), (16, 128, 128))
    assert levels[:5] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)]


def test_cubes_are_halved_along_all_axes():
    assert plan((64, 64, 64), (10, 10, 10), (16, 16, 16)) == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]


@settings(max_examples=100, deadline=None)
@given(shape=SIDES, size=st.tuples(*[st.sampled_from([1.0, 4.0, 4.6, 40.0, 1000.0])] * 3))
def test_every_level_has_fewer_voxels_and_the_last_fits_into_one_chunk(shape, size):
    levels = plan(shape, size, (8, 8, 8))
    voxels = [np.prod([-(-n // f) for n, f in zip(shape, by, strict=True)]) for by in levels]
    assert levels[0] == (1, 1, 1)
    assert all(a > b for a, b in itertools.pairwise(voxels))
    assert voxels[-1] <= 512
    assert all(f in (2 * e, e) for a, b in itertools.pairwise(levels) for e, f in zip(a, b, strict=True))


def level(tmp_path, values, name, address="vol.zarr"):
    volume = Volume(values, (40, 4, 4))
    write_volume(volume, tmp_path / address, default=name, layout=LayoutSettings(pyramid=True, chunk=(1, 2, 2)))
    return open_volume(tmp_path / address / name / "s1").read()


@pytest.mark.parametrize("zarr", [2, 3])
def test_gray_values_are_averaged_also_at_an_odd_edge(tmp_path, zarr):
    """The last column has no neighbor and stays as it is."""
    values = np.array([[[0, 4, 9], [8, 12, 11]]], np.uint8)
    layout = LayoutSettings(pyramid=True, chunk=(1, 1, 1), zarr=zarr)
    write_volume(Volume(values, (40, 4, 4)), tmp_path / "vol.zarr", layout=layout)
    assert open_volume(tmp_path / "vol.zarr/volumes/raw/s1").read().tolist() == [[[6, 10]]]


def test_labels_become_the_id_that_most_voxels_have_and_never_a_mean(tmp_path):
    values = np.array([[[7, 7, 0, 0], [7, 9, 9, 0]]], np.uint64)
    assert level(tmp_path, values, LABELS[0]).tolist() == [[[7, 0]]]


def test_masks_and_narrow_labels_are_not_averaged_either(tmp_path):
    values = np.array([[[200, 200, 0, 0], [200, 100, 100, 0]]], np.uint8)
    assert level(tmp_path, values, LABELS[0]).tolist() == [[[200, 0]]]


@settings(max_examples=10, deadline=None)
@given(shape=st.tuples(st.integers(1, 4), st.integers(5, 12), st.integers(5, 12)), seed=st.integers(0, 99))
def test_a_level_is_the_mean_of_two_by_two_voxels_of_the_one_above(tmp_path_factory, shape, seed):
    values = np.random.default_rng(seed).random(shape).astype(np.float32)
    found = level(tmp_path_factory.mktemp("pyramid"), values, "volumes/raw")
    for y, x in np.ndindex(found.shape[1:]):
        square = values[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        np.testing.assert_allclose(found[:, y, x], square.mean((1, 2)), rtol=1e-5)


def test_progress_counts_the_array_and_then_its_levels(tmp_path):
    seen = []
    write_volume(
        Volume(np.zeros((2, 8, 8), np.uint8), (40, 4, 4)),
        tmp_path / "vol.zarr",
        layout=LayoutSettings(pyramid=True, chunk=(2, 4, 4)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (128, 128)
    assert seen[-1] == (32, 32)
