"""A volume at another voxel size: positions in nm stay, every box equals the whole, and only what a box needs is read."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import INVALID, Resampling, Volume, VoxelGrid, resampled

SIZES = st.sampled_from([(40, 4, 4), (50, 4.6, 4.6), (25, 8, 8), (10, 10, 10), (50, 3.1, 7.3)])


def volume_of(values: Any, size: Any = (40, 4, 4), offset: Any = (0.0, 0.0, 0.0)) -> Volume:
    return Volume(np.asarray(values), size, offset)


def positions(volume: Volume, axis: int) -> Any:
    """Return the centers of the voxels along an axis in nm."""
    return volume.offset_nm[axis] + np.arange(volume.shape[axis]) * volume.voxel_size_nm[axis]


@settings(max_examples=60, deadline=None)
@given(size=SIZES, seed=st.integers(0, 999), labels=st.booleans(), data=st.data())
def test_any_box_equals_the_same_part_of_the_whole_bit_for_bit(size, seed, labels, data):
    rng = np.random.default_rng(seed)
    whole = rng.random((7, 23, 19), np.float32)
    shown = resampled(volume_of((whole > 0.7).astype(np.uint64) * 5 if labels else whole), size, labels=labels)
    ranges = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shown.shape]
    part = tuple(slice(*ends) for ends in ranges)
    assert np.array_equal(shown[part], shown.read()[part])


@pytest.mark.parametrize("size", [(40, 4.6, 4.6), (40, 8, 8), (40, 3, 3), (55, 4, 4), (20, 4, 4), (100, 10, 1.5)])
def test_a_ramp_in_nm_stays_the_same_ramp_in_nm(size):
    source = volume_of(np.zeros((40, 40, 40), np.float32), offset=(400.0, 12.0, -8.0))
    for axis in range(3):
        shape = [-1 if n == axis else 1 for n in range(3)]
        ramp = np.broadcast_to(positions(source, axis).reshape(shape), source.shape).astype(np.float32)
        shown = resampled(volume_of(ramp, offset=source.offset_nm), size)
        margin = 2 + int(source.voxel_size_nm[axis] / size[axis])  # at the border the outermost voxel continues
        found = np.moveaxis(shown.read(), axis, 0)[margin:-margin, 3, 3]
        error = found - positions(shown, axis)[margin:-margin]
        whole = (size[axis] / source.voxel_size_nm[axis]) % 1 == 0 or size[axis] < source.voxel_size_nm[axis]
        assert np.abs(error).max() < (1e-3 if whole else 0.1 * source.voxel_size_nm[axis])
        assert abs(error.mean()) < 0.02 * source.voxel_size_nm[axis]


def test_both_grids_begin_at_the_same_corner_and_cover_the_same_space():
    source = volume_of(np.zeros((5, 100, 77), np.uint8), (50, 4.6, 4.6), (0.0, 9.2, 0.0))
    shown = resampled(source, (50, 8, 3))
    assert VoxelGrid.of(shown).corner_nm == pytest.approx(VoxelGrid.of(source).corner_nm)
    assert shown.offset_nm == (0.0, pytest.approx(9.2 + 1.7), pytest.approx(-0.8))  # of the centers
    for n, old, m, new in zip(source.shape, (50, 4.6, 4.6), shown.shape, (50, 8, 3), strict=True):
        assert 0 <= m * new - n * old < new


def test_a_pattern_that_the_coarse_grid_cannot_show_becomes_its_mean():
    checkers = (np.indices((2, 64, 64)).sum(0) % 2 * 200).astype(np.uint8)
    assert np.ptp(resampled(volume_of(checkers), (40, 8, 8)).read()) == 0
    assert np.ptp(resampled(volume_of(checkers), (40, 12.4, 12.4)).read()[:, 1:-1, 1:-1].astype(int)) < 40


def test_gray_values_of_integers_are_rounded_and_keep_their_type():
    shown = resampled(volume_of(np.array([[[0, 1000, 65535, 65535]]], np.uint16)), (40, 4, 8))
    assert shown.dtype == np.uint16
    assert shown.read().tolist() == [[[500, 65535]]]


def test_a_volume_on_this_grid_already_is_returned_itself():
    source = volume_of(np.zeros((2, 3, 4), np.uint8))
    assert resampled(source, (40, 4, 4)) is source


def test_labels_are_never_averaged_and_keep_their_centroid():
    labels = np.zeros((6, 60, 60), np.uint64)
    labels[2:4, 10:30, 20:34], labels[3:5, 41:52, 40:57] = 1000, 7
    for size in [(40, 8, 8), (40, 6.3, 6.3), (40, 3, 3), (80, 4, 4)]:
        shown = resampled(volume_of(labels), size, labels=True)
        found = shown.read()
        assert set(np.unique(found)) == {0, 7, 1000}
        for id_ in (7, 1000):
            for axis in range(3):
                before, after = (
                    np.take(positions(v, axis), np.nonzero(a == id_)[axis]).mean()
                    for v, a in ((volume_of(labels), labels), (shown, found))
                )
                assert abs(after - before) < size[axis] / 2


def test_labels_take_the_id_that_fills_most_of_a_voxel_and_unlabeled_where_shares_are_equal():
    row = np.array([[[3, 3, 5, 0, 0, 0, INVALID, INVALID, 0, 0, INVALID, INVALID]]], np.uint64)
    assert resampled(volume_of(row), (40, 4, 12), labels=True).read().tolist() == [[[3, 0, INVALID, INVALID]]]
    assert resampled(volume_of(row), (40, 4, 16), labels=True).read().tolist() == [[[3, INVALID, INVALID]]]


def test_labels_of_a_finer_grid_are_repeated():
    shown = resampled(volume_of(np.array([[[0, 9]]], np.uint64)), (40, 4, 2), labels=True)
    assert shown.read().tolist() == [[[0, 0, 9, 9]]]


def test_there_and_back_keeps_a_smooth_image():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((4, 60, 60)), (0, 4, 4)).astype(np.float32)
    source = volume_of(smooth)
    for size in [(40, 3, 3), (40, 5, 5), (40, 8, 8)]:
        back = resampled(resampled(source, size), VoxelGrid.of(source))
        assert back.shape == source.shape
        inner = np.abs(back.read() - smooth)[:, 4:-4, 4:-4]
        assert inner.max() < 0.1 * np.ptp(smooth)


class CountingStore:
    """An array that records the boxes read from it."""

    def __init__(self, values: Any) -> None:
        self.values, self.read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, index: Any) -> Any:
        part = self.values[index]
        self.read += part.size
        return part


def test_only_what_a_box_needs_is_read():
    store = CountingStore(np.zeros((50, 200, 200), np.uint8))
    shown = resampled(Volume(store, (10, 10, 10)), (50, 4.6, 4.6))
    assert shown.shape == (10, 435, 435)
    _ = shown[Box((2, 100, 100), (3, 110, 110))]
    assert store.read <= 6 * 8 * 8


def test_a_box_of_another_grid_is_computed_from_any_larger_part_of_the_source():
    values = np.random.default_rng(1).random((3, 30, 30), np.float32)
    source = VoxelGrid.of(volume_of(values))
    resampling = Resampling(source, source.at((40, 5, 5)))
    box = Box((1, 4, 4), (2, 12, 20))
    read = resampling.reads(box)
    assert np.array_equal(resampling(values[read.slices], read, box), resampling(values, source.box, box))


def test_resampled_volumes_are_told_apart():
    source = volume_of(np.zeros((2, 8, 8), np.uint8))
    identities = {resampled(source, size).identity() for size in [(40, 4, 4), (40, 8, 8), (40, 6, 6)]}
    assert len(identities) == 3


def test_a_volume_without_a_voxel_size_is_refused():
    with pytest.raises(InputError, match="voxel size"):
        resampled(Volume(np.zeros((2, 8, 8), np.uint8)), (40, 4, 4))
    with pytest.raises(InputError, match="must be positive"):
        resampled(volume_of(np.zeros((2, 8, 8), np.uint8)), (40, 0, 4))
