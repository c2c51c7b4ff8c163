"""The tool that measures what the tests catch, on a repository of one module and one test."""

import json
import os
import random
import subprocess
import sys

import pytest

from tools import mutate

SOURCE = 'def larger(a: int, b: int | None = 1) -> int:\n    """Return the larger."""\n    return a if a > b else b\n'
TEST = "from cleftnet.tiny import larger\n\n\ndef test_larger():\n    assert larger(3, 2) == 3\n    assert larger(2, 3) == 3\n"


def test_a_change_that_means_nothing_at_run_time_is_no_mutant():
    changed = [mutate.mutated(SOURCE, operator, number) for operator, number, _ in mutate.places(SOURCE)]
    assert None in changed  # int | None
    assert any(text and "a < b" in text for text in changed)
    assert all(text is None or "-> int:" in text for text in changed)


def test_the_page_lists_what_no_test_noticed():
    results = [
        {"path": "src/cleftnet/nets/keys.py", "line": 3, "noticed": True, "change": "- a\n+ b"},
        {"path": "src/cleftnet/metrics/voxels.py", "line": 7, "noticed": False, "change": "- c\n+ d"},
    ]
    page = mutate.summary(results, 40)
    assert page.startswith("1 of 2 mutants were noticed, of 40 in all.")
    assert "| metrics | 1 | 0 | 1 |" in page
    assert "voxels.py:7\n\n```diff\n- c\n+ d\n```" in page
    assert "keys.py:3" not in page


def test_the_same_seed_draws_the_same_mutants_in_the_same_order():
    one, same, other = (mutate.all_mutants(mutate.ROOT, ["geometry"], random.Random(seed)) for seed in (0, 0, 1))
    assert one == same != other
    assert {mutant.tests for mutant in one} == {"tests/test_geometry.py"}


@pytest.mark.parametrize(("source", "passed"), [(SOURCE, True), (SOURCE.replace("a > b", "a < b"), False)])
def test_tests_run_on_the_copy_and_say_whether_they_pass(tmp_path, source, passed):
    copy = tiny_copy(tmp_path, source)
    found = in_a_process("print(mutate.passes(path, ['test_tiny.py'], 60)[0])", copy)
    assert found == str(passed)


def test_tests_that_run_the_line_come_first_and_the_fastest_of_them_before_the_others():
    mutant = mutate.Mutant("src/a.py", 3, "", 0, "tests/a")
    known = mutate.Known(
        {"slow": 9, "fast": 1, "other": 0.5, "none": 0}, {"src/a.py": {"3": ["slow", "fast"], "4": ["other"]}}
    )
    assert known.chosen(mutant, 10) == ["fast", "slow", "none"]
    assert known.chosen(mutant, 100) == ["fast", "slow", "none", "other"]
    assert known.chosen(mutant, 0) == ["fast"]  # never none
    assert known.chosen(mutant._replace(path="src/b.py"), 0.5) == ["none", "other"]


def test_what_each_test_runs_is_measured_once(tmp_path):
    copy = tiny_copy(tmp_path, SOURCE + "\n\ndef unused() -> int:\n    return 1\n")
    code = (
        "mutate.SOURCES = {'tiny.py': 'test_tiny.py'}; print(json.dumps(mutate.known_of(path, 'test_tiny.py', path)))"
    )
    seconds, lines = json.loads(in_a_process(code, copy))
    assert seconds.keys() == {"test_tiny.py::test_larger"}
    module = lines["src/cleftnet/tiny.py"]
    assert (module["1"], module["3"]) == ([""], ["test_tiny.py::test_larger"])
    assert "7" not in module  # no test runs it
    (copy / "test_tiny.py").unlink()
    assert json.loads(in_a_process(code, copy)) == [seconds, lines]


def tiny_copy(folder, source):
    (folder / "src/cleftnet").mkdir(parents=True)
    (folder / "src/cleftnet/__init__.py").touch()
    (folder / "src/cleftnet/tiny.py").write_text(source)
    (folder / "test_tiny.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n")
    return folder


def in_a_process(code, folder):
    code = f"import json, sys; from pathlib import Path; from tools import mutate; path = Path(sys.argv[1]); {code}"
    command = [sys.executable, "-c", code, str(folder)]
    environment = {**os.environ, "PYTHONPATH": "."}  # the copy's own package, also where another one is on the path
    found = subprocess.run(command, cwd=mutate.ROOT, capture_output=True, text=True, check=True, env=environment)
    return found.stdout.splitlines()[-1]
