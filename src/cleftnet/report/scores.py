"""The scores of a page: the first entry's in large, and a table of every score of every entry."""

from __future__ import annotations

from collections.abc import Callable

from cleftnet.report.contents import Table
from cleftnet.report.curves import Judged
from cleftnet.report.judging import Verdict


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _mean(name: str, digits: int) -> Callable[[Verdict], str]:
    """A score that is a mean over scenes."""
    return lambda verdict: _number(verdict.mean.scores[name], digits)


def _of_clefts(name: str) -> Callable[[Verdict], str]:
    """A score over whole clefts."""
    return lambda verdict: "-" if verdict.objects is None else _number(getattr(verdict.objects, name), 3)


def _matches(verdict: Verdict) -> str:
    found = verdict.objects
    return "-" if found is None else f"{found.matched} / {found.true} / {found.predicted}"


COLUMNS: dict[str, Callable[[Verdict], str]] = {
    "F1": lambda verdict: _number(verdict.counts.f1, 4),
    "precision": lambda verdict: _number(verdict.counts.precision, 4),
    "recall": lambda verdict: _number(verdict.counts.recall, 4),
    "AUC": lambda verdict: _number(verdict.histogram.auc, 4),
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


def score_table(judged: Judged) -> Table:
    """Return every score of every entry, a row each."""
    columns = ["", *COLUMNS, "threshold"]
    rows = [
        (entry.label, *(column(verdict) for column in COLUMNS.values()), f"{entry.threshold:.3f}")
        for entry, verdict in judged
    ]
    together = [name.replace(" nm", "\N{NO-BREAK SPACE}nm").replace("> ", ">\N{NO-BREAK SPACE}") for name in columns]
    return Table("Scores", tuple(together), tuple(rows), NOTE)


def headline(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Return name, value and a word on it for the scores that stand in large."""
    found = verdict.objects
    clefts = "" if found is None else f"{found.matched} of {found.true} found, {found.predicted} predicted"
    return [
        ("F1 of voxels", _number(verdict.counts.f1, 3), ""),
        ("CREMI score", COLUMNS["CREMI score, nm"](verdict), "nm, lower is better"),
        ("AUC", _number(verdict.histogram.auc, 4), "of voxels"),
        ("F1 of clefts", COLUMNS["cleft F1"](verdict), clefts),
    ]
