import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.geometry import Box, TileGrid
from cleftnet.prediction.blending import Blending, smooth_weights


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 11))
def test_the_weights_of_overlapping_tiles_sum_to_one_at_every_voxel_and_none_is_zero(length, side, shared):
    side = min(side, length)
    starts = TileGrid(Box.of((length, 1, 1)), (side, 1, 1), (min(shared, side - 1), 0, 0)).starts[0]
    total = np.zeros(length)
    for start, weights in zip(starts, smooth_weights(starts, side), strict=True):
        assert (weights > 0).all()
        total[start : start + side] += weights
    assert total == pytest.approx(np.ones(length), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_part_of_a_row_of_tiles_is_blended_as_the_whole_bit_for_bit(data):
    length, side = data.draw(st.integers(6, 60)), data.draw(st.integers(2, 6))
    tiles = TileGrid(Box((0, 0, 3), (1, 1, 3 + length)), (1, 1, side), (0, 0, data.draw(st.integers(0, side - 1))))
    low = data.draw(st.integers(0, length - 1))
    part = Box((0, 0, 3 + low), (1, 1, 3 + data.draw(st.integers(low + 1, length))))
    found = []
    for box in (tiles.box, part):
        blending = Blending(tiles, box, 1)
        for tile in tiles.touching(box):
            blending.add(
                tile, np.sin(np.arange(side) + 7.3 * tile.read.start[2], dtype=np.float32).reshape(1, 1, 1, side)
            )
        found.append(blending.logits[0, 0, 0])
    assert np.array_equal(found[0][part.start[2] - 3 : part.stop[2] - 3], found[1])


def test_where_tiles_share_nothing_each_voxel_is_that_of_its_tile():
    tiles = TileGrid(Box.of((2, 4, 4)), (1, 2, 4))
    blending = Blending(tiles, tiles.box, 1)
    for number, tile in enumerate(tiles):
        blending.add(tile, np.full((1, 1, 2, 4), number, np.float32))
    assert blending.logits[0, :, :, 0].tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]


def test_without_overlap_the_last_tile_shifted_inwards_is_stacked_too():
    """Tiles of 4 voxels at 0, 4 and 6 of 10: the last two cover 6 and 7, and meet at 7. No voxel is a mean of both."""
    tiles = TileGrid(Box.of((1, 1, 10)), (1, 1, 4))
    blending = Blending(tiles, tiles.box, 1)
    for number, tile in enumerate(tiles):
        blending.add(tile, np.full((1, 1, 1, 4), number, np.float32))
    assert blending.logits.ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_without_overlap_every_voxel_is_that_of_the_tile_that_writes_it(data):
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(3))
    tiles = TileGrid(Box.of(shape), tuple(data.draw(st.integers(1, n)) for n in shape))
    blending, expected = Blending(tiles, tiles.box, 1), np.full(shape, -1)
    for number, tile in enumerate(tiles):
        blending.add(tile, np.full((1, *tiles.shape), number, np.float32))
        expected[tile.write.slices] = number
    assert np.array_equal(blending.logits[0], expected)
