"""A review in the viewer: its candidates are listed, and keys decide about them."""

import json
import urllib.request

import numpy as np
import pytest

import cleftnet
from cleftnet.errors import InputError
from cleftnet.viewing.reviewing import candidate_labels
from tests.small_review import OFFSET_NM, SHAPE, SIZE_NM, small_review

pytest.importorskip("neuroglancer", reason="neuroglancer is not installed: pip install 'cleftnet[view]'")

VIEWER = "document.getElementById('viewer').contentWindow.viewer"


@pytest.fixture
def review(tmp_path):
    """A review of two synapses and a component that the size filter left out."""
    raw = np.random.default_rng(0).integers(80, 180, SHAPE).astype(np.uint8)
    return small_review(tmp_path, raw)


@pytest.fixture
def viewer(review):
    with cleftnet.view(review=review.folder, open_browser=False) as running:
        yield running


def post(viewer, what, **values):
    with urllib.request.urlopen(f"{viewer.url}{what}", json.dumps(values).encode()) as answer:
        return json.load(answer)


def contents(viewer):
    with urllib.request.urlopen(f"{viewer.url}contents") as answer:
        return json.load(answer)


def test_candidates_are_listed_in_their_order_with_layers(review, viewer):
    shown = contents(viewer)
    assert [(row["id"], row["kind"]) for row in shown["rows"]] == [
        (str(row["id"]), row["kind"]) for row in review.candidates.to_dict("records")
    ]
    visible = {layer["name"]: layer["visible"] for layer in shown["layers"]}
    assert visible == {"raw": True, "probability": True, "labels": False, "candidates": True}


def test_each_candidate_is_drawn_with_its_id(review):
    drawn = candidate_labels(review)
    assert (drawn.voxel_size, drawn.offset_nm) == (SIZE_NM, OFFSET_NM)
    values = drawn.read()
    for candidate in review.candidates["id"]:
        np.testing.assert_array_equal(values[review.box(candidate).slices] == candidate, review.mask(candidate))


def test_a_decision_is_written_down_and_the_progress_returned(review, viewer):
    assert contents(viewer)["review"]["done"] == 0
    state = post(viewer, "decide", id="2", verdict="reject", by="ada")
    assert (state["done"], state["total"], state["verdicts"]) == (1, 3, {"2": "reject"})
    assert {c: d.verdict for c, d in review.decisions().items()} == {2: "reject"}


def test_a_refused_decision_says_why(review, viewer):
    review.decide(1, "accept", by="ada")
    assert "people disagree" in post(viewer, "decide", id="1", verdict="reject", by="bob")["refused"]
    assert "name" in post(viewer, "decide", id="2", verdict="reject", by=" ")["refused"]
    assert "9" in post(viewer, "decide", id="9", verdict="reject", by="ada")["refused"]
    assert len(review.history()) == 1


def test_without_a_review_nothing_is_decided():
    with cleftnet.view(np.ones(SHAPE, np.uint8), voxel_size_nm=SIZE_NM, open_browser=False) as viewer:
        assert "shows no review" in post(viewer, "decide", id="1", verdict="accept", by="ada")["refused"]


def test_without_volume_and_review_there_is_nothing_to_show():
    with pytest.raises(InputError, match="nothing to show"):
        cleftnet.view(open_browser=False)


def test_keys_decide_and_lead_to_the_next_candidate(browser, review, viewer):
    browser.open(viewer.url, width=1000, height=700)
    browser.ask(
        f"new Promise((done) => {{ const look = () => {VIEWER} && {VIEWER}.isReady() ? done(1) : setTimeout(look, 100); "
        "look(); })"
    )
    chosen = "document.querySelector('#list li[aria-selected=true]').title"
    browser.ask("document.getElementById('by').value = 'ada'")
    waiting = "new Promise((done) => {{ const look = () => {0} ? done(1) : setTimeout(look, 50); look(); }})"
    assert browser.ask(chosen) == "1"
    for key, candidate in (("a", 2), ("r", 3)):
        browser.press(key)
        browser.ask(waiting.format(f"{chosen} === '{candidate}'"))
    browser.press("s")
    browser.ask(waiting.format("document.getElementById('progress').textContent.startsWith('3 of 3')"))
    assert {c: (d.verdict, d.by) for c, d in review.decisions().items()} == {
        1: ("accept", "ada"),
        2: ("reject", "ada"),
        3: ("skip", "ada"),
    }
