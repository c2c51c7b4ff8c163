"""Compares measured scores with a table of docs/results.md or another page, and fails where they differ.

    python -m tools.check_results SCORES.json "The quick recipe" "after 1600 steps"
    python -m tools.check_results SWEEP.json "Tiles that overlap" --rows rows --by overlap

The table is the first one under the heading, or that of --table. With a row, SCORES is what `cleftnet evaluate --json` printed,
and the row is the one whose first cell begins with the given words. Without one, every row of the table is looked up in SCORES
by its first cell: in a list in a JSON file, in a CSV file, or in the table under the same heading of a Markdown file. The
numbers stand on the page alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/results.md"
KEYS = {  # words of a column of a page: key of an evaluation, or of a benchmark
    "auc": "auc",
    "f1": "f1",
    "voxel f1": "f1",
    "best f1": "best_f1",
    "object f1": "object_f1",
    "precision": "precision",
    "recall": "recall",
    "f1 of synapses' voxels": "synapse_voxel_f1",
    "cremi score of synapses nm": "synapse_cremi_score",
    "cremi score nm": "cremi_score",
    "cremi score": "cremi_score",
    "adgt nm": "adgt",
    "adgt": "adgt",
    "adf nm": "adf",
    "adf": "adf",
    "speed": "speed",  # the ratio of a benchmark; its seconds depend on the machine
    "memory": "memory",
    "synapses": "synapses",
    "as they are": "plain",
    "volume matched": "volume",
    "sections matched": "sections",
}
TOLERANCE = 0.02  # relative; another processor or version of PyTorch trains and predicts slightly differently
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")


def table(page: str, heading: str, number: int = 1) -> list[dict[str, str]]:
    r"""Return the rows of a table under a heading: the text of each cell by the words of its column.

    Args:
        page: Text of the page.
        heading: Text of the heading, without its marks.
        number: Which of the tables below it, from 1.

    Raises:
        ValueError: when there is no such heading or table.

    Example:
        >>> table("## Demo\n\n| | AUC |\n|---|---|\n| seed 0 | **0.99** |\n", "Demo")
        [{'': 'seed 0', 'auc': '0.99'}]
    """
    parts = re.split(rf"^#+ {re.escape(heading)}\n", page, flags=re.MULTILINE)
    if len(parts) != 2:
        raise ValueError(f"the page has {len(parts) - 1} headings '{heading}'; expected one")
    section = re.split(r"^#+ ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"(?:^\|.*\|$\n?){3,}", section, flags=re.MULTILINE)
    if len(blocks) < number:
        raise ValueError(f"there are {len(blocks)} tables under '{heading}', no number {number}")
    names, _, *rows = ([cell.strip(" *") for cell in line[1:-1].split("|")] for line in blocks[number - 1].splitlines())
    columns = [name.rstrip("↑↓ ").lower() for name in names]
    return [dict(zip(columns, cells, strict=True)) for cells in rows]


def published_rows(page: str, heading: str, number: int = 1) -> dict[str, dict[str, float]]:
    r"""Return the scores of every row of a table that has any, by its first cell.

    Example:
        >>> page = "## Demo\n\n| step | AUC | s |\n|---|---|---|\n| 400 | **0.99** | 3 |\n| 800 | | 4 |\n"
        >>> published_rows(page, "Demo")
        {'400': {'auc': 0.99}}
    """
    found = {}
    for row in table(page, heading, number):
        numbers = {KEYS[name]: NUMBER.match(cell) for name, cell in row.items() if name in KEYS}
        scores = {key: float(number[0].replace(",", "")) for key, number in numbers.items() if number}
        if scores:
            found[next(iter(row.values()))] = scores
    return found


def published(page: str, heading: str, row: str, number: int = 1) -> dict[str, float]:
    r"""Return the scores of a row of a table under a heading.

    Args:
        page: Text of the page.
        heading: Text of the heading, without its marks.
        row: How the first cell of the row begins.
        number: Which of the tables below the heading, from 1.

    Raises:
        ValueError: when there is no such heading, table or row, or it holds no score.

    Example:
        >>> published("## Demo\n\n| | AUC | s |\n|---|---|---|\n| seed 0 | **0.99** | 3 |\n", "Demo", "seed")
        {'auc': 0.99}
    """
    rows = published_rows(page, heading, number)
    for name, scores in rows.items():
        if name.startswith(row):
            return scores
    raise ValueError(f"no row of the table under '{heading}' begins with '{row}' and holds a score")


def differences(scores: Mapping[str, float | None], expected: Mapping[str, float], tolerance: float) -> list[str]:
    """Return one line for each score that differs from the page by more than the tolerance.

    Args:
        scores: What was measured now.
        expected: What the page says.
        tolerance: Largest relative difference.

    Example:
        >>> differences({"f1": 0.61, "auc": 0.993}, {"f1": 0.638, "auc": 0.9929}, 0.02)
        ['f1: 0.61 now, 0.638 on the page']
    """
    lines = []
    for key, value in expected.items():
        now = scores.get(key)
        if now is None or abs(now - value) > tolerance * abs(value):
            lines.append(f"{key}: {now if now is None else format(now, '.4g')} now, {value:g} on the page")
    return lines


def measured_rows(path: Path, rows: str, by: str) -> dict[str, dict[str, float | None]]:
    """Return the scores in a file by the name of their row: text, or a number as short as possible.

    Args:
        path: A CSV file with a head, or a JSON file.
        rows: Where in the JSON file the list of rows is: names of objects, joined by dots.
        by: The column or key that names a row.
    """
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
    else:
        inner = json.loads(path.read_text())
        for name in rows.split("."):
            inner = inner[name]
        found = inner
    return {_row_name(row[by]): {key: _number(value) for key, value in row.items() if key != by} for row in found}


def _number(value: Any) -> float | None:
    """Return a value as a number, None where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _row_name(value: Any) -> str:
    """Return the name of a row, numbers as short as possible: 0.50 and 0.5 are the same."""
    number = _number(value)
    return str(value) if number is None else f"{number:g}"


