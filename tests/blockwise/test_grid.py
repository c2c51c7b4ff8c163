import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.blockwise import BlockGrid
from cleftnet.errors import InputError
from cleftnet.geometry import Box

sides = st.tuples(*[st.integers(1, 14)] * 3)
starts = st.tuples(*[st.integers(0, 30)] * 3)


@settings(deadline=None, max_examples=50)
@given(starts, sides, sides, sides)
def test_write_boxes_cover_every_voxel_exactly_once_for_any_shape_block_and_chunk(start, shape, block, chunk):
    grid = BlockGrid(Box.at(start, shape), block, chunk)
    written = np.zeros(shape, int)
    for one in grid:
        written[one.write.relative_to(start).slices] += 1
    assert (written == 1).all()


@settings(deadline=None, max_examples=50)
@given(starts, sides, sides, sides)
def test_no_two_blocks_write_into_the_same_chunk(start, shape, block, chunk):
    owner = {}
    for number, one in enumerate(BlockGrid(Box.at(start, shape), block, chunk)):
        inside = one.write.relative_to(start)
        ranges = [range(a // c, (b - 1) // c + 1) for a, b, c in zip(inside.start, inside.stop, chunk, strict=True)]
        for touched in np.ndindex(*map(len, ranges)):
            place = tuple(r[n] for r, n in zip(ranges, touched, strict=True))
            assert owner.setdefault(place, number) == number


@settings(deadline=None, max_examples=50)
@given(starts, sides, sides, st.tuples(*[st.integers(0, 5)] * 3))
def test_a_block_reads_its_halo_up_to_the_border_of_the_volume(start, shape, block, halo):
    box = Box.at(start, shape)
    for one in BlockGrid(box, block, reads=functools.partial(Box.grow, by=halo)):
        assert one.read == one.write.grow(halo).intersect(box)


def test_a_grid_counts_and_indexes_its_blocks_without_making_them():
    grid = BlockGrid(Box.of((100_000, 100_000, 100_000)), (64, 512, 512), (8, 128, 128))
    assert len(grid) == 1563 * 196 * 196
    assert str(grid[len(grid) - 1].write) == "99968:100000,99840:100000,99840:100000"
    assert grid[-1] == grid[len(grid) - 1]
    with pytest.raises(IndexError, match="block 60044208 of 60044208"):
        grid[len(grid)]


def test_a_block_is_rounded_up_to_whole_chunks():
    """Sides 9 in chunks of 8 become 16; what is left of 20 is 4."""
    assert [one.write.shape[0] for one in BlockGrid(Box.of((20, 1, 1)), (9, 1, 1), (8, 1, 1))] == [16, 4]


def test_a_block_without_voxels_is_refused():
    with pytest.raises(InputError, match="three positive sides"):
        BlockGrid(Box.of((4, 4, 4)), (0, 1, 1))
