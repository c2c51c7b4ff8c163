import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleftnet.comparison.folds import FoldSettings, context, cut, fold_of_each
from cleftnet.errors import InputError
from cleftnet.geometry import Box

VOLUME, PATCH = Box.of((20, 1024, 768)), (8, 96, 96)
FOUR = FoldSettings(axis="y", borders_vox=(256, 512, 768))


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    st.integers(1, 6),
    st.sampled_from(["z", "y", "x"]),
)
def test_every_voxel_is_scored_once_and_none_is_learned_and_scored_in_one_fold(borders, side, axis):
    volume = Box.of(tuple(100 if name == axis else 7 for name in "zyx"))
    try:
        folds = cut(volume, FoldSettings(axis=axis, borders_vox=tuple(sorted(borders))), (side, side, side))
    except InputError:
        return
    times = np.zeros(volume.shape, int)
    for fold in folds:
        times[fold.scored.slices] += 1
        for part in fold.learned:
            assert volume.contains(part)
            assert part.grow((side - 1,) * 3).intersect(fold.scored).empty  # no patch there reaches what is scored
    assert (times == 1).all()


def test_tiles_that_predict_a_scored_part_read_nothing_that_was_learned():
    """Prediction reaches half a patch beyond the scored part, learning stays a whole one away."""
    for fold in cut(VOLUME, FOUR, PATCH):
        read = context(fold.scored, VOLUME, PATCH)
        assert read.contains(fold.scored)
        assert all(read.intersect(part).empty for part in fold.learned)


def test_the_parts_are_those_counted_by_hand():
    folds = cut(VOLUME, FOUR, PATCH)
    assert [str(fold.scored)[5:] for fold in folds] == [
        "0:256,0:768",
        "256:512,0:768",
        "512:768,0:768",
        "768:1024,0:768",
    ]
    assert [str(part)[5:] for part in folds[1].learned] == ["0:160,0:768", "608:1024,0:768"]
    assert [str(part)[5:] for part in folds[0].learned] == ["352:1024,0:768"]


def test_a_cleft_across_a_border_belongs_to_the_fold_with_most_of_its_voxels():
    labels = np.zeros((1, 8, 1), np.uint64)
    labels[0, :, 0] = [3, 3, 7, 7, 7, 0, 9, 0]  # 7 has two voxels before the border at 4 and one after
    halves = [Box((0, 0, 0), (1, 4, 1)), Box((0, 4, 0), (1, 8, 1))]
    assert fold_of_each(labels, halves) == {3: 0, 7: 0, 9: 1}


@pytest.mark.parametrize("borders", [(0, 5), (5, 5), (7, 3), ()])
def test_borders_that_do_not_ascend_are_refused(borders):
    with pytest.raises(InputError, match="borders_vox"):
        FoldSettings(borders_vox=borders)


@pytest.mark.parametrize(
    ("borders", "message"), [((512, 1024), "do not lie inside"), ((1000,), "leaves no part"), ((2000,), "do not lie")]
)
def test_borders_outside_and_folds_without_anything_to_learn_from_are_refused(borders, message):
    with pytest.raises(InputError, match=message):
        cut(VOLUME, FoldSettings(borders_vox=borders), PATCH)
