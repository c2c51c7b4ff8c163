"""`apply_review`: labels drawn by hand, estimates worked out by hand, and what is refused."""

import json

import numpy as np
import pytest
import yaml

from cleftnet.errors import InputError
from cleftnet.review import apply_review, make_review
from cleftnet.review.estimates import DecidedCounts, Estimate, estimate_precision, estimate_recall, wilson
from cleftnet.training.data import open_region
from cleftnet.training.recipe import VolumeSettings
from cleftnet.volumes import INVALID, LABELS, open_volume, write_volume
from cleftnet.volumes.hdf5 import reading_hdf5

SIZE_NM, OFFSET_NM = (50.0, 10.0, 10.0), (100.0, 0.0, 20.0)  # of the volume in conftest


@pytest.fixture
def decided(review):
    """Candidates 1 (accepted), 2 (redrawn as two), one of the sample (rejected) and 5 (missed, accepted)."""
    ids = np.zeros(review.window(2).shape, np.uint64)
    ids[1, 5:8, 2:6], ids[2, 5:8, 8:12] = 7, 3
    review.decide(1, "accept", by="ada")
    review.decide(2, "redraw", by="ada", redrawn=ids)
    review.decide(3, "reject", by="ada")
    review.decide(5, "accept", by="ben")
    review.decide(6, "skip", by="ben")
    return review


def test_labels_follow_from_the_decisions_and_the_rest_is_invalid(decided, made, tmp_path):
    apply_review(decided.folder, tmp_path / "corrected")
    labels = open_volume(tmp_path / "corrected/corrected.hdf", default=LABELS)
    assert (labels.voxel_size, labels.offset_nm) == (SIZE_NM, OFFSET_NM)
    expected = np.full(made.values.shape, INVALID, np.uint64)
    for candidate in (1, 2, 3, 5):
        expected[decided.window(candidate).slices] = 0
    for candidate in (4, 6):  # nobody decided about these, even in the window of another
        expected[decided.box(candidate).slices] = INVALID
    others = np.setdiff1d([1, 2, 3, 4, 5, 6], decided.candidates["synapse_id"])
    found = open_volume(made.synapses / "labels.zarr", default=LABELS).read()
    expected[np.isin(found, others)] = INVALID
    expected[decided.box(1).slices] = 1
    expected[decided.box(5).slices] = 5
    z, y, x = decided.window(2).start
    expected[z + 2, y + 5 : y + 8, x + 8 : x + 12] = 2  # the smaller id of the two comes first
    expected[z + 1, y + 5 : y + 8, x + 2 : x + 6] = 7  # after the last candidate
    assert (labels.read() == expected).all()


def test_a_synapse_nobody_decided_about_is_invalid_in_the_window_of_another(made, tmp_path):
    wide = make_review(made.synapses, tmp_path / "review", settings=made.few.changed(surroundings_nm=400.0))
    wide.decide(1, "reject", by="ada")
    apply_review(wide.folder, tmp_path / "corrected")
    labels = open_volume(tmp_path / "corrected/corrected.hdf", default=LABELS).read()
    assert (labels[wide.box(1).slices] == 0).all()
    assert (labels[wide.box(2).slices] == INVALID).all()
    assert labels[1, 20, 20] == 0


def test_labels_are_those_of_a_cremi_file(decided, tmp_path):
    apply_review(decided.folder, tmp_path / "corrected")
    with reading_hdf5(tmp_path / "corrected/corrected.hdf") as file:
        assert file.attrs["file_format"] == "0.2"
        ids = file["volumes/labels/clefts"]
        assert ids.dtype == np.uint64
        assert set(np.unique(ids)) == {1, 2, 5, 7, 2**64 - 2, 2**64 - 1}


def test_the_entry_for_a_training_opens_raw_and_labels(decided, tmp_path):
    apply_review(decided.folder, tmp_path / "corrected")
    entry = yaml.safe_load((tmp_path / "corrected/training.yaml").read_text())
    region = open_region(VolumeSettings(**entry))
    assert region.raw.shape == region.labels.shape == (12, 48, 64)


