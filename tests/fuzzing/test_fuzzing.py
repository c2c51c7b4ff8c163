"""The short form of `make fuzz`, and its parts."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzzing import damage
from tools.fuzzing.cases import draw_case
from tools.fuzzing.damage import damage_bytes, damage_text
from tools.fuzzing.running import judge

ROOT = Path(__file__).parents[2]


def test_damaged_volumes_end_in_one_line():
    command = [sys.executable, "-m", "tools.fuzzing", "--short", "--inputs", "60", "--seconds", "4", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 ended badly" in done.stdout


def test_the_same_seed_and_number_draw_the_same_input():
    first, again, other = (draw_case(seed, 5)[0] for seed in (0, 0, 1))
    assert first == again
    assert first.arguments != other.arguments


@pytest.mark.parametrize("seed", range(20))
def test_damage_changes_a_file(seed):
    data = bytes(range(256)) * 20
    assert damage_bytes(data, random.Random(f"{seed}")) != data or seed  # a byte may by chance be set to what it was
    assert isinstance(damage_text('{"shape": [1, 2], "a": {"b": null}}', random.Random(seed), "json"), str)


@pytest.mark.parametrize(
    ("code", "stderr", "problem"),
    [
        (0, "", ""),
        (2, "error: no such file\n", ""),
        (2, "warning: odd\nerror: no such file\n", ""),
        (2, "error: no such\nfile\n", "not one line"),
        (2, "", "not one line"),
        (1, "Traceback (most recent call last):\nKeyError: 1\n", "exit code 1: KeyError: 1"),
        (-11, "", "ended by signal 11"),
        (-1000, "", "hang"),
        (0, "warning: overflow encountered in multiply\n", "a library's warning"),
    ],
)
def test_ends_are_judged(tmp_path, code, stderr, problem):
    found = judge(draw_case(0, 0)[0], code, stderr, tmp_path, {})
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


def test_what_a_verb_left_behind_is_a_problem(tmp_path):
    (tmp_path / ".out.hdf.12ab34cd.part").touch()
    assert judge(draw_case(0, 0)[0], 0, "", tmp_path, {}).startswith("left behind: .out.hdf")


def test_an_output_in_spite_of_an_error_is_a_problem(tmp_path):
    case = next(c for n in range(1000) if (c := draw_case(0, n)[0]).arguments[0] == "convert")
    (tmp_path / "out.hdf").touch()
    assert judge(case, 2, "error: damaged\n", tmp_path, {}) == "output in spite of an error: out.hdf"


def test_a_changed_input_is_a_problem(tmp_path):
    case = next(c for n in range(1000) if (c := draw_case(0, n)[0]).arguments[0] == "info")
    (tmp_path / "a.hdf").write_bytes(b"other")
    assert judge(case, 0, "", tmp_path, {"a.hdf": (3, 1)}) == "changed its input a.hdf"


def test_damage_never_changes_the_odd_values_that_later_inputs_draw():
    before = json.dumps(damage.ODD_VALUES)
    for seed in range(300):
        draw, tree = random.Random(seed), {"a": [1, {"b": 2}], "c": {}}
        for _ in range(8):
            tree = damage.damage_tree(tree, draw)
            json.dumps(tree)  # no value holds itself
    assert json.dumps(damage.ODD_VALUES) == before
