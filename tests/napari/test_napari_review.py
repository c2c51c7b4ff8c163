"""The widget for reviews: candidates one after the other, decided by keys, redrawn by painting."""

import numpy as np
import pytest

from tests.small_review import OFFSET_NM, SIZE_NM, small_review

pytest.importorskip(
    "napari.qt.threading",
    reason="napari is not installed, or Qt misses a library of the system: pip install 'cleftnet[napari]'",
    exc_type=ImportError,
)

from cleftnet.napari.review_widget import CANDIDATE, ReviewSynapses


@pytest.fixture
def review(tmp_path):
    """A review of two synapses and a component that the size filter left out."""
    return small_review(tmp_path)


@pytest.fixture
def widget(viewer, review):
    """The widget with the review open, decisions by ada."""
    made = ReviewSynapses(viewer)
    made.folder.value, made.by.value = review.folder, "ada"
    made.begin.changed.emit(True)
    return made


def test_a_candidate_is_shown_where_it_lies(viewer, review, widget):
    assert [layer.name for layer in viewer.layers] == ["raw", "probability", CANDIDATE]
    window, layer = review.window(1), viewer.layers[CANDIDATE]
    place = [o + s * v for o, s, v in zip(OFFSET_NM, window.start, SIZE_NM, strict=True)]
    assert (layer.data.shape, layer.translate.tolist()) == (window.shape, place)
    assert np.count_nonzero(layer.data) == np.count_nonzero(review.mask(1))
    assert "0 of 3 decided" in widget.message.value


def test_keys_decide_and_the_next_candidate_is_shown(viewer, review, widget):
    for key in "ars":
        bound = next(function for pressed, function in viewer.keymap.items() if str(pressed).lower() == key)
        bound(viewer)
    assert {c: (d.verdict, d.by) for c, d in review.decisions().items()} == {
        1: ("accept", "ada"),
        2: ("reject", "ada"),
        3: ("skip", "ada"),
    }
    assert widget.message.value == "3 of 3 decided"
    assert CANDIDATE not in viewer.layers


def test_what_is_painted_replaces_the_candidate(viewer, review, widget):
    layer = viewer.layers[CANDIDATE]
    layer.data[0, :2, :3] = 2
    painted = layer.data.copy()
    widget.buttons["redraw"].changed.emit(True)
    assert review.decisions()[1].verdict == "redraw"
    np.testing.assert_array_equal(review.redrawn(1), painted)
    assert widget.candidate == 2


def test_a_refused_decision_is_said_and_the_candidate_stays(review, widget):
    widget.by.value = ""
    widget.buttons["accept"].changed.emit(True)
    assert "name" in widget.message.value
    assert widget.candidate == 1
    assert review.history() == []


def test_a_folder_without_a_review_is_said(viewer, tmp_path):
    widget = ReviewSynapses(viewer)
    widget.folder.value = tmp_path
    widget.begin.changed.emit(True)
    assert "holds no review" in widget.message.value
