"""Measured scores against the tables of the page on results."""

import json
import re
import sys
from pathlib import Path

import pytest

from tools import check_results
from tools.check_results import PAGE, differences, published, published_rows, row_differences, table

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")
TARGETS = re.findall(r"^(results-[\w-]+):", MAKEFILE, flags=re.MULTILINE)
CHECKS = re.findall(r'\$\(CHECK\) \S+ "([^"$]+)"( "[^"]+")?([^;\n]*)', MAKEFILE)
CHECKED_BY_TESTS = {"Out of fold: tissue that a network has not seen", "The paper's tables"}  # make results-cells
WITHOUT_TARGET = {  # heading: why
    "Regenerating the tables": "the list of targets",
    "Which claims hold here": "quotes the tables above it",
    "Another patch size": "of a model that no longer exists",
}


def option(name, default, options):
    found = re.search(rf"--{name} (\S+)", options)
    return found[1] if found else default


@pytest.mark.parametrize(("heading", "row", "options"), CHECKS)
def test_the_row_or_the_table_that_a_target_names_is_on_the_page(heading, row, options):
    page, number = ROOT / option("page", PAGE, options), int(option("table", "1", options))
    if row:
        assert published(page.read_text(), heading, row.strip(' "'), number)
    else:
        assert published_rows(page.read_text(), heading, number)


def test_every_table_of_the_page_has_a_target_that_checks_it():
    checked = {
        (heading, int(option("table", "1", options))) for heading, _, options in CHECKS if "--page" not in options
    }
    unchecked = []
    for heading in re.findall(r"^#+ (.+)$", PAGE.read_text(), flags=re.MULTILINE):
        if heading in CHECKED_BY_TESTS or heading in WITHOUT_TARGET:
            continue
        for number in range(1, 10):
            try:
                table(PAGE.read_text(), heading, number)
            except ValueError:
                break
            if (heading, number) not in checked:
                unchecked.append((heading, number))
    assert unchecked == []


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


def test_a_table_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="1 tables under 'A', no number 2"):
        table("# A\n\n| | F1 |\n|---|---|\n| x | 0.5 |\n\ntext\n\n# B\n\n| | F1 |\n|---|---|\n| x | 1 |\n", "A", 2)


def test_a_row_that_was_not_measured_differs():
    assert row_differences({"400": {"f1": 0.5}}, {"400": {"f1": 0.5}, "800": {"f1": 0.6}}, 0.02) == [
        "800: f1: None now, 0.6 on the page"
    ]


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


ROWS = {
    "scores.json": json.dumps({"sweep": {"rows": [{"threshold": 0.10, "f1": 0.5}, {"threshold": 0.2, "f1": 0.7}]}}),
    "scores.csv": "threshold,f1\n0.10,0.5\n0.2,0.7\n",
    "scores.md": "# A\n\n| threshold | F1 \u2191 |\n| --- | ---: |\n| 0.1 | 0.5 \u00b1 0.1 |\n| 0.2 | 0.7 |\n",
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("second", "code"), [("0.70", 0), ("0.60", 1)])
def test_rows_are_found_by_their_first_cell(name, second, code, tmp_path, monkeypatch, capsys):
    page = f"# A\n\n| threshold | F1 |\n|---|---|\n| 0.1 | **0.50** |\n| 0.2, the best | {second} |\n"
    (tmp_path / "page.md").write_text(page)
    (tmp_path / name).write_text(ROWS[name].replace("| 0.2 |", "| 0.2, the best |"))
    arguments = [str(tmp_path / name), "A", "--page", str(tmp_path / "page.md"), "--rows", "sweep.rows"]
    monkeypatch.setattr(sys, "argv", ["check_results", *arguments, "--by", "threshold"])
    with pytest.raises(SystemExit) as ended:
        check_results.main()
    assert ended.value.code == code
    said = capsys.readouterr().out.strip()
    assert said == ("0.2, the best: f1: 0.7 now, 0.6 on the page" if code else "2 scores as on the page")
