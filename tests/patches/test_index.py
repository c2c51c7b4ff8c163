import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.geometry import Box
from cleftnet.patches.index import CleftIndex
from cleftnet.patches.patch import UNKNOWN
from cleftnet.volumes import Volume

sides = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 19))
targets = hnp.arrays(np.float32, sides, elements=st.sampled_from([0, 0, 0.5, 1, UNKNOWN]))


def answers(index):
    return np.array([index.enough(start) for start in np.ndindex(index.places)]).reshape(index.places)


@settings(deadline=None, max_examples=80)
@given(targets, st.data())
def test_it_says_of_every_box_what_counting_its_voxels_says(target, data):
    patch = tuple(data.draw(st.integers(1, n)) for n in target.shape)
    at_least = data.draw(st.integers(0, 6))
    index = CleftIndex.of(Volume(target), patch, at_least)
    counts = np.lib.stride_tricks.sliding_window_view(target > 0, patch).sum(axis=(3, 4, 5))
    assert np.array_equal(answers(index), counts >= at_least)
    assert index.share == pytest.approx((counts >= at_least).mean())
    assert index.cleft_voxels == np.count_nonzero(target > 0)


def test_no_place_is_enough_where_the_clefts_are_too_small():
    target = np.zeros((4, 8, 8), np.float32)
    target[1, 2:5, 2:5] = 1
    assert CleftIndex.of(Volume(target), (2, 4, 4), at_least=10).share == 0
    assert CleftIndex.of(Volume(target), (2, 4, 4), at_least=9).share > 0


def test_a_place_takes_one_bit():
    index = CleftIndex.of(Volume(np.zeros((10, 20, 47), np.float32)), (3, 5, 8), at_least=1)
    assert index.places == (8, 16, 40)
    assert index.bits.nbytes == 8 * 16 * 40 // 8


def test_volumes_are_read_section_by_section():
    """A volume larger than memory can be indexed: no read is deeper than one section."""

    class Watched:
        shape, dtype, depths = (6, 8, 8), np.dtype(np.float32), []

        def __getitem__(self, index):
            box = Box(*zip(*((s.start, s.stop) for s in index), strict=True))
            self.depths.append(box.shape[0])
            return np.zeros(box.shape, np.float32)

    store = Watched()
    CleftIndex.of(Volume(store), (3, 4, 4), at_least=1)
    assert store.depths == [1] * 6
