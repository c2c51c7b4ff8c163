"""The short form of `python -m benchmarks kill`, and what it would report."""

import subprocess
import sys
from pathlib import Path

from benchmarks.kill.jobs import JOBS, blocks, received, steps
from benchmarks.kill.killing import Bench, differing

ROOT = Path(__file__).parents[2]


def test_a_killed_conversion_and_evaluation_end_as_if_they_never_had_been():
    options = ["--verbs", "convert,evaluate", "--kills", "2"]
    command = [sys.executable, "-m", "benchmarks", "kill", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills, seed 0" in done.stdout
    assert "0 problems" in done.stdout


def test_a_byte_that_differs_is_named(tmp_path):
    bench = Bench(tmp_path, tmp_path, "")
    (tmp_path / "work" / "out.zarr").mkdir(parents=True)
    (tmp_path / "work" / "out.zarr" / "0").write_bytes(b"12")
    (tmp_path / "stdout").write_bytes(b"out.zarr\n")
    expected = {"out.zarr/0": b"12", "out.zarr/1": b"3", "what it prints": b"out.zarr\n"}
    assert differing(bench, JOBS["convert"], expected) == ["out.zarr/1"]
    (tmp_path / "work" / "out.zarr" / "0").write_bytes(b"13")
    assert differing(bench, JOBS["convert"], expected) == ["out.zarr/0", "out.zarr/1"]


def test_what_is_finished_is_counted(tmp_path):
    (tmp_path / "out.zarr.unfinished").mkdir()
    (tmp_path / "out.zarr.unfinished" / "blocks.txt").write_text("0\n3\n")
    (tmp_path / "new" / "states").mkdir(parents=True)
    (tmp_path / "new" / "states" / "step-000000012.safetensors").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample_A+_20160601.hdf.part").write_bytes(b"123")
    assert (blocks(tmp_path), steps(tmp_path), received(tmp_path)) == (2, 12, 3)
    (tmp_path / "out.zarr").mkdir()
    assert blocks(tmp_path) > 2
