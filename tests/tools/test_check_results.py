"""Measured scores against the tables of the page on results."""

import json
import re
import sys
from pathlib import Path

import pytest

from tools import check_results
from tools.check_results import PAGE, differences, published

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"^(results-[\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_row_that_a_target_names_is_on_the_page():
    checks = re.findall(r'check_results \S+ "([^"]+)" "([^"]+)"', (ROOT / "Makefile").read_text())
    assert checks
    for heading, row in checks:
        assert published(PAGE.read_text(), heading, row)


def test_every_target_is_documented():
    listed = re.findall(r"^\| `make (results-[\w-]+)`", PAGE.read_text(), flags=re.MULTILINE)
    assert TARGETS
    assert sorted(listed) == sorted(TARGETS)


def test_a_missing_heading_or_row_is_an_error():
    page = "# A\n\n| | F1 |\n|---|---|\n| x | 0.5 |\n"
    with pytest.raises(ValueError, match="0 headings 'B'"):
        published(page, "B", "x")
    with pytest.raises(ValueError, match="no row"):
        published(page, "A", "y")


def test_an_undefined_score_differs():
    assert differences({"f1": None}, {"f1": 0.5}, 0.02) == ["f1: None now, 0.5 on the page"]


@pytest.mark.parametrize(("f1", "code"), [(0.5, 0), (0.6, 1)])
def test_the_exit_code_says_whether_the_page_is_true(f1, code, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("# A\n\n| | F1 |\n|---|---|\n| x | 0.5 |\n")
    (tmp_path / "scores.json").write_text(json.dumps({"f1": f1}))
    monkeypatch.setattr(check_results, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(sys, "argv", ["check_results", str(tmp_path / "scores.json"), "A", "x"])
    with pytest.raises(SystemExit) as ended:
        check_results.main()
    assert ended.value.code == code
    assert ("0.6 now, 0.5 on the page" in capsys.readouterr().out) == bool(code)
