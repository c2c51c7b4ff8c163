"""Files appear whole or not at all."""

import errno
from pathlib import Path

import pytest

from cleftnet.errors import InputError
from cleftnet.files import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_under_the_final_name_before_the_end(tmp_path):
    with replacing(tmp_path / "out.csv") as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path
        assert not (tmp_path / "out.csv").exists()
    assert names(tmp_path) == ["out.csv"]


def write_half_and_raise(path, failure, overwrite=False):
    with replacing(path, overwrite) as temporary:
        temporary.write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, failure):
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(failure):
        write_half_and_raise(tmp_path / "out.csv", failure, overwrite=True)
    assert names(tmp_path) == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"


def test_a_failure_before_anything_was_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="early"), replacing(tmp_path / "out.csv"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_a_folder_replaces_a_folder_and_a_file_does_not(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(InputError, match="is a folder, not a file"), replacing(tmp_path / "out", True) as temporary:
        temporary.touch()
    with replacing(tmp_path / "out", overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


def test_missing_folders_are_made_and_one_that_cannot_be_made_is_an_error(tmp_path):
    with replacing(tmp_path / "a" / "b" / "out.csv") as temporary:
        temporary.touch()
    assert names(tmp_path / "a" / "b") == ["out.csv"]
    with pytest.raises(InputError, match="cannot make the folder"), replacing(tmp_path / "a/b/out.csv/deeper/x.csv"):
        pass


def test_a_full_disk_is_an_error_of_one_line_and_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*out\.csv \(No space left on device\); free some space"):
        write_half_and_raise(tmp_path / "out.csv", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_no_room_for_a_folder_is_an_error_about_the_disk(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(InputError, match="free some space"), replacing(tmp_path / "a" / "out.csv"):
        pass
