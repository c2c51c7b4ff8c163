"""A small work on a file of voxels, and everything that can go wrong while it is done."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from cleftnet.blockwise import BlockGrid, ExecutionSettings, Journal, Task, UnfinishedError, map_blocks, work
from cleftnet.errors import InputError
from cleftnet.geometry import Box

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test

SHAPE, BLOCK, REACH = (12, 20, 16), (4, 8, 8), (1, 2, 1)
RAW = np.random.default_rng(0).integers(0, 100, SHAPE, np.int64)
TASK = Task(settings={"sum of": "3×5×3"}, block=BLOCK)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(work, "PAUSE_S", 0.0)


def window_sums(raw):
    """A convolution with a known receptive field, 3×5×3 ones; outside is zero."""
    padded = np.pad(raw, [(r, r) for r in REACH])
    return sliding_window_view(padded, (3, 5, 3)).sum((-3, -2, -1))


@dataclass
class WindowSums:
    """Window sums of blocks, written to a file of voxels; `raw` lies in memory."""

    out: Path

    def start(self, threads):
        pass

    def read(self, block):
        wide = block.write.grow(REACH)
        low = [max(0, -a) for a in wide.start]
        high = [max(0, b - n) for b, n in zip(wide.stop, SHAPE, strict=True)]
        return np.pad(RAW[block.read.slices], list(zip(low, high, strict=True)))

    def compute(self, block, data, tick):
        return sliding_window_view(data, (3, 5, 3)).sum((-3, -2, -1))

    def write(self, block, result):
        file = np.load(self.out, mmap_mode="r+")
        file[block.write.slices] = result
        file.flush()


def run(one, folder, **execution):
    out = folder / "out.npy"
    if not out.exists():
        np.save(out, np.full(SHAPE, -1, np.int64))
    grid = BlockGrid(Box.of(SHAPE), BLOCK, reads=lambda write: write.grow(REACH))
    with Journal(folder / "journal", TASK) as journal:
        try:
            map_blocks(one, grid, journal, ExecutionSettings(**execution))
        finally:
            finished = [grid[n].write for n in range(len(grid)) if n in journal]
    return finished


def result(folder):
    return np.load(folder / "out.npy")


def finished(folder):
    with Journal(folder / "journal", TASK) as journal:
        return len(journal)


def test_blocks_equal_the_whole_bit_for_bit_away_from_the_border_and_at_it(tmp_path):
    assert len(run(WindowSums(tmp_path / "out.npy"), tmp_path)) == 3 * 3 * 2
    assert (result(tmp_path) == window_sums(RAW)).all()


@dataclass
class Failing(WindowSums):
    """Fails in one step at one box, some number of times."""

    step: str = "read"
    times: int = 10**9
    error: type = OSError

    def fail(self, step, block):
        if step == self.step and block.write.start == (4, 8, 8):
            self.times -= 1
            if self.times >= 0:
                raise self.error("a bad sector")

    def read(self, block):
        self.fail("read", block)
        return super().read(block)

    def compute(self, block, data, tick):
        self.fail("compute", block)
        return super().compute(block, data, tick)

    def write(self, block, result):
        self.fail("write", block)
        super().write(block, result)


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_a_step_that_fails_twice_is_tried_a_third_time(tmp_path, step):
    run(Failing(tmp_path / "out.npy", step, times=2), tmp_path)
    assert (result(tmp_path) == window_sums(RAW)).all()


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_a_block_that_always_fails_is_reported_while_the_others_finish_and_a_rerun_computes_only_it(
    tmp_path, step, messages
):
    with pytest.raises(UnfinishedError, match="1 of 18 blocks failed, the first at 4:8,8:16,8:16: a bad sector"):
        run(Failing(tmp_path / "out.npy", step), tmp_path)
    assert "block 4:8,8:16,8:16 failed: a bad sector" in messages.text
    assert finished(tmp_path) == 17
    mended = Counting(tmp_path / "out.npy")
    run(mended, tmp_path)
    assert mended.computed == [Box((4, 8, 8), (8, 16, 16))]
    assert (result(tmp_path) == window_sums(RAW)).all()


def test_a_block_that_fails_because_of_the_input_raises_an_input_error(tmp_path):
    with pytest.raises(InputError, match="1 of 18 blocks failed"):
        run(Failing(tmp_path / "out.npy", "read", error=InputError), tmp_path)


@dataclass
class Counting(WindowSums):
    def __post_init__(self):
        self.computed = []

    def compute(self, block, data, tick):
        self.computed.append(block.write)
        return super().compute(block, data, tick)


@dataclass
class FullDisk(Counting):
    """Writes five blocks, then there is no room."""

    def write(self, block, result):
        if len(self.computed) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(block, result)


def test_a_full_disk_ends_the_run_at_once_and_loses_nothing(tmp_path):
    full = FullDisk(tmp_path / "out.npy")
    with pytest.raises(
        InputError, match=r"cannot write \(No space left on device\); free .*: finished blocks are kept"
    ):
        run(full, tmp_path)
    assert len(full.computed) <= 8  # those in flight
    kept = finished(tmp_path)
    assert kept >= 4
    rest = Counting(tmp_path / "out.npy")
    run(rest, tmp_path)
    assert len(rest.computed) == 18 - kept
    assert (result(tmp_path) == window_sums(RAW)).all()


class Broken(WindowSums):
    def compute(self, block, data, tick):
        raise ValueError("the GPU fell off the bus")


def test_when_everything_fails_the_run_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.blockwise.mapping.GIVE_UP", 5)
    with pytest.raises(UnfinishedError, match="5 blocks in a row failed, and the others were left"):
        run(Broken(tmp_path / "out.npy"), tmp_path)


@dataclass
class Interrupted(Counting):
    def compute(self, block, data, tick):
        if len(self.computed) == 4:
            raise KeyboardInterrupt
        return super().compute(block, data, tick)


def test_an_interruption_keeps_finished_blocks(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(tmp_path / "out.npy"), tmp_path)
    assert 3 <= finished(tmp_path) <= 4
    run(WindowSums(tmp_path / "out.npy"), tmp_path)
    assert (result(tmp_path) == window_sums(RAW)).all()


@dataclass
class Overlapping(WindowSums):
    """Every computation waits until the next block has been read and the block before the last was written."""

    def __post_init__(self):
        self.read_blocks, self.written = threading.Semaphore(0), []

    def read(self, block):
        self.read_blocks.release()
        return super().read(block)

    def compute(self, block, data, tick):
        last = block.write.stop == SHAPE
        assert self.read_blocks.acquire(timeout=20)
        if not last:
            assert self.read_blocks.acquire(timeout=20), "the next block was not read meanwhile"
            self.read_blocks.release()
        return super().compute(block, data, tick)


def test_the_next_block_is_read_while_one_is_computed(tmp_path):
    run(Overlapping(tmp_path / "out.npy"), tmp_path)


@dataclass
class Deadly(WindowSums):
    """Kills its process in mid-block, once."""

    def compute(self, block, data, tick):
        if block.write.start == (4, 8, 8):
            try:
                (self.out.parent / "killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().compute(block, data, tick)


def test_two_workers_of_which_one_is_killed_in_mid_block_write_the_same_as_one_process(tmp_path):
    run(Deadly(tmp_path / "out.npy"), tmp_path, workers=2)
    assert (tmp_path / "killed").exists()
    assert finished(tmp_path) == 18
    assert (result(tmp_path) == window_sums(RAW)).all()


@dataclass
class Slow(WindowSums):
    """After five blocks, says so and waits to be killed."""

    def compute(self, block, data, tick):
        if block.write.start[0] >= 4:
            (self.out.parent / "pid").write_text(str(os.getpid()))
            (self.out.parent / "pid").replace(self.out.parent / "under way")
            time.sleep(60)
        return super().compute(block, data, tick)


def wait_for(path, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def test_after_the_scheduler_is_killed_another_run_completes_the_output(tmp_path):
    address = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    options = ["--scheduler-file", str(address), "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *options], **quiet)
    worker = subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", *options], **quiet)
    try:
        wait_for(address)
        killing = threading.Thread(target=lambda: (wait_for(tmp_path / "under way"), scheduler.kill()))
        killing.start()
        with pytest.raises(UnfinishedError, match="the Dask scheduler was lost"):
            run(Slow(tmp_path / "out.npy"), tmp_path, scheduler=str(address))
        killing.join()
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    assert 1 <= finished(tmp_path) < 18
    run(WindowSums(tmp_path / "out.npy"), tmp_path)
    assert (result(tmp_path) == window_sums(RAW)).all()


def test_when_the_parent_is_killed_its_workers_end_and_a_rerun_completes_the_output(tmp_path):
    code = f"""
        import importlib.util, pathlib, sys
        spec = importlib.util.spec_from_file_location("mapping_test", {__file__!r})
        test = importlib.util.module_from_spec(spec)
        sys.modules["mapping_test"] = test
        spec.loader.exec_module(test)
        if __name__ == "__main__":
            folder = pathlib.Path({str(tmp_path)!r})
            test.run(test.Slow(folder / "out.npy"), folder, workers=1)
    """
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(code))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(tmp_path / "under way")
    finally:
        parent.kill()
        parent.wait()
    worker = int((tmp_path / "under way").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(worker).wait(timeout=30)
    assert 1 <= finished(tmp_path) < 18
    run(WindowSums(tmp_path / "out.npy"), tmp_path)
    assert (result(tmp_path) == window_sums(RAW)).all()


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:9", "no-such-scheduler.json"])
def test_a_missing_scheduler_is_an_error_of_one_line(tmp_path, monkeypatch, where):
    monkeypatch.setattr("cleftnet.blockwise.cluster.CONNECT_S", 1)
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {where}"):
        run(WindowSums(tmp_path / "out.npy"), tmp_path, scheduler=where)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"workers": -1}, "workers: .*greater than or equal to 0"),
        ({"tries": 0}, "tries: .*greater than or equal to 1"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "choose one"),
        ({"block": (8, 0, 8)}, r"block: .* such as \(64, 512, 512\)"),
    ],
)
def test_execution_settings_out_of_range_are_refused(execution, message):
    with pytest.raises(InputError, match=message):
        ExecutionSettings(**execution)
