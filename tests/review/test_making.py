"""`make_review`: which candidates a review has, and what it refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cleftnet.errors import InputError
from cleftnet.review import ReviewSettings, make_review
from cleftnet.review.selection import COLUMNS
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.volumes import LABELS, Volume, open_volume, write_volume

SIZE_NM, OFFSET_NM = (50.0, 10.0, 10.0), (100.0, 0.0, 20.0)  # of the volume in conftest


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_least_certain_come_first_then_a_sample_then_what_was_left_out(review):
    table = review.candidates
    assert table.columns.tolist() == list(COLUMNS)
    assert table["kind"].tolist() == ["uncertain", "uncertain", "random", "random", "missed?", "missed?"]
    assert table["score"].tolist()[:2] == [round(150 / 255, 5), round(160 / 255, 5)]
    assert table["score"].tolist()[4:] == [round(250 / 255, 5), round(140 / 255, 5)]  # the most probable crumbs
    assert table["synapse_id"].tolist()[4:] == [0, 0]
    assert len(set(table["synapse_id"][:4])) == 4


def test_a_candidate_of_the_sample_stands_for_its_share_of_the_others(review):
    assert review.candidates["weight"].tolist() == [1, 1, 2, 2, 1, 1]  # 4 others, 2 of them drawn


def test_a_window_is_the_box_with_its_surroundings_inside_the_volume(review):
    assert str(review.box(1)) == "1:3,2:6,2:12"
    assert str(review.window(1)) == "0:4,0:11,0:17"  # 50 nm are one section, and 5 voxels in it


def test_a_mask_holds_the_voxels_of_its_candidate(review, made):
    for candidate in review.candidates["id"]:
        box = review.box(candidate)
        assert (review.mask(candidate) == (made.values[box.slices] >= 128)).all()


def test_the_same_seed_gives_the_same_files_and_another_one_another_sample(made, tmp_path):
    make_review(made.synapses, tmp_path / "one", settings=made.few)
    make_review(made.synapses, tmp_path / "two", settings=made.few)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    seeds = {
        tuple(
            make_review(made.synapses, tmp_path / f"seed{n}", settings=made.few.changed(seed=n)).candidates[
                "synapse_id"
            ]
        )
        for n in range(5)
    }
    assert len(seeds) > 1


def test_nothing_but_the_review_is_left(review):
    assert {path.name for path in review.folder.iterdir()} == {
        "candidates.csv",
        "decisions.jsonl",
        "masks.npz",
        "review.json",
    }
    assert [path.name for path in review.folder.parent.iterdir()] == ["review"]
    about = json.loads((review.folder / "review.json").read_text())
    assert about["prediction"].endswith("prediction.zarr/volumes/probability")
    assert about["raw"].endswith("A.hdf/volumes/raw")
    assert about["synapses"], about["left_out"] == (6, 3)


def test_a_small_prediction_is_reviewed_completely(made, tmp_path):
    table = make_review(made.synapses, tmp_path / "review").candidates
    assert table["kind"].value_counts().to_dict() == {"uncertain": 6, "missed?": 3}


def test_another_prediction_is_refused(made, tmp_path):
    moved = np.roll(made.values, 1, axis=2)
    write_volume(Volume(moved, SIZE_NM, OFFSET_NM, threshold=0.5), tmp_path / "other.zarr/volumes/probability")
    with pytest.raises(InputError, match="give the prediction that the synapses were found in"):
        make_review(made.synapses, tmp_path / "review", prediction=tmp_path / "other.zarr")


def test_a_folder_without_synapses_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no synapses"):
        make_review(tmp_path, tmp_path / "review")


def test_a_review_that_exists_is_not_replaced(review, made):
    with pytest.raises(InputError, match="exists already"):
        make_review(made.synapses, review.folder, settings=made.few)


def test_a_killed_search_is_completed(made, tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.review.making.select", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_review(made.synapses, tmp_path / "review", settings=made.few)
    monkeypatch.undo()
    assert len(make_review(made.synapses, tmp_path / "review", settings=made.few).candidates) == 6
    assert not (tmp_path / "review.unfinished").exists()


def test_a_mask_without_scores_can_be_reviewed(made, tmp_path):
    from cleftnet.synapses import find_synapses

    write_volume(Volume(made.values > 0, SIZE_NM), tmp_path / "mask.zarr/volumes/labels/clefts")
    shutil.rmtree(tmp_path / "found", ignore_errors=True)
    find_synapses(tmp_path / "mask.zarr", tmp_path / "found")
    review = make_review(tmp_path / "found", tmp_path / "review", settings=ReviewSettings(uncertain=1, random=1))
    assert review.candidates["kind"].tolist() == ["uncertain", "random"]


def test_a_damaged_file_of_masks_is_named(made, tmp_path):
    review = make_review(made.synapses, tmp_path / "looks", settings=made.few)
    masks = review.folder / "masks.npz"
    masks.write_bytes(masks.read_bytes().replace(b"1.npy", b"\xff.npy", 1))  # in the file itself, not in its directory
    with pytest.raises(InputError, match=r"masks\.npz is damaged"):
        review.mask(1)


def test_a_mask_that_unpacks_to_more_than_its_box_is_not_unpacked(made, tmp_path, monkeypatch):
    review = make_review(made.synapses, tmp_path / "looks", settings=made.few)
    np.savez_compressed(review.folder / "masks.npz", **{"1": np.zeros(2**20, np.bool_)})
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match=r"masks\.npz is damaged \(a mask of 1,048,704 bytes\)"):
        review.mask(1)


def test_labels_with_a_damaged_chunk_are_refused_although_no_candidate_needs_it(made, tmp_path):
    folder = shutil.copytree(made.synapses, tmp_path / "synapses")
    labels = open_volume(folder / "labels.zarr", default=LABELS)
    assert labels.shape == (12, 48, 64)
    (chunk,) = [path for path in (folder / "labels.zarr").rglob("*") if path.is_file() and path.name.isdigit()]
    chunk.write_bytes(b"\xff" * chunk.stat().st_size)
    with pytest.raises(InputError, match=r"labels\.zarr.* cannot be read"):
        make_review(folder, tmp_path / "looks", settings=made.few)


def test_synapses_that_are_none_leave_the_missed_ones_to_look_at(made, tmp_path):
    nothing = SynapseSettings(min_size_nm3=1e9)
    find_synapses(made.folder / "prediction.zarr", tmp_path / "synapses", settings=nothing)
    review = make_review(tmp_path / "synapses", tmp_path / "looks", settings=made.few)
    assert set(review.candidates["kind"]) == {"missed?"}


def test_a_table_with_bounds_that_are_no_numbers_is_refused(made, tmp_path):
    folder = shutil.copytree(made.synapses, tmp_path / "synapses")
    rows = pd.read_csv(folder / "synapses.csv")
    rows["z_stop"] = np.nan
    rows.to_csv(folder / "synapses.csv", index=False)
    with pytest.raises(InputError, match="not every id, bound and volume is a number"):
        make_review(folder, tmp_path / "looks", settings=made.few)
