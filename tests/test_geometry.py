"""Tiles and slabs cover a box; regions and lengths in nm become voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box, TileGrid, nm_to_voxels, parse_region, slabs, tile

sides = st.tuples(st.integers(1, 9), st.integers(1, 13), st.integers(1, 13))
SLAB_SIDES = st.tuples(st.integers(1, 30), st.integers(1, 300), st.integers(1, 20))


@st.composite
def tilings(draw):
    shape = draw(sides)
    patch = tuple(draw(st.integers(1, n)) for n in shape)
    overlap = tuple(draw(st.integers(0, p - 1)) for p in patch)
    origin = draw(st.tuples(*[st.integers(0, 50)] * 3))
    return Box.at(origin, shape), patch, overlap


@settings(deadline=None)
@given(tilings())
def test_every_voxel_is_written_by_exactly_one_tile(tiling):
    box, patch, overlap = tiling
    written = np.zeros(box.shape, int)
    for block in tile(box, patch, overlap):
        written[block.write.relative_to(box.start).slices] += 1
    assert (written == 1).all()


@settings(deadline=None)
@given(tilings())
def test_every_tile_has_the_patch_shape_lies_inside_and_reads_what_it_writes(tiling):
    box, patch, overlap = tiling
    for block in tile(box, patch, overlap):
        assert block.read.shape == patch
        assert box.contains(block.read)
        assert block.read.contains(block.write)


def test_the_last_tile_is_shifted_inwards():
    reads = [b.read.start[0] for b in tile(Box.of((20, 4, 4)), (8, 4, 4))]
    assert reads == [0, 8, 12]


def test_overlapping_tiles_meet_in_the_middle_of_their_overlap():
    """Tiles 0:8 and 4:12 share 4:8, whose middle is 6."""
    writes = [str(b.write) for b in tile(Box.of((12, 1, 1)), (8, 1, 1), (4, 0, 0))]
    assert writes == ["0:6,0:1,0:1", "6:12,0:1,0:1"]


def test_a_patch_larger_than_the_region_names_both():
    with pytest.raises(InputError, match="patch 8×96×96 is larger than the region 4×200×200"):
        list(tile(Box.of((4, 200, 200)), (8, 96, 96)))


def test_an_overlap_as_large_as_the_patch_is_refused():
    with pytest.raises(InputError, match="overlap"):
        list(tile(Box.of((8, 8, 8)), (4, 4, 4), (4, 0, 0)))


@pytest.mark.parametrize("text", ["0:20", "0:1,2:3,4:5,6:7", "a:b,0:1,0:1", "0:1,0:1,0-1"])
def test_a_region_that_is_not_three_ranges_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="try 0:20,768:1024,0:768"):
        Box.parse(text)


def test_an_empty_region_is_refused():
    with pytest.raises(InputError, match="empty"):
        Box.parse("0:20,9:9,0:5")


def test_a_region_is_written_as_it_is_read():
    assert str(Box.parse("0:20,768:1024,0:768")) == "0:20,768:1024,0:768"


def test_boxes_that_do_not_meet_have_an_empty_intersection():
    assert Box.of((2, 2, 2)).intersect(Box.at((5, 5, 5), (2, 2, 2))).empty


def test_an_offset_between_voxels_is_refused():
    with pytest.raises(InputError, match="not a whole number of voxels"):
        nm_to_voxels((40, 4, 6), (40, 4, 4))


@settings(deadline=None, max_examples=50)
@given(tilings(), st.data())
def test_the_tiles_that_touch_a_part_are_those_of_the_whole_that_read_any_of_it(tiling, data):
    box, patch, overlap = tiling
    tiles = TileGrid(box, patch, overlap)
    start = [data.draw(st.integers(0, n - 1)) for n in box.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, box.shape, strict=True)]
    part = Box(tuple(start), tuple(stop)).shift(box.start)
    expected = [t for t in tiles if not t.read.intersect(part).empty]
    assert list(tiles.touching(part)) == expected
    z, y, x = tiles.counts(part)
    assert z * y * x == len(expected)
    hull = tiles.reads(part)
    assert hull.start == tuple(np.min([t.read.start for t in expected], axis=0))
    assert hull.stop == tuple(np.max([t.read.stop for t in expected], axis=0))


def test_a_grid_knows_how_many_tiles_it_has():
    tiles = TileGrid(Box.of((20, 9, 7)), (8, 4, 3), (4, 0, 1))
    assert len(tiles) == len(list(tiles)) == 4 * 3 * 3


def test_a_region_in_nm_counts_from_the_origin_of_the_offset():
    """40 nm sections from 400 nm on: 480 nm is section 2; 4 nm pixels from 8 nm on: 88 nm is pixel 20."""
    region = parse_region("480nm:800nm,8nm:88nm,3:5", (40, 4, 4), (400, 8, 0))
    assert str(region) == "2:10,0:20,3:5"


def test_a_region_in_nm_needs_a_voxel_size():
    with pytest.raises(InputError, match="voxel_size_nm="):
        parse_region("0nm:80nm,0:4,0:4", None)


@pytest.mark.parametrize("text", ["0nm:80nm,0:4", "0nm,0:4,0:4", "xnm:80nm,0:4,0:4"])
def test_a_region_in_nm_that_is_not_three_ranges_is_refused(text):
    with pytest.raises(InputError, match="0nm:800nm"):
        parse_region(text, (40, 4, 4))


@settings(max_examples=50, deadline=None)
@given(start=st.tuples(*[st.integers(0, 9)] * 3), shape=SLAB_SIDES, max_voxels=st.integers(1, 100_000))
def test_slabs_cover_every_voxel_exactly_once(start, shape, max_voxels):
    box = Box.at(start, shape)
    count = np.zeros([a + b for a, b in zip(start, shape, strict=True)], np.uint8)
    for slab in slabs(box, max_voxels):
        assert box.contains(slab)
        count[slab.slices] += 1
    assert count.sum() == box.voxels
    assert (count[box.slices] == 1).all()


@settings(max_examples=50, deadline=None)
@given(shape=SLAB_SIDES, max_voxels=st.integers(1, 100_000))
def test_a_slab_is_no_larger_than_allowed_or_than_one_row_of_chunks(shape, max_voxels):
    for slab in slabs(Box.of(shape), max_voxels):
        assert slab.voxels <= max(max_voxels, 8 * 128 * shape[2])


def test_slabs_of_slices_too_large_are_cut_along_y_at_chunk_borders():
    """8 slices of 300 rows of 10 voxels are 24000; where 20000 are allowed, two chunks of 128 rows fit."""
    assert [str(slab) for slab in slabs(Box.of((9, 300, 10)), 21000)] == [
        "0:8,0:256,0:10",
        "0:8,256:300,0:10",
        "8:9,0:256,0:10",
        "8:9,256:300,0:10",
    ]


def test_slabs_of_rows_too_long_are_cut_along_x_so_that_none_is_larger_than_allowed():
    """A petavoxel has rows of 100 000 voxels; 16 by 128 of them are 205 million, and at most eight chunks are allowed."""
    box = Box((0, 0, 5), (40, 200, 100_005))
    cut = list(slabs(box, 8 * 16 * 128 * 128, (16, 128, 128)))
    assert max(slab.voxels for slab in cut) <= 8 * 16 * 128 * 128
    assert sum(slab.voxels for slab in cut) == box.voxels
    assert all((slab.start[2] - 5) % 128 == 0 for slab in cut)
