import numpy as np
import pytest

from cleftnet.comparison import voxel_drawing
from cleftnet.comparison.voxel_drawing import draw_voxels
from cleftnet.errors import InputError
from cleftnet.training.validation import Region
from cleftnet.volumes import INVALID, Volume

SIZE = (40.0, 4.0, 4.0)


def numbered(shape=(4, 6, 50), clefts=30, invalid=0, start=0):
    """Raw that numbers its voxels, the first of them cleft, the last unlabelled."""
    raw = np.arange(start, start + np.prod(shape), dtype=np.uint16).reshape(shape)
    labels = np.zeros(shape, np.uint64)
    labels.ravel()[:clefts] = 7
    labels.ravel()[labels.size - invalid :] = INVALID
    return Region(Volume(raw, SIZE), Volume(labels, SIZE))


def draw(regions, number, seed=0):
    """The numbers of the voxels drawn, and which of them are cleft."""
    rows, cleft = draw_voxels(
        regions, lambda raw, where: raw[where][:, None], (1, 2, 2), number, np.random.default_rng(seed)
    )
    return np.rint(rows[:, 0] * 65535).astype(int), cleft


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(voxel_drawing, "BLOCK_VOX", (2, 4, 16))


def test_half_of_the_voxels_are_cleft_none_comes_twice_and_features_are_those_of_the_voxel():
    numbers, cleft = draw([numbered()], 40)
    assert len(numbers) == len(set(numbers)) == 40
    assert cleft.sum() == 20
    assert np.array_equal(cleft, numbers < 30)


def test_where_clefts_are_few_all_are_drawn_and_the_rest_elsewhere():
    numbers, cleft = draw([numbered(clefts=5)], 40)
    assert len(numbers) == 40
    assert sorted(numbers[cleft]) == [0, 1, 2, 3, 4]


def test_where_voxels_are_few_all_labelled_ones_are_drawn():
    numbers, cleft = draw([numbered((1, 4, 16), clefts=9, invalid=10)], 1000)
    assert sorted(numbers) == list(range(54))
    assert cleft.sum() == 9


def test_regions_give_by_their_share():
    numbers, _ = draw([numbered(clefts=600), numbered((4, 6, 150), clefts=1800, start=1200)], 800)
    assert (numbers < 1200).sum() == pytest.approx(200, abs=60)  # a quarter of the voxels


def test_every_voxel_of_a_class_is_as_likely_as_any_other():
    counts = np.zeros(64)
    for seed in range(400):
        numbers, _ = draw([numbered((2, 4, 8), clefts=32)], 16, seed)
        counts[numbers] += 1
    assert counts.sum() == 400 * 16
    assert abs(counts - 100).max() < 45  # five standard deviations of a binomial of 400 and 1/4


def test_another_seed_draws_others():
    one, again, other = (draw([numbered()], 40, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("clefts", "message"), [(0, "0 cleft voxels"), (1200, "0 others")])
def test_one_class_alone_is_refused(clefts, message):
    with pytest.raises(InputError, match=f"{message}.*need both"):
        draw([numbered(clefts=clefts)], 10)
