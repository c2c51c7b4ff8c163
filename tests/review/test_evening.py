"""The person of examples/evening.py, who knows the truth."""

import numpy as np

from cleftnet.review import apply_review
from cleftnet.volumes import INVALID, LABELS, Volume, open_volume
from examples.evening import decide


def test_a_candidate_is_accepted_redrawn_or_rejected_by_how_it_fits(made, review, tmp_path):
    true = np.zeros(made.values.shape, np.uint64)
    first, second = (review.box(number) for number in sorted(review.undecided())[:2])
    true[first.slices] = 7
    grown = second.grow((0, 3, 0)).intersect(review.window(sorted(review.undecided())[1]))
    true[grown.slices] = 8  # more than twice as large
    numbers = sorted(review.undecided())
    beside = np.zeros(true.shape, bool)
    beside[review.window(numbers[2]).slices] = True
    for number in numbers:
        beside[review.box(number).slices] = False
    beside &= (true == 0) & (made.values == 0)
    place = tuple(np.argwhere(beside)[0])
    true[place] = 9  # nobody's candidate
    verdicts = decide(review, Volume(true, review.labels.voxel_size_nm, review.labels.offset_nm))
    made_of = {number: review.decisions()[number].verdict for number in numbers}
    assert [made_of[number] for number in numbers] == ["accept", "redraw", "redraw", *["reject"] * (len(numbers) - 3)]
    assert verdicts == {"accept": 1, "redraw": 2, "reject": len(numbers) - 3}
    apply_review(review.folder, tmp_path / "corrected")
    corrected = open_volume(tmp_path / "corrected/corrected.hdf", default=LABELS).read()
    labeled = corrected != INVALID
    np.testing.assert_array_equal((corrected > 0)[labeled], (true > 0)[labeled])
    assert np.count_nonzero(labeled & (true > 0)) == np.count_nonzero(true)
