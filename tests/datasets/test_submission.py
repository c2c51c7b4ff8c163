"""Submissions: the contents of the file, refused predictions, and no file left after an error."""

import h5py
import numpy as np
import pytest

from cleftnet.datasets import CHALLENGE_SHAPE, overall, write_submission
from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import evaluate
from cleftnet.volumes import CREMI_BACKGROUND as BG
from cleftnet.volumes import INVALID, Volume, open_volume

SIZE_NM = (40.0, 4.0, 4.0)


def row(*values, dtype=np.uint8, **kwargs):
    return Volume(np.array([[values]], dtype), SIZE_NM, address="given", **kwargs)


def clefts(path):
    with h5py.File(path) as file:
        return file["volumes/labels/clefts"][:].ravel().tolist()


def test_components_at_the_stored_threshold_get_ids_and_the_rest_cremis_background(tmp_path):
    write_submission(row(200, 200, 0, 150, 255, threshold=0.7), tmp_path / "s.hdf")
    assert clefts(tmp_path / "s.hdf") == [1, 1, BG, BG, 2]


def test_a_threshold_that_is_given_goes_first(tmp_path):
    write_submission(row(200, 0, 150, threshold=0.7), tmp_path / "s.hdf", threshold=0.5)
    assert clefts(tmp_path / "s.hdf") == [1, BG, 2]


def test_voxels_that_touch_at_a_corner_are_one_cleft(tmp_path):
    mask = np.zeros((2, 2, 2), np.bool_)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    write_submission(Volume(mask, SIZE_NM), tmp_path / "s.hdf")
    assert sorted(clefts(tmp_path / "s.hdf")) == [1, 1] + [BG] * 6


def test_one_id_stands_for_all_clefts(tmp_path):
    write_submission(row(200, 0, 200), tmp_path / "s.hdf", one_id=True)
    assert clefts(tmp_path / "s.hdf") == [1, BG, 1]


def test_ids_that_are_given_stay(tmp_path):
    write_submission(row(5, 0, 9, 9, dtype=np.uint64), tmp_path / "s.hdf")
    assert clefts(tmp_path / "s.hdf") == [5, BG, 9, 9]


def test_zeros_and_ones_are_a_mask_with_kind_mask(tmp_path):
    with pytest.raises(InputError, match="kind='mask'"):
        write_submission(row(1, 0, 1), tmp_path / "s.hdf")
    write_submission(row(1, 0, 1), tmp_path / "s.hdf", kind="mask")
    assert clefts(tmp_path / "s.hdf") == [1, BG, 2]


def test_logits_are_refused(tmp_path):
    with pytest.raises(InputError, match="logits need a sigmoid"):
        write_submission(row(-3.0, 2.0, dtype=np.float32), tmp_path / "s.hdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("one_id", [False, True])
def test_a_prediction_with_invalid_voxels_leaves_no_file(tmp_path, one_id):
    with pytest.raises(InputError, match=r"1 voxels .*invalid or outside"):
        write_submission(row(7, INVALID, dtype=np.uint64), tmp_path / "s.hdf", one_id=one_id)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_fails_its_check_does_not_replace_an_older_one(tmp_path):
    (tmp_path / "s.hdf").write_text("older")
    raw = Volume(np.zeros((1, 1, 2), np.uint8), SIZE_NM, address="A+.hdf")
    with pytest.raises(InputError, match=r"makes no valid submission: .*reaches outside raw"):
        write_submission(row(200, 0, 0), tmp_path / "s.hdf", raw=raw, overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_the_raw_it_belongs_to_is_named_in_the_verdict(tmp_path):
    found = write_submission(row(200, 0), tmp_path / "s.hdf", raw=row(0, 0))
    assert "ok: volumes/labels/clefts is 0:1,0:1,0:2 in voxels of given" in [str(f) for f in found]


def test_resolution_and_offset_are_those_of_the_prediction(tmp_path):
    write_submission(row(200, 0, offset_nm=(1480.0, 3644.0, 3644.0)), tmp_path / "s.hdf")
    with h5py.File(tmp_path / "s.hdf") as file:
        attributes = file["volumes/labels/clefts"].attrs
        assert attributes["resolution"].tolist() == list(SIZE_NM)
        assert attributes["offset"].tolist() == [1480, 3644, 3644]


def test_another_shape_than_the_challenges_is_a_warning(tmp_path):
    assert overall(write_submission(row(200, 0), tmp_path / "s.hdf")) == "warning"


def test_the_challenges_shape_is_125_sections_of_1250_by_1250():
    assert CHALLENGE_SHAPE == (125, 1250, 1250)


def test_a_probability_scores_the_same_as_the_file_made_of_it(tmp_path, synthetic):
    """The submission of a noisy truth two voxels off, read back, against the truth: all scores are those of the probability."""
    rng = np.random.default_rng(0)
    labels = synthetic.labels.read()
    probability = np.clip(200 * np.roll(labels > 0, 2, axis=2) + rng.integers(-90, 90, labels.shape), 0, 255).astype(
        np.uint8
    )
    predicted = Volume(probability, synthetic.labels.voxel_size, threshold=0.6)
    before = evaluate(predicted, synthetic.labels)
    for one_id in (False, True):
        write_submission(predicted, tmp_path / "s.hdf", one_id=one_id, overwrite=True)
        after = evaluate(tmp_path / "s.hdf", synthetic.labels)
        assert after.scores.to_json() == before.scores.to_json()
        assert after.objects == before.objects


def test_only_hdf5_is_taken(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.hdf"):
        write_submission(row(200, 0), tmp_path / "s.tif")


def test_too_many_voxels_to_number_ask_for_one_id(tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.datasets.submission.LARGEST_VOX", 2)
    with pytest.raises(InputError, match="one_id=True"):
        write_submission(row(200, 0, 200), tmp_path / "s.hdf")
    write_submission(row(200, 0, 200), tmp_path / "s.hdf", one_id=True)
    assert open_volume(tmp_path / "s.hdf/volumes/labels/clefts").read().ravel().tolist() == [1, 0, 1]
