"""The scores of a page: the first entry's in large, and a table of every score of every entry."""

from __future__ import annotations

from collections.abc import Callable

from cleftnet.comparison.tables import TextTable
from cleftnet.report.curves import ScoredEntries
from cleftnet.report.entry_scores import EntryScores


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _mean(name: str, digits: int) -> Callable[[EntryScores], str]:
    """A score that is a mean over scenes."""
    return lambda scores: _number(scores.mean.scores[name], digits)


def _of_clefts(name: str) -> Callable[[EntryScores], str]:
    """A score over whole clefts."""
    return lambda scores: "-" if scores.objects is None else _number(getattr(scores.objects, name), 3)


def _matches(scores: EntryScores) -> str:
    found = scores.objects
    return "-" if found is None else f"{found.matched} / {found.true} / {found.predicted}"


COLUMNS: dict[str, Callable[[EntryScores], str]] = {
    "F1": lambda scores: _number(scores.counts.f1, 4),
    "precision": lambda scores: _number(scores.counts.precision, 4),
    "recall": lambda scores: _number(scores.counts.recall, 4),
    "AUC": lambda scores: _number(scores.histogram.auc, 4),
    "CREMI score, nm": _mean("cremi_score", 1),
    "ADGT, nm": _mean("adgt", 1),
    "ADF, nm": _mean("adf", 1),
    "FP > 200 nm": _mean("fp_far", 0),
    "FN > 200 nm": _mean("fn_far", 0),
    "cleft F1": _of_clefts("f1"),
    "cleft precision": _of_clefts("precision"),
    "cleft recall": _of_clefts("recall"),
    "matched / true / predicted": _matches,
}
NOTE = (
    "Voxels are counted over all regions together; CREMI score, ADGT, ADF and far voxels are means over regions. Clefts are "
    "26-connected components at the threshold, matched one to one by overlap."
)


def score_table(scored: ScoredEntries) -> TextTable:
    """Return every score of every entry, a row each."""
    columns = ["", *COLUMNS, "threshold"]
    rows = [
        (entry.label, *(column(scores) for column in COLUMNS.values()), f"{entry.threshold:.3f}")
        for entry, scores in scored
    ]
    together = [name.replace(" nm", "\N{NO-BREAK SPACE}nm").replace("> ", ">\N{NO-BREAK SPACE}") for name in columns]
    return TextTable("Scores", tuple(together), tuple(rows), NOTE)


def headline(scores: EntryScores) -> list[tuple[str, str, str]]:
    """Return name, value and a word on it for the scores that stand in large."""
    found = scores.objects
    clefts = "" if found is None else f"{found.matched} of {found.true} found, {found.predicted} predicted"
    return [
        ("F1 of voxels", _number(scores.counts.f1, 3), ""),
        ("CREMI score", COLUMNS["CREMI score, nm"](scores), "nm, lower is better"),
        ("AUC", _number(scores.histogram.auc, 4), "of voxels"),
        ("F1 of clefts", COLUMNS["cleft F1"](scores), clefts),
    ]
