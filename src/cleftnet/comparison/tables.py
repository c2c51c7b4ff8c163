"""Tables of a comparison: mean and standard deviation over seeds, the scores of the paper, and differences between rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cleftnet.comparison.cells import Cell, ResultRecord
from cleftnet.comparison.differences import Difference
from cleftnet.comparison.recipe import Comparison, TableSettings

SCORES: dict[str, tuple[str, int, Callable[[Cell], float | None]]] = {
    "cremi_score": ("CREMI score nm ↓", 1, lambda cell: cell.scores.cremi_score),
    "auc": ("AUC ↑", 3, lambda cell: cell.scores.auc),
    "f1": ("F1 ↑", 3, lambda cell: cell.scores.f1),
    "best_cremi_score": ("best CREMI score nm ↓", 1, lambda cell: cell.scores.best_cremi_score),
    "object_f1": ("synapse F1 ↑", 3, lambda cell: cell.objects.f1),
    "synapse_voxel_f1": ("F1 of synapses' voxels ↑", 3, lambda cell: cell.objects.voxel_f1),
    "synapse_cremi_score": ("CREMI score of synapses nm ↓", 1, lambda cell: cell.objects.cremi_score),
    "average_precision": ("synapse AP ↑", 3, lambda cell: cell.objects.average_precision),
    "parameters": ("parameters", 0, lambda cell: cell.effort.parameters),
    "seconds_per_step": ("s a step", 2, lambda cell: cell.effort.seconds_per_step),
}
ONLY_FOLDS = ("synapse_voxel_f1", "synapse_cremi_score")  # elsewhere they are chosen on what they are scored on
NO_FOLDS = ("average_precision",)  # every fold has an operating point of its own
ABOUT = (
    "Validation. The threshold of each cell is that of its best voxel F1 there, and threshold and smallest size of synapses "
    "are chosen there as well: all are chosen on the data that they are scored on, alike for every row. "
    "Mean ± standard deviation over seeds."
)
POOLED = (
    "F1, AUC and synapse F1 are pooled: voxels and synapses of all regions are counted together. CREMI scores and synapse AP "
    "are means over the regions."
)
ABOUT_FOLDS = (
    "Out of fold: every voxel is predicted by a model that never saw its fold, and calibration, thresholds, seeds and smallest "
    "size of synapses are chosen on the other folds. F1 and CREMI score of synapses are those of the voxels that are left in "
    "synapses. Best CREMI score and nothing else is chosen on what it is scored on. "
    "Mean ± standard deviation over seeds."
)
PAPER = "CREMI, paper: "
VERDICTS = {"reference": "{reference} better", "row": "{row} better", "noise": "noise", None: "fewer than 3 trainings"}


class Spread(ResultRecord):
    """Mean and standard deviation of a score over seeds.

    Attributes:
        mean: Mean over the seeds; None where the score of one is undefined.
        sd: Standard deviation of a sample (divided by n − 1); None for fewer than two seeds.
        seeds: Number of seeds.
    """

    mean: float | None
    sd: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Summarize one value for each seed.

        Example:
            >>> Spread.of([1.0, 3.0])
            Spread(mean=2.0, sd=1.4142135623730951, seeds=2)
        """
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return cls(mean=None, sd=None, seeds=len(values))
        sd = statistics.stdev(known) if len(known) > 1 else None
        return cls(mean=statistics.fmean(known), sd=sd, seeds=len(known))

    def text(self, digits: int) -> str:
        """Format mean and standard deviation.

        Example:
            >>> Spread.of([0.8, 0.9]).text(3)
            '0.850 ± 0.071'
        """
        if self.mean is None:
            return "-"
        sd = f" ± {self.sd:,.{digits}f}" if self.sd else ""  # 0 for what is the same for every seed, such as parameters
        return f"{self.mean:,.{digits}f}{sd}"


class TableLine(ResultRecord):
    """One line of a table.

    Attributes:
        row: Name of the row.
        label: Name that is printed.
        ours: Scores by name; empty if no cell is finished.
        paper: Scores that the paper reports.
    """

    row: str
    label: str
    ours: dict[str, Spread]
    paper: dict[str, float]


class ScoreTable(ResultRecord):
    """One table of scores.

    Attributes:
        title: Heading of the table.
        reference: Row whose scores the others are subtracted from.
        lines: One line for each row.
    """

    title: str
    reference: str
    lines: tuple[TableLine, ...]


