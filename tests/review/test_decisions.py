"""Decisions: what is on disk after a crash, who may decide what, and how much time is left."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.review import open_review
from cleftnet.volumes import Volume, write_volume

SIZE_NM, OFFSET_NM = (50.0, 10.0, 10.0), (100.0, 0.0, 20.0)  # of the volume in conftest


def verdicts(review):
    return {number: decision.verdict for number, decision in review.decisions().items()}


def test_the_last_decision_of_a_person_counts_and_all_are_kept(review):
    review.decide(3, "accept", by="ada")
    review.decide(3, "reject", by="ada")
    assert verdicts(open_review(review.folder)) == {3: "reject"}
    assert [decision.verdict for decision in review.history()] == ["accept", "reject"]


def test_a_line_says_who_decided_what_and_when(review):
    review.decide(2, "accept", by="ada")
    (line,) = (review.folder / "decisions.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["id"], entry["verdict"], entry["by"], entry["review"]) == (2, "accept", "ada", review.identity)
    assert abs(datetime.fromisoformat(entry["time"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_crash_at_any_byte_loses_the_line_being_written_and_no_other(review, caplog):
    path = review.folder / "decisions.jsonl"
    review.decide(1, "accept", by="ada")
    review.decide(2, "reject", by="ada")
    before = path.read_bytes()
    review.decide(3, "accept", by="ada")
    whole = path.read_bytes()
    for end in range(len(before), len(whole)):
        path.write_bytes(whole[:end])
        caplog.clear()
        found = open_review(review.folder)
        assert verdicts(found) == {1: "accept", 2: "reject"}
        assert ("not written to its end" in caplog.text) == (end > len(before))
    found.decide(4, "accept", by="ada")  # after torn bytes
    assert verdicts(open_review(review.folder)) == {1: "accept", 2: "reject", 4: "accept"}
    assert path.read_bytes().startswith(before)


def test_a_decision_is_appended_and_never_rewrites_the_file(review):
    path = review.folder / "decisions.jsonl"
    review.decide(1, "accept", by="ada")
    before, inode = path.read_bytes(), path.stat().st_ino
    review.decide(2, "accept", by="ben")
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == inode


def test_an_unknown_candidate_is_refused_by_name(review):
    with pytest.raises(InputError, match="there is no candidate 99; known are 1 to 6"):
        review.decide(99, "accept", by="ada")
    review.decide(1, "accept", by="ada")
    path = review.folder / "decisions.jsonl"
    path.write_text(path.read_text().replace('"id":1', '"id":77'))
    with pytest.raises(InputError, match="line 1: there is no candidate 77"):
        open_review(review.folder)


def test_an_unknown_verdict_and_a_missing_name_are_refused(review):
    with pytest.raises(InputError, match="did you mean 'accept'"):
        review.decide(1, "acept", by="ada")
    with pytest.raises(InputError, match="needs the name"):
        review.decide(1, "accept", by=" ")


def test_another_person_may_agree_but_not_decide_differently(review):
    review.decide(1, "accept", by="ada")
    review.decide(1, "accept", by="ben")
    with pytest.raises(InputError, match=r"disagree on candidate 1 \(ada: accept, ben: reject\)"):
        review.decide(1, "reject", by="ben")
    assert verdicts(review) == {1: "accept"}


def test_decisions_of_two_people_are_joined_by_appending_one_file_to_the_other(review, made, tmp_path):
    from cleftnet.review import make_review

    other = make_review(made.synapses, tmp_path / "copy", settings=made.few)
    review.decide(1, "accept", by="ada")
    review.decide(2, "accept", by="ada")
    other.decide(2, "reject", by="ben")
    other.decide(3, "reject", by="ben")
    with (review.folder / "decisions.jsonl").open("a") as file:
        file.write((other.folder / "decisions.jsonl").read_text())
    joined = open_review(review.folder)
    assert joined.conflicts() == {2: {"ada": "accept", "ben": "reject"}}
    joined.decide(2, "reject", by="ada")  # she agrees with him
    assert joined.conflicts() == {}
    assert verdicts(joined) == {1: "accept", 2: "reject", 3: "reject"}


def test_decisions_of_another_review_are_refused(review, made, tmp_path):
    from cleftnet.review import make_review

    other = make_review(made.synapses, tmp_path / "other")
    other.decide(1, "accept", by="ada")
    (review.folder / "decisions.jsonl").write_text((other.folder / "decisions.jsonl").read_text())
    with pytest.raises(InputError, match="of another review"):
        open_review(review.folder)


def test_a_damaged_line_in_the_middle_is_named(review):
    review.decide(1, "accept", by="ada")
    path = review.folder / "decisions.jsonl"
    path.write_text("not JSON\n" + path.read_text())
    with pytest.raises(InputError, match="line 1 is no decision"):
        open_review(review.folder)


def test_the_time_left_is_the_median_time_between_decisions_without_pauses(review):
    for candidate in (1, 2, 3, 4):
        review.decide(candidate, "accept", by="ada")
    path = review.folder / "decisions.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry, seconds in zip(entries, (0, 10, 1010, 1030), strict=True):  # 10 s, a pause, 20 s
        entry["time"] = datetime.fromtimestamp(1e9 + seconds, UTC).isoformat()
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert review.progress.done == 4
    assert review.progress.total == 6
    assert review.progress.seconds_left == 30  # two times 15 s


def test_nothing_is_known_about_the_time_before_the_second_decision(review):
    assert review.progress.seconds_left is None
    review.decide(1, "skip", by="ada")
    assert review.progress.seconds_left is None
    assert review.undecided() == [2, 3, 4, 5, 6]


def test_redrawn_labels_are_kept_in_the_window_of_their_candidate(review):
    ids = np.zeros(review.window(1).shape, np.uint8)
    ids[1, 2:5, 3:9] = 1
    review.decide(1, "redraw", by="ada", redrawn=ids)
    assert (open_review(review.folder).redrawn(1) == ids).all()


def test_redrawn_labels_are_placed_by_their_offset(review, tmp_path):
    crop = Volume(np.ones((1, 2, 3), np.uint64), SIZE_NM, tuple(np.add(OFFSET_NM, (100, 40, 50))))
    write_volume(crop, tmp_path / "fixed.hdf/volumes/labels/clefts")
    review.decide(1, "redraw", by="ada", redrawn=tmp_path / "fixed.hdf")
    window = review.window(1)
    expected = np.zeros((12, 48, 64), bool)
    expected[2, 4:6, 5:8] = True
    assert ((review.redrawn(1) > 0) == expected[window.slices]).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.ones((1, 2, 3), np.uint8), "expected that of its window"),
        (np.zeros((4, 11, 17), np.uint8), "hold no synapse"),
        (Volume(np.ones((12, 48, 64), np.uint8), SIZE_NM, OFFSET_NM), "reach beyond its window"),
        (None, "'redraw' needs them"),
    ],
)
def test_redrawn_labels_that_do_not_fit_are_refused(review, ids, message):
    with pytest.raises(InputError, match=message):
        review.decide(1, "redraw", by="ada", redrawn=ids)
    assert review.decisions() == {}


def test_a_folder_without_a_review_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no review"):
        open_review(tmp_path)
