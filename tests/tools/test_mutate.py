"""The tool that measures what the tests catch, on a repository of one module and one test."""

import random
import subprocess
import sys

import pytest

from tools import mutate

SOURCE = 'def larger(a: int, b: int | None = 1) -> int:\n    """Return the larger."""\n    return a if a > b else b\n'
TEST = "from tiny import larger\n\n\ndef test_larger():\n    assert larger(3, 2) == 3\n    assert larger(2, 3) == 3\n"


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
    (tmp_path / "src").mkdir()
    (tmp_path / "src/tiny.py").write_text(source)
    (tmp_path / "test_tiny.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n")
    code = (
        "import sys; from pathlib import Path; from tools.mutate import passes; "
        "print(passes(Path(sys.argv[1]), ['test_tiny.py'], 60)[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, cwd=mutate.ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == str(passed)
