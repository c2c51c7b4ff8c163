import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.reporting.mistakes import Errors, MistakeKind, Rectangle, false_boxes, largest_mistakes, merge
from cleftnet.volumes import CLEFT, NOT_CLEFT, UNLABELLED

SIZE_NM = (40, 4, 4)  # a pixel is 16 nm²


def section(*places, shape=(40, 60)):
    """A mask that is True in half-open ranges of rows and columns."""
    mask = np.zeros(shape, bool)
    for y0, x0, y1, x1 in places:
        mask[y0:y1, x0:x1] = True
    return mask


def test_a_region_is_boxed_with_its_margin_and_one_that_is_too_small_is_not():
    """10×10 pixels are 1600 nm², 3×3 are 144; a margin of 8 nm is two pixels."""
    boxes = false_boxes(section((10, 20, 20, 30), (30, 50, 33, 53)), SIZE_NM, min_nm2=1000, margin_nm=8)
    assert boxes == [(8, 18, 22, 32)]


def test_a_region_of_just_the_least_area_is_boxed():
    ten_pixels = section((5, 5, 6, 15))
    assert len(false_boxes(ten_pixels, SIZE_NM, min_nm2=160)) == 1
    assert not false_boxes(ten_pixels, SIZE_NM, min_nm2=161)


def test_a_box_ends_at_the_border_of_the_section():
    assert false_boxes(section((0, 50, 10, 60)), SIZE_NM, min_nm2=0, margin_nm=20) == [(0, 45, 15, 60)]


def test_boxes_that_overlap_become_one_and_boxes_that_touch_stay_two():
    """Two regions four columns apart, each boxed with a margin of 3 columns; then with one of 2, where boxes only touch."""
    pair = section((10, 10, 20, 20), (10, 24, 20, 34))
    assert false_boxes(pair, SIZE_NM, min_nm2=0, margin_nm=12) == [(7, 7, 23, 37)]
    assert false_boxes(pair, SIZE_NM, min_nm2=0, margin_nm=8) == [(8, 8, 22, 22), (8, 22, 22, 36)]


def test_pixels_that_touch_at_a_corner_are_one_region():
    assert false_boxes(section((1, 1, 3, 3), (3, 3, 5, 5)), SIZE_NM, min_nm2=8 * 16, margin_nm=0) == [(1, 1, 5, 5)]


def test_a_joined_box_swallows_what_it_now_overlaps():
    """The third box meets the first alone; the rectangle around those two meets the second."""
    boxes = [Rectangle(0, 0, 4, 4), Rectangle(0, 8, 2, 9), Rectangle(3, 3, 9, 9)]
    assert merge(boxes) == [(0, 0, 9, 9)]


rectangles = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda r: Rectangle(r[0], r[1], r[0] + r[2], r[1] + r[3])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rectangles, max_size=8))
def test_merged_boxes_do_not_overlap_and_hold_every_box(boxes):
    merged = merge(boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(merged) for b in merged[:i])
    assert all(any(box.join(around) == around for around in merged) for box in boxes)


def test_no_volume_has_boxes_of_a_section():
    with pytest.raises(InputError, match="expected one section"):
        false_boxes(np.zeros((2, 3, 4), bool), SIZE_NM)


def test_what_nobody_labelled_is_never_wrong():
    truth = np.array([[NOT_CLEFT, CLEFT, UNLABELLED, NOT_CLEFT, CLEFT, UNLABELLED]], np.uint8)
    predicted = np.array([[True, True, True, False, False, False]])
    wrong = Errors.of(predicted, truth)
    assert wrong.positive.tolist() == [[True, False, False, False, False, False]]
    assert wrong.negative.tolist() == [[False, False, False, False, True, False]]


def drawn():
    """Section 1: a cleft half found (x 0-9), one not found (x 20-25); a false one in sections 0 and 1 (x 40-51)."""
    truth, predicted = np.zeros((3, 8, 60), np.uint8), np.zeros((3, 8, 60), bool)
    truth[1, 2:4, 0:10] = truth[1, 2:4, 20:26] = CLEFT
    predicted[1, 2:4, 0:5] = predicted[1, 2:4, 40:52] = predicted[0, 2, 45] = True
    return predicted, truth


def test_the_largest_mistakes_come_first_with_their_place_and_size():
    found = largest_mistakes(*drawn(), 5)
    assert [(m.kind, m.voxels, str(m.box)) for m in found] == [
        (MistakeKind.POSITIVE, 25, "0:2,2:4,40:52"),
        (MistakeKind.NEGATIVE, 12, "1:2,2:4,20:26"),
        (MistakeKind.NEGATIVE, 10, "1:2,2:4,5:10"),
    ]
    assert found[0].center == (1, 2, 45)


def test_a_part_of_a_found_cleft_is_told_from_a_cleft_that_was_not_found():
    assert [m.alone for m in largest_mistakes(*drawn(), 5)] == [True, True, False]


def test_no_more_than_the_number_asked_for_of_each_kind():
    assert [m.kind for m in largest_mistakes(*drawn(), 1)] == [MistakeKind.POSITIVE, MistakeKind.NEGATIVE]


def test_a_perfect_prediction_has_no_mistakes():
    _, truth = drawn()
    assert largest_mistakes(truth == CLEFT, truth, 5) == []
