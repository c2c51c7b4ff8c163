"""Checks of CREMI files: a valid file, and files broken in one way each."""

import h5py
import numpy as np
import pytest

from cleftnet.datasets import check_cremi, overall
from cleftnet.errors import InputError
from cleftnet.volumes import INVALID, OUTSIDE, Volume, write_cremi

CLEFTS = "volumes/labels/clefts"


@pytest.fixture
def sound(tmp_path):
    """Raw of 4×6×8 voxels with one cleft, nothing wrong with it."""
    ids = np.zeros((4, 6, 8), np.uint64)
    ids[1:3, 2:4, 2:6] = 7
    write_cremi(tmp_path / "A.hdf", Volume(np.zeros((4, 6, 8), np.uint8), (40, 4, 4)), Volume(ids, (40, 4, 4)))
    return tmp_path / "A.hdf"


def said(path, verdict, **kwargs):
    return [f.text for f in check_cremi(path, **kwargs) if f.verdict == verdict]


def replace_clefts(file, ids, **attributes):
    old = dict(file[CLEFTS].attrs)
    del file[CLEFTS]
    file[CLEFTS] = ids
    file[CLEFTS].attrs.update(old | attributes)


def test_a_valid_file_is_ok_and_its_contents_are_reported(sound):
    findings = check_cremi(sound, submission=True)
    assert {f.verdict for f in findings} == {"ok"}
    assert "1 cleft ids on 8.33% of the labelled voxels" in [f.text for f in findings]
    assert overall(findings) == "ok"


BREAKS = {
    "no file_format": (lambda f: f.attrs.pop("file_format"), "error", "'file_format' is missing"),
    "another file_format": (lambda f: f.attrs.update(file_format="9"), "warning", "file_format is '9'; expected '0.2'"),
    "no resolution": (lambda f: f[CLEFTS].attrs.pop("resolution"), "error", "has no attribute 'resolution'"),
    "two lengths": (lambda f: f[CLEFTS].attrs.update(resolution=[4, 4]), "error", "expected three lengths in nm"),
    "a length of zero": (lambda f: f[CLEFTS].attrs.update(resolution=[0, 4, 4]), "error", "must be positive"),
    "x y z": (lambda f: f[CLEFTS].attrs.update(resolution=[4, 4, 40]), "warning", "is it reversed?"),
    "micrometres": (lambda f: f[CLEFTS].attrs.update(resolution=[0.04, 0.004, 0.004]), "warning", "is it µm?"),
    "two resolutions": (lambda f: f[CLEFTS].attrs.update(resolution=[50, 4, 4]), "error", "resolutions differ"),
    "a broken offset": (lambda f: f[CLEFTS].attrs.update(offset=[0, 0, np.nan]), "error", "attribute 'offset' is"),
    "half a voxel": (lambda f: f[CLEFTS].attrs.update(offset=[20, 0, 0]), "error", "no whole number of voxels"),
    "outside raw": (
        lambda f: f[CLEFTS].attrs.update(offset=[40, 0, 0]),
        "error",
        "reaches outside raw: it is 1:5,0:6,0:8",
    ),
    "larger than raw": (lambda f: replace_clefts(f, np.full((5, 6, 8), 2**64 - 1, np.uint64)), "error", "outside raw"),
    "no offset": (
        lambda f: replace_clefts(f, np.full((2, 6, 8), 2**64 - 1, np.uint64)),
        "warning",
        "2×6×8 is smaller than volumes/raw 4×6×8 and has no offset",
    ),
    "background 0": (
        lambda f: replace_clefts(f, np.zeros((4, 6, 8), np.uint64)),
        "error",
        "background is 0 (192 voxels) and not 0xffffffffffffffff",
    ),
    "some zeros": (
        lambda f: f[CLEFTS].write_direct(np.zeros(1, np.uint64), dest_sel=(0, 0, 0)),
        "warning",
        "have id 0",
    ),
    "no cleft": (
        lambda f: replace_clefts(f, np.full((4, 6, 8), 2**64 - 1, np.uint64)),
        "warning",
        "no voxel is a cleft",
    ),
    "no background": (lambda f: replace_clefts(f, np.ones((4, 6, 8), np.uint64)), "warning", "no voxel is background"),
    "uint8 labels": (
        lambda f: replace_clefts(f, np.ones((4, 6, 8), np.uint8)),
        "error",
        "clefts is uint8; CREMI's is uint64",
    ),
    "float labels": (lambda f: replace_clefts(f, np.ones((4, 6, 8))), "error", "clefts is float64; CREMI's is uint64"),
    "two axes": (
        lambda f: replace_clefts(f, np.ones((6, 8), np.uint64)),
        "error",
        "has shape (6, 8); expected three axes",
    ),
    "nothing in it": (lambda f: f.pop("volumes"), "error", "there is neither volumes/raw nor volumes/labels/clefts"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_way_to_break_a_file_is_found(sound, name):
    change, verdict, text = BREAKS[name]
    with h5py.File(sound, "a") as file:
        change(file)
    assert any(text in line for line in said(sound, verdict)), check_cremi(sound)


@pytest.mark.parametrize("unlabelled", [INVALID, OUTSIDE])
def test_unlabelled_voxels_are_fine_in_truth_and_an_error_in_a_submission(sound, unlabelled):
    with h5py.File(sound, "a") as file:
        file[CLEFTS][0, 0, :3] = unlabelled
    assert overall(check_cremi(sound)) == "ok"
    assert any("3 voxels are invalid or outside" in line for line in said(sound, "error", submission=True))


def test_a_submission_is_its_clefts(sound):
    with h5py.File(sound, "a") as file:
        del file[CLEFTS]
    assert overall(check_cremi(sound)) == "ok"
    assert any("no dataset volumes/labels/clefts" in line for line in said(sound, "error", submission=True))


def test_a_submission_without_raw_is_held_against_the_raw_that_is_given(sound):
    with h5py.File(sound, "a") as file:
        del file["volumes/raw"]
    larger = Volume(np.zeros((4, 6, 9), np.uint8), (40, 4, 4), address="A+.hdf")
    smaller = Volume(np.zeros((3, 6, 8), np.uint8), (40, 4, 4), address="A+.hdf")
    assert overall(check_cremi(sound, raw=larger)) == "warning"
    assert any("in voxels of A+.hdf, which is 0:3,0:6,0:8" in line for line in said(sound, "error", raw=smaller))


def test_padded_labels_with_an_offset_are_ok(sound):
    with h5py.File(sound, "a") as file:
        replace_clefts(file, file[CLEFTS][1:3, 1:4, 1:7], offset=[40, 4, 4])
    assert overall(check_cremi(sound)) == "ok"


def test_a_file_that_is_not_hdf5_is_refused(tmp_path):
    (tmp_path / "A.hdf").write_text("nothing")
    with pytest.raises(InputError, match="it is no HDF5 file"):
        check_cremi(tmp_path / "A.hdf")


def test_the_real_volume_is_ok(real_data):
    assert overall(check_cremi(real_data / "vnc-l3/vnc-l3.hdf")) == "ok"