def test_labels_of_a_large_volume_are_cut_to_what_was_reviewed(decided, tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.review.applying.WHOLE_VOX", 0)
    apply_review(decided.folder, tmp_path / "corrected")
    labels = open_volume(tmp_path / "corrected/corrected.hdf", default=LABELS)
    windows = [decided.window(n) for n in (1, 2, 3, 5)]
    assert labels.shape == tuple(max(w.stop[a] for w in windows) - min(w.start[a] for w in windows) for a in range(3))
    entry = yaml.safe_load((tmp_path / "corrected/training.yaml").read_text())
    assert open_region(VolumeSettings(**entry)).labels.shape == labels.shape


def test_precision_and_recall_count_what_was_decided(decided, tmp_path):
    summary = apply_review(decided.folder, tmp_path / "corrected")
    assert summary.counts == {
        "uncertain": {"candidates": 2, "accept": 1, "redraw": 1},
        "random": {"candidates": 2, "reject": 1},
        "missed?": {"candidates": 2, "accept": 1, "skip": 1},
    }
    assert summary.precision.value == 2 / 6  # both uncertain ones are right, none of the four others
    assert summary.recall.value == 0.5  # two found; one of two decided ones was missed, so two
    assert summary.corrected == 4
    assert summary.people == {"ada": 3, "ben": 1}
    assert json.loads((tmp_path / "corrected/summary.json").read_text()) == summary.model_dump(mode="json")


def test_people_who_disagree_are_named(decided, tmp_path):
    path = decided.folder / "decisions.jsonl"
    line = path.read_text().splitlines()[0]
    with path.open("a") as file:
        file.write(line.replace("accept", "reject").replace("ada", "eve") + "\n")
    with pytest.raises(InputError, match=r"disagree on candidate 1 \(ada: accept, eve: reject\)"):
        apply_review(decided.folder, tmp_path / "corrected")


def test_a_review_without_a_decision_is_refused(review, tmp_path):
    with pytest.raises(InputError, match="nothing is decided"):
        apply_review(review.folder, tmp_path / "corrected")


def test_changed_labels_are_refused(made, tmp_path):
    import shutil

    shutil.copytree(made.folder, tmp_path / "copy")
    review = make_review(
        tmp_path / "copy/synapses", tmp_path / "review", prediction=tmp_path / "copy/prediction.zarr", settings=made.few
    )
    review.decide(1, "accept", by="ada")
    labels = open_volume(tmp_path / "copy/synapses/labels.zarr", default=LABELS)
    changed = np.asarray(labels.read()) + 1
    from dataclasses import replace

    write_volume(
        replace(labels, store=changed), tmp_path / "copy/synapses/labels.zarr/volumes/labels/clefts", overwrite=True
    )
    with pytest.raises(InputError, match="has changed since the review"):
        apply_review(review.folder, tmp_path / "corrected")


def test_the_interval_of_wilson_is_that_of_the_textbook():
    found = wilson(8, 10, 10**9)  # Brown, Cai & DasGupta 2001: 0.490 to 0.943
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)


def test_the_interval_holds_the_share_as_often_as_it_says():
    rng = np.random.default_rng(0)
    population = np.arange(60) < 42
    held = 0
    for _ in range(2000):
        sample = rng.choice(population, 20, replace=False)
        one = wilson(int(sample.sum()), 20, 60)
        held += one.low <= 0.7 <= one.high
    assert 0.93 <= held / 2000 <= 0.99


def test_undecided_uncertain_synapses_widen_the_interval_by_all_they_could_be():
    some = estimate_precision(DecidedCounts(10, 5, 5), DecidedCounts(10, 10, 10), 20)
    assert (some.low, some.value, some.high) == (0.75, 1.0, 1.0)


def test_precision_is_not_known_without_a_decision_about_the_sample():
    assert estimate_precision(DecidedCounts(10, 10, 5), DecidedCounts(10, 0, 0), 40).value is None


def test_recall_is_an_upper_bound_when_nothing_was_left_out():
    assert estimate_recall(Estimate(value=1, low=1, high=1), DecidedCounts(0, 0, 0), 10).value == 1
