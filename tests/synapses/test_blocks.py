"""Synapses found block by block are those of the whole volume, whatever the blocks."""

import functools
import itertools

import cc3d
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cleftnet.blockwise import BlockGrid
from cleftnet.metrics.predictions import PredictionKind
from cleftnet.synapses.appearance import PlacedRaw
from cleftnet.synapses.block_arrays import MemoryArrays
from cleftnet.synapses.blocks import BlockLabeler, LabelWriter, PartMeasurer, Surroundings
from cleftnet.synapses.features import FEATURES, object_features
from cleftnet.synapses.merging import join
from cleftnet.synapses.parts import BlockParts
from cleftnet.synapses.segmentation import Segmenter, bridge_gaps, fill_holes
from cleftnet.synapses.table import COLUMNS, tabulate
from cleftnet.volumes import Volume

SIZE_NM = (40.0, 4.0, 5.0)


class Target:
    """Labels in memory that are written box by box; no voxel is written twice."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.ids = np.zeros(shape, np.uint64)

    def __setitem__(self, box, values) -> None:
        assert not self.ids[box.slices].any()
        self.ids[box.slices] = values


def in_blocks(values, block, *, threshold=0.5, gap=0, hole_vox=(0, 0), min_voxels=0.0, seed=0.0, around=None):
    """Return ids and table of a prediction found in blocks of any size; with surroundings, also the features."""
    kind = PredictionKind.MASK if values.dtype == bool else PredictionKind.PROBABILITY
    volume = Volume(values, SIZE_NM)
    labeler = BlockLabeler(
        volume, Segmenter(kind, threshold if kind is PredictionKind.PROBABILITY else None, gap, hole_vox)
    )
    target = Target(values.shape)
    arrays = MemoryArrays()
    measurer = PartMeasurer(labeler, SIZE_NM, min_voxels, seed, arrays, around)
    writer = LabelWriter(labeler, arrays, target)
    for work, reads in ((measurer, measurer.reads), (writer, labeler.reads)):
        grid = BlockGrid(volume.box, block, reads=reads)
        for each in grid:
            work.write(each, work.compute(each, work.read(each), lambda share: None))
        if work is measurer:
            joined = join(arrays, grid, min_voxels, seed)
            joined.number(arrays, grid, np.ones(len(joined.sums), bool))
    table = tabulate(joined.sums, volume)
    if around is not None:
        table = table.assign(**object_features(joined.sums, table, SIZE_NM))
    return target.ids, table


def by_first_voxel(labels):
    """Return the same components numbered from 1 in the order of their first voxels."""
    ids, first = np.unique(labels, return_index=True)
    order = ids[np.argsort(first)]
    lookup = np.zeros(int(labels.max(initial=0)) + 1, np.uint64)
    lookup[order[order != 0]] = np.arange(1, np.count_nonzero(order) + 1)
    return lookup[labels]


shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
blocks = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))


@st.composite
def masks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(draw(shapes)) < draw(st.sampled_from((0.02, 0.1, 0.2, 0.5, 0.9)))


@given(masks(), blocks)
@settings(max_examples=80, deadline=None)
def test_ids_in_blocks_are_those_of_the_whole_volume(mask, block):
    whole = by_first_voxel(cc3d.connected_components(mask.view(np.uint8), connectivity=26))
    np.testing.assert_array_equal(in_blocks(mask, block)[0], whole)


@given(masks(), blocks)
@settings(max_examples=40, deadline=None)
def test_the_table_in_blocks_is_that_of_one_block(mask, block):
    values = np.where(mask, np.random.default_rng(0).integers(128, 256, mask.shape), 0).astype(np.uint8)
    parts, whole = in_blocks(values, block)[1], in_blocks(values, mask.shape)[1]
    for name in whole.columns:
        if name.startswith("normal_"):  # where two directions vary equally little, either is the normal
            continue
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6, atol=1e-9, err_msg=name)


@given(masks(), blocks)
@settings(max_examples=40, deadline=None)
def test_the_table_says_what_scipy_measures(mask, block):
    values = np.where(mask, np.random.default_rng(1).integers(128, 256, mask.shape), 3).astype(np.uint8)
    ids, table = in_blocks(values, block)
    each = np.arange(1, len(table) + 1)
    if not len(table):
        return
    np.testing.assert_allclose(table["volume_nm3"], ndimage.sum_labels(mask, ids, each) * 800)
    np.testing.assert_allclose(table["sum_probability"], ndimage.sum_labels(values / 255, ids, each))
    np.testing.assert_allclose(table["max_probability"], ndimage.maximum(values / 255, ids, each))
    np.testing.assert_allclose(
        np.stack([table[axis] for axis in "zyx"], 1), ndimage.center_of_mass(mask, ids, each), atol=1e-9
    )
    for box, row in zip(ndimage.find_objects(ids.astype(int)), each - 1, strict=True):
        assert [table[f"{axis}_start"][row] for axis in "zyx"] == [part.start for part in box]
        assert [table[f"{axis}_stop"][row] for axis in "zyx"] == [part.stop for part in box]


@given(masks(), blocks, st.integers(0, 1), st.tuples(st.integers(1, 3), st.integers(1, 4)))
@settings(max_examples=40, deadline=None)
def test_the_features_in_blocks_are_those_of_one_block(mask, block, gap, window):
    rng = np.random.default_rng(3)
    values = np.where(mask, rng.integers(128, 256, mask.shape), rng.integers(0, 128, mask.shape)).astype(np.uint8)
    raw = rng.integers(0, 256, mask.shape).astype(np.uint8)
    around = Surroundings((0, *window), PlacedRaw(Volume(raw, SIZE_NM), (0, 0, 0)))
    (_, parts), (_, whole) = (in_blocks(values, sides, gap=gap, around=around) for sides in (block, mask.shape))
    assert set(FEATURES) <= set(whole.columns)
    for name in FEATURES:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_gray_and_probability_around_a_plate_are_those_of_a_window_without_cleft():
    values, raw = np.full((1, 9, 9), 51, np.uint8), np.full((1, 9, 9), 200, np.uint8)
    values[0, 4, 3:6], raw[0, 4, 3:6] = (255, 204, 255), (40, 60, 50)
    raw[0, 3] = 100
    around = Surroundings((0, 1, 1), PlacedRaw(Volume(raw, SIZE_NM), (0, 0, 0)))
    row = in_blocks(values, (1, 4, 4), around=around)[1].iloc[0]
    # the windows hold 7, 6 and 7 voxels that are no cleft: 3 each in the dark row above, the others at 200
    gray = np.repeat([100, 200], [9, 11])
    assert row["around_probability"] == pytest.approx(0.2)
    assert row["darkness"] == pytest.approx((gray.mean() - 50) / gray.std())
    assert row["texture"] == pytest.approx(np.std([40, 60, 50]) / gray.std())
    assert row["sd_probability"] == pytest.approx(np.std([1, 0.8, 1]))


@given(masks(), blocks, st.integers(0, 2), st.tuples(st.integers(0, 3), st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_gaps_and_holes_in_blocks_are_those_of_the_whole_volume(mask, block, gap, hole_vox):
    whole = fill_holes(bridge_gaps(mask, gap), hole_vox)
    labels = by_first_voxel(cc3d.connected_components(whole.view(np.uint8), connectivity=26))
    np.testing.assert_array_equal(in_blocks(mask, block, gap=gap, hole_vox=hole_vox)[0], labels)


@given(masks(), blocks, st.integers(0, 6), st.sampled_from((0.0, 0.7, 0.95)))
@settings(max_examples=40, deadline=None)
def test_size_and_seeds_in_blocks_choose_the_synapses_that_they_choose_in_the_whole(mask, block, size, seed):
    values = np.where(mask, np.random.default_rng(2).integers(128, 256, mask.shape), 0).astype(np.uint8)
    labels = cc3d.connected_components(mask.view(np.uint8), connectivity=26)
    for label in range(1, int(labels.max()) + 1):
        own = labels == label
        if own.sum() < size or values[own].max() / 255 < seed:
            labels[own] = 0
    np.testing.assert_array_equal(in_blocks(values, block, min_voxels=size, seed=seed)[0], by_first_voxel(labels))


def test_a_component_that_winds_through_all_blocks_is_one_synapse():
    mask = np.zeros((9, 9, 9), bool)
    for z in range(0, 9, 2):  # a snake through every second row of every second section
        for y in range(0, 9, 2):
            mask[z, y] = True
            mask[z, min(y + 1, 8), 8 if y % 4 == 0 else 0] = True
        mask[min(z + 1, 8), 8 if z % 4 == 0 else 0, 8 if z % 4 == 0 else 0] = True
    assert cc3d.connected_components(mask.view(np.uint8), connectivity=26).max() == 1
    ids, table = in_blocks(mask, (2, 2, 2))
    assert len(table) == 1
    assert (ids == mask).all()


@pytest.mark.parametrize("corner", list(itertools.product((0, 1), repeat=3)))
def test_two_voxels_that_touch_at_the_corner_of_eight_blocks_are_one_synapse(corner):
    mask = np.zeros((4, 4, 4), bool)
    one = np.array(corner) + 1
    mask[tuple(one)] = mask[tuple(3 - one)] = True
    ids, table = in_blocks(mask, (2, 2, 2))
    assert ids.max() == 1
    assert table["volume_nm3"].tolist() == [2 * 800]


def test_blocks_keep_nothing_of_what_is_too_small_and_lies_in_one_block_alone():
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1, 1, 1], labels[3, 3, 4] = 1, 2  # the second lies in the layer ahead
    volume = Volume(np.full((9, 9, 9), 255, np.uint8), SIZE_NM)
    grid = BlockGrid(volume.box, (4, 4, 4), reads=functools.partial(type(volume.box).grow, by=(1, 1, 1)))
    parts = BlockParts.of(labels, volume[grid[0].write], grid[0], volume.box, SIZE_NM).keep(2, 0)
    assert parts.ids.tolist() == [2]


def test_an_empty_table_has_all_columns():
    ids, table = in_blocks(np.zeros((4, 4, 4), bool), (2, 2, 2))
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 0
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert not ids.any()
