"""Compares scores with the row of a table in docs/results.md, and fails where they differ.

    python -m tools.check_results SCORES.json "The quick recipe" "after 1600 steps"

SCORES.json is what `cleftnet evaluate --json` printed. The table is the first one under the heading; the row is the one whose
first cell begins with the given words. The page is the only place with the numbers.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/results.md"
KEYS = {  # words of a column of the page: key of an evaluation
    "auc": "auc",
    "f1": "f1",
    "voxel f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "cremi score nm": "cremi_score",
    "adgt nm": "adgt",
    "adgt": "adgt",
    "adf nm": "adf",
    "adf": "adf",
}
TOLERANCE = 0.02  # relative; another processor or version of PyTorch trains and predicts slightly differently


def published(page: str, heading: str, row: str) -> dict[str, float]:
    r"""Return the scores of a row of the first table under a heading.

    Args:
        page: Text of the page.
        heading: Text of the heading, without its marks.
        row: How the first cell of the row begins.

    Raises:
        ValueError: when there is no such heading or row, or it holds no score.

    Example:
        >>> published("## Demo\n\n| | AUC | s |\n|---|---|---|\n| seed 0 | **0.99** | 3 |\n", "Demo", "seed")
        {'auc': 0.99}
    """
    parts = re.split(rf"^#+ {re.escape(heading)}\n", page, flags=re.MULTILINE)
    if len(parts) != 2:
        raise ValueError(f"the page has {len(parts) - 1} headings '{heading}'; expected one")
    section = re.split(r"^#+ ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip(" *") for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    names = rows[0] if rows else []
    for cells in rows[2:]:
        if cells[0].startswith(row):
            named = {KEYS.get(name.lower()): cell for name, cell in zip(names, cells, strict=False)}
            numbers = {key: re.match(r"-?[\d.]+", cell) for key, cell in named.items() if key}
            scores = {key: float(found[0]) for key, found in numbers.items() if found}
            if scores:
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


def main() -> None:
    """Compare and print; exit code 1 where a score differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("heading")
    parser.add_argument("row")
    parser.add_argument(
        "--only", nargs="+", help="Keys to compare, where the table has other scores under the same words."
    )
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    given = parser.parse_args()
    expected = published(PAGE.read_text(), given.heading, given.row)
    expected = {key: value for key, value in expected.items() if given.only is None or key in given.only}
    wrong = differences(json.loads(given.scores.read_text()), expected, given.tolerance)
    print("\n".join(wrong) or f"{len(expected)} scores as on the page ({', '.join(expected)})")
    raise SystemExit(1 if wrong or not expected else 0)


if __name__ == "__main__":
    main()
