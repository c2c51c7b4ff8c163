"""The short form of `python -m benchmarks kill`, and what it would report."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill.jobs import JOBS, blocks, received, steps
from benchmarks.kill.killing import Bench, differing

ROOT = Path(__file__).parents[2]


def run_kill(*options):
    command = [sys.executable, "-m", "benchmarks", "kill", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_fault(said, fault):
    """A fault happened; only those that need rights which a machine may not give may be skipped."""
    line = re.search(rf"^convert: {fault}: (.*)$", said, re.MULTILINE)
    assert line is not None
    if not line[1].startswith("skipped"):
        assert int(line[1].split()[0]) > 0
    else:
        assert fault in ("disk", "permission")


def test_a_disturbed_conversion_ends_as_if_it_never_had_been():
    said = run_kill("--verbs", "convert", "--kills", "1", "--faults", "disk,permission")
    assert re.search(r"1 kills and 2 other faults, seed 0, .*: 0 problems", said)
    for fault in ("disk", "permission"):
        check_fault(said, fault)


@pytest.mark.slow
def test_every_fault_of_a_conversion_and_an_evaluation():
    said = run_kill("--verbs", "convert,evaluate", "--kills", "2")
    assert re.search(r"4 kills and 6 other faults, seed 0, .*: 0 problems", said)
    for fault in ("disk", "file-size", "permission", "chunk"):
        check_fault(said, fault)


def test_an_end_with_a_traceback_or_another_code_is_a_problem(tmp_path):
    bench = Bench(tmp_path, tmp_path, "")
    for said, code, well in (
        ("warning: odd\nerror: the disk is full\n", 2, True),
        ("error: the disk is full\n", 1, False),
        ("Traceback (most recent call last):\n  x\nerror: y\n", 2, False),
        ("error: one\nerror: two\n", 2, False),
        ("", 2, False),
    ):
        (tmp_path / "stderr").write_text(said)
        assert bench.failed_well(code) is well


def test_a_byte_that_differs_is_named(tmp_path):
    bench = Bench(tmp_path, tmp_path, "")
    (tmp_path / "work" / "out.zarr").mkdir(parents=True)
    (tmp_path / "work" / "out.zarr" / "0").write_bytes(b"12")
    (tmp_path / "stdout").write_bytes(b"out.zarr\n")
    expected = {"out.zarr/0": b"12", "out.zarr/1": b"3", "what it prints": b"out.zarr\n"}
    assert differing(bench, JOBS["convert"], expected) == ["out.zarr/1"]
    (tmp_path / "work" / "out.zarr" / "0").write_bytes(b"13")
    assert differing(bench, JOBS["convert"], expected) == ["out.zarr/0", "out.zarr/1"]


def test_times_in_tables_are_not_compared(tmp_path):
    bench = Bench(tmp_path, tmp_path, "")
    (tmp_path / "work" / "new").mkdir(parents=True)
    (tmp_path / "work" / "new" / "tables.md").write_text("| 0.50 | 4,514 | 0.89 | 0.80 |\n")
    (tmp_path / "stdout").write_bytes(b"")
    for table, wrong in (("| 0.50 | 4,514 |  | 0.80 |\n", []), ("| 0.50 | 4,514 |  | 0.81 |\n", ["new/tables.md"])):
        expected = {"new/tables.md": table.encode()}
        assert differing(bench, JOBS["compare"], expected) == wrong


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
