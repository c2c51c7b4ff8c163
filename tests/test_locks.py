"""A lock has one holder, and none once its holder is gone."""

import errno
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from cleftnet import files
from cleftnet.errors import InputError
from cleftnet.files import holding

HOLD = """
import runpy, sys, time
from pathlib import Path
holding = runpy.run_path(sys.argv[1])["holding"]  # the file alone, since its package takes seconds to import
with holding(Path(sys.argv[2])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_lock_of_a_killed_process_is_free_again(tmp_path):
    path = tmp_path / "folder" / "lock"
    child = subprocess.Popen([sys.executable, "-c", HOLD, files.__file__, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "True\n"
    with holding(path) as mine:
        assert not mine
    assert str(child.pid) in path.read_text()
    child.kill()
    child.communicate()
    with holding(path) as mine:
        assert mine


def test_a_full_disk_is_an_error_of_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    with (
        pytest.raises(InputError, match=r"cannot write .*lock \(No space left on device\); free some space"),
        holding(tmp_path / "lock"),
    ):
        pass


def test_a_lock_can_be_taken_again_after_its_body(tmp_path):
    for _ in range(2):
        with holding(tmp_path / "lock") as mine:
            assert mine


def report_and_wait(started):
    started.set()
    time.sleep(60)


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    """The workers that prepare patches outlive a killed training by seconds."""
    fork = multiprocessing.get_context("fork")
    started = fork.Event()
    child = fork.Process(target=report_and_wait, args=(started,), daemon=True)
    with holding(tmp_path / "lock"):
        child.start()
        assert started.wait(60)
    try:
        with holding(tmp_path / "lock") as mine:
            assert mine
    finally:
        child.kill()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_knows_no_locks_every_process_may_go_on(tmp_path, monkeypatch, error):
    def flock(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", flock)
    with holding(tmp_path / "lock") as one, holding(tmp_path / "lock") as other:
        assert one
        assert other


def test_a_lock_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match="lock"), holding(tmp_path / "lock"):
        pass