def tabulate(comparison: Comparison, cells: Sequence[Cell]) -> list[ScoreTable]:
    """Return the tables of a comparison for its finished cells; one table of all rows if the recipe lists none."""
    wanted = comparison.tables or (TableSettings(title="All rows", rows=tuple(comparison.rows)),)
    by_row = {row: [cell for cell in cells if cell.row == row] for row in comparison.rows}
    return [
        ScoreTable(
            title=table.title,
            reference=table.reference or comparison.against,
            lines=tuple(
                TableLine(
                    row=row,
                    label=comparison.rows[row].label,
                    ours={
                        name: Spread.of([score(cell) for cell in by_row[row]])
                        for name, (_, _, score) in SCORES.items()
                        if by_row[row]
                    },
                    paper=dict(table.paper.get(row, {})),
                )
                for row in table.rows
            ),
        )
        for table in wanted
    ]


class TextTable(NamedTuple):
    """A table of text.

    Attributes:
        title: Heading above the table.
        columns: Column names; the first column holds the row names, and its own name is empty.
        rows: Cells as text.
        note: Sentence below the table; empty for none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def text_tables(
    comparison: Comparison, tables: Sequence[ScoreTable], differences: Sequence[Difference]
) -> Iterator[TextTable]:
    """Yield each table, followed by the differences between its reference and its other rows."""
    labels = {name: row.label for name, row in comparison.rows.items()}
    hidden = ONLY_FOLDS if comparison.folds is None else NO_FOLDS
    for table in tables:
        yield _scores(table, [name for name in SCORES if name not in hidden])
        rows = {line.row for line in table.lines}
        found = [d for d in differences if d.reference == table.reference and d.row in rows]
        if found:
            over = f"95 % interval over {found[0].synapses} synapses and the trainings, bootstrap"
            yield _differences(f"{labels[table.reference]} − others: difference [{over}]", found, labels)


def about(comparison: Comparison) -> str:
    """Return the sentences above the tables: where thresholds were chosen, and what is averaged or pooled."""
    return f"{ABOUT if comparison.folds is None else ABOUT_FOLDS} {POOLED}"


def markdown(comparison: Comparison, tables: Sequence[ScoreTable], differences: Sequence[Difference]) -> str:
    """Return tables and differences as Markdown."""
    titles = {table.title for table in tables}
    parts = [
        f"{'## ' if table.title in titles else ''}{table.title}\n\n{_markdown(table)}"
        for table in text_tables(comparison, tables, differences)
    ]
    return "\n\n".join([about(comparison), *parts]) + "\n"


def _scores(table: ScoreTable, names: Sequence[str]) -> TextTable:
    papers = [name for name in SCORES if any(name in line.paper for line in table.lines)]
    header = ["", "seeds", *(SCORES[name][0] for name in names), *(PAPER + SCORES[name][0] for name in papers)]
    lines = []
    for line in table.lines:
        ours = [line.ours[name].text(SCORES[name][1]) if line.ours else "" for name in names]
        paper = [
            f"{line.paper[name]:.{2 if name == 'cremi_score' else 3}f}" if name in line.paper else "" for name in papers
        ]
        seeds = str(line.ours["f1"].seeds) if line.ours else "not finished"
        lines.append((line.label, seeds, *ours, *paper))
    return TextTable(title=table.title, columns=tuple(header), rows=tuple(lines))


def _differences(title: str, differences: Sequence[Difference], labels: Mapping[str, str]) -> TextTable:
    names = list(dict.fromkeys(d.score for d in differences))
    lines = []
    for row in dict.fromkeys(d.row for d in differences):
        of_row = {d.score: d for d in differences if d.row == row}
        lines.append((labels[row], *(_difference(of_row[name], labels, SCORES[name][1]) for name in names)))
    return TextTable(title=title, columns=("", *(SCORES[name][0] for name in names)), rows=tuple(lines))


def _difference(difference: Difference, labels: Mapping[str, str], digits: int) -> str:
    if difference.value is None or difference.low is None or difference.high is None:
        return "-"
    verdict = VERDICTS[difference.verdict].format(reference=labels[difference.reference], row=labels[difference.row])
    low, high, value = (f"{n:+.{digits}f}" for n in (difference.low, difference.high, difference.value))
    return f"{value} [{low}, {high}] {verdict}"


def _markdown(table: TextTable) -> str:
    rule = ["---", *("---:" for _ in table.columns[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (table.columns, rule, *table.rows))