def row_differences(
    measured: Mapping[str, Mapping[str, float | None]], expected: Mapping[str, Mapping[str, float]], tolerance: float
) -> list[str]:
    """Return one line for each score of a table that was not measured, or differs by more than the tolerance.

    Args:
        measured: Scores by the name of their row.
        expected: Scores on the page by the first cell of their row: that name, or what stands before its first comma.
        tolerance: Largest relative difference.

    Example:
        >>> row_differences({"0.5": {"auc": 0.97}}, {"0.5, the default": {"auc": 0.99}}, 0.01)
        ['0.5, the default: auc: 0.97 now, 0.99 on the page']
    """
    lines = []
    for name, scores in expected.items():
        found = measured.get(_row_name(name), measured.get(_row_name(name.split(",")[0]), {}))
        lines += [f"{name}: {line}" for line in differences(found, scores, tolerance)]
    return lines


def main() -> None:
    """Compare and print; exit code 1 where a score differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("heading")
    parser.add_argument("row", nargs="?")
    parser.add_argument("--table", type=int, default=1, help="which of the tables under the heading, from 1")
    parser.add_argument("--rows", default="rows", help="without ROW: where the list of rows is in SCORES.json")
    parser.add_argument("--by", default="name", help="without ROW: the key that names a row")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/results.md")
    parser.add_argument("--only", nargs="+", help="keys to compare; default: all that the table has")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    given = parser.parse_args()
    page = given.page.read_text()
    if given.row is not None:
        expected = {given.row: published(page, given.heading, given.row, given.table)}
        measured: Mapping[str, Mapping[str, float | None]] = {given.row: json.loads(given.scores.read_text())}
    else:
        expected = published_rows(page, given.heading, given.table)
        measured = (
            published_rows(given.scores.read_text(), given.heading, given.table)
            if given.scores.suffix == ".md"
            else measured_rows(given.scores, given.rows, given.by)
        )
    expected = {
        name: {key: value for key, value in scores.items() if given.only is None or key in given.only}
        for name, scores in expected.items()
    }
    number = sum(map(len, expected.values()))
    wrong = row_differences(measured, expected, given.tolerance)
    print("\n".join(wrong) or f"{number} scores as on the page")
    raise SystemExit(1 if wrong or not number else 0)


if __name__ == "__main__":
    main()
