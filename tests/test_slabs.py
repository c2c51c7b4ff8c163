"""Slabs cover a box once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.geometry import Box, slabs

SIDES = st.tuples(st.integers(1, 30), st.integers(1, 300), st.integers(1, 20))


@settings(max_examples=50, deadline=None)
@given(start=st.tuples(*[st.integers(0, 9)] * 3), shape=SIDES, max_voxels=st.integers(1, 100_000))
def test_slabs_cover_every_voxel_exactly_once(start, shape, max_voxels):
    box = Box.at(start, shape)
    count = np.zeros([a + b for a, b in zip(start, shape, strict=True)], np.uint8)
    for slab in slabs(box, max_voxels):
        assert box.contains(slab)
        count[slab.slices] += 1
    assert count.sum() == box.voxels
    assert (count[box.slices] == 1).all()


@settings(max_examples=50, deadline=None)
@given(shape=SIDES, max_voxels=st.integers(1, 100_000))
def test_a_slab_is_no_larger_than_asked_or_than_one_row_of_chunks(shape, max_voxels):
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


def test_slabs_of_rows_too_long_are_cut_along_x_so_that_none_holds_more_than_asked():
    """A petavoxel has rows of 100 000 voxels; 16 by 128 of them are 205 million, and here at most eight chunks are held."""
    box = Box((0, 0, 5), (40, 200, 100_005))
    found = list(slabs(box, 8 * 16 * 128 * 128, (16, 128, 128)))
    assert max(slab.voxels for slab in found) <= 8 * 16 * 128 * 128
    assert sum(slab.voxels for slab in found) == box.voxels
    assert all((slab.start[2] - 5) % 128 == 0 for slab in found)
