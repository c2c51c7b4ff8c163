"""CREMI's label ids and files."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import (
    BACKGROUND,
    CLEFT_ZERO,
    INVALID,
    LABELS,
    OUTSIDE,
    Volume,
    from_cremi,
    is_cleft,
    is_labelled,
    open_volume,
    to_cremi,
    write_cremi,
)

SENTINELS = [2**64 - 1, 2**64 - 2, 2**64 - 3, 2**64 - 4, 2**64 - 5, 0, 1]
IDS = hnp.arrays(
    np.uint64,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.sampled_from(SENTINELS) | st.integers(0, 2**64 - 1),
)
RAW = Volume(np.full((3, 4, 5), 7, np.uint8), (40, 4, 4))


def labels(ids, voxel_size=(40, 4, 4), offset_nm=(0, 0, 0)):
    return Volume(np.asarray(ids), voxel_size, offset_nm)


def test_the_three_special_ids_of_cremi_become_ours():
    ids = from_cremi(np.array([0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFD, 12], np.uint64))
    assert ids.tolist() == [BACKGROUND, INVALID, OUTSIDE, 12]


def test_zero_in_a_cremi_file_is_a_cleft():
    ids = from_cremi(np.zeros(1, np.uint64))
    assert ids.tolist() == [CLEFT_ZERO]
    assert is_cleft(ids).all()
    assert to_cremi(ids).tolist() == [0]


def test_all_but_background_and_unlabelled_voxels_are_cleft_as_in_the_official_evaluation():
    cremi = np.array(SENTINELS, np.uint64)
    assert is_cleft(from_cremi(cremi)).tolist() == [False, False, False, True, True, True, True]
    assert is_labelled(from_cremi(cremi)).tolist() == [True, False, False, True, True, True, True]


@settings(max_examples=100, deadline=None)
@given(ids=IDS)
def test_no_id_is_lost_in_either_direction(ids):
    np.testing.assert_array_equal(to_cremi(from_cremi(ids)), ids)
    np.testing.assert_array_equal(from_cremi(to_cremi(ids)), ids)


def test_background_of_a_signed_file_is_minus_one():
    assert from_cremi(np.array([-1, 5], np.int64)).tolist() == [BACKGROUND, 5]


def test_translating_does_not_change_its_argument():
    ids = np.array([2**64 - 1, 0], np.uint64)
    from_cremi(ids)
    assert ids.tolist() == [2**64 - 1, 0]


@settings(max_examples=50, deadline=None)
@given(ids=IDS, start=st.tuples(*[st.integers(0, 2000)] * 3), data=st.data())
def test_labels_and_their_place_come_back_from_a_cremi_file(tmp_path_factory, ids, start, data):
    path = tmp_path_factory.mktemp("cremi") / "A.hdf"
    offset = (start[0] * 40.0, start[1] * 4.0, start[2] * 4.0)
    write_cremi(path, clefts=labels(ids, offset_nm=offset))
    volume = open_volume(path, default=LABELS)
    assert (volume.voxel_size, volume.offset_nm) == ((40, 4, 4), offset)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in ids.shape]
    box = Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))
    np.testing.assert_array_equal(volume[box], ids[box.slices])


def test_a_cremi_file_has_the_datasets_and_attributes_of_the_challenge(tmp_path):
    write_cremi(
        tmp_path / "A.hdf", RAW, labels(np.array([[[0, 7, INVALID, OUTSIDE]]], np.uint64), offset_nm=(40, 8, 4))
    )
    with h5py.File(tmp_path / "A.hdf") as file:
        raw, clefts = file["volumes/raw"], file["volumes/labels/clefts"]
        assert file.attrs["file_format"] == "0.2"
        assert (raw.dtype, clefts.dtype) == (np.uint8, np.uint64)
        assert raw.attrs["resolution"].tolist() == clefts.attrs["resolution"].tolist() == [40, 4, 4]
        assert "offset" not in raw.attrs
        assert clefts.attrs["offset"].tolist() == [40, 8, 4]
        assert clefts[0, 0].tolist() == [2**64 - 1, 7, 2**64 - 2, 2**64 - 3]
        assert (raw[:] == 7).all()


def test_a_padded_file_places_its_labels_by_offset(tmp_path):
    """Raw of 3×4×5 voxels; labels of 1×2×2 at voxel 1,2,3, which is 40,8,12 nm."""
    write_cremi(tmp_path / "A.hdf", RAW, labels([[[0, 1], [2, 3]]], offset_nm=(40, 8, 12)))
    raw, clefts = open_volume(tmp_path / "A.hdf"), open_volume(tmp_path / "A.hdf", default=LABELS)
    assert raw.crop(Box((1, 2, 3), (2, 4, 5))).offset_nm == clefts.offset_nm == (40, 8, 12)


def test_a_plain_file_keeps_its_labels_as_they_are(tmp_path):
    with h5py.File(tmp_path / "plain.hdf", "w") as file:
        file["volumes/labels/clefts"] = np.array([[[0, 2**64 - 1]]], np.uint64)
    assert open_volume(tmp_path / "plain.hdf", default=LABELS).read().tolist() == [[[0, 2**64 - 1]]]
    with h5py.File(tmp_path / "plain.hdf", "a") as file:
        file.attrs["file_format"] = "0.2"
    assert open_volume(tmp_path / "plain.hdf", default=LABELS).read().tolist() == [[[CLEFT_ZERO, 0]]]


def test_raw_of_a_cremi_file_is_not_translated(tmp_path):
    write_cremi(tmp_path / "A.hdf", Volume(np.zeros((1, 2, 3), np.uint8), (40, 4, 4)))
    assert open_volume(tmp_path / "A.hdf").read().sum() == 0


def test_a_file_of_zeros_reads_as_cleft_everywhere(tmp_path):
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file.attrs["file_format"] = "0.2"
        file["volumes/labels/clefts"] = np.zeros((1, 2, 3), np.uint64)
    assert is_cleft(open_volume(tmp_path / "A.hdf", default=LABELS).read()).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type_are_written_as_ids(tmp_path, dtype):
    write_cremi(tmp_path / "A.hdf", clefts=labels(np.array([[[0, 1]]], dtype)))
    with h5py.File(tmp_path / "A.hdf") as file:
        assert file["volumes/labels/clefts"][0, 0].tolist() == [2**64 - 1, 1]


@pytest.mark.parametrize(
    ("raw", "clefts", "line"),
    [
        (None, None, "needs raw or clefts"),
        (Volume(np.zeros((1, 2, 3), np.float32), (40, 4, 4)), None, "raw of a CREMI file is uint8"),
        (None, labels(np.zeros((1, 2, 3), np.float32)), "choose a threshold first"),
        (None, labels(np.full((1, 2, 3), -5)), "label id -5 is negative"),
        (None, labels(np.zeros((1, 2, 3), np.uint8), voxel_size=None), "carries no voxel size"),
        (RAW, labels(np.zeros((1, 2, 3), np.uint8), voxel_size=(50, 4, 4)), "voxel sizes differ"),
    ],
)
def test_volumes_that_make_no_cremi_file_are_refused_and_leave_no_file(tmp_path, raw, clefts, line):
    with pytest.raises(InputError, match=line):
        write_cremi(tmp_path / "A.hdf", raw, clefts)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_no_integers_are_refused(tmp_path):
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file.attrs["file_format"] = "0.2"
        file["volumes/labels/clefts"] = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(InputError, match="labels of a CREMI file are integers"):
        open_volume(tmp_path / "A.hdf", default=LABELS)
