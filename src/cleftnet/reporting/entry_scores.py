"""Scores every model on all scenes, for the headline and the score table of a page.

Voxels and clefts are counted over all scenes together; CREMI scores are means over scenes, as in the challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cleftnet.comparison.tables import TextTable
from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import ScoringSettings, evaluate
from cleftnet.metrics.pooling import MeanEvaluation, mean_evaluation
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.reporting.contents import Entry, Scene

ScoredEntries = Sequence[tuple[Entry, MeanEvaluation]]


def score_entry(entry: Entry, scenes: Sequence[Scene]) -> MeanEvaluation:
    """Score the predictions of an entry at its threshold, and at a grid of thresholds.

    Args:
        entry: A model and its predictions.
        scenes: Scenes with their truth.

    Raises:
        InputError: when a prediction does not fit its scene.
    """
    settings = ScoringSettings(sweep=True)
    return mean_evaluation(
        [
            evaluate(
                prediction.probability, scene.truth, threshold=entry.threshold, kind="probability", settings=settings
            )
            for prediction, scene in zip(entry.predictions, scenes, strict=True)
        ]
    )


def histogram(scores: MeanEvaluation) -> ScoreHistogram:
    """Return the voxels of all scenes by probability.

    Raises:
        InputError: when the predictions are not probabilities.
    """
    if scores.histogram is None:
        raise InputError("a page shows predictions of probability; labels and masks have no curves")
    return scores.histogram


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _mean(name: str, digits: int) -> Callable[[MeanEvaluation], str]:
    """Return a column with a mean over scenes."""
    return lambda scores: _number(scores.scores[name], digits)


def _of_clefts(name: str) -> Callable[[MeanEvaluation], str]:
    """Return a column with a score over whole clefts."""
    return lambda scores: "-" if scores.clefts is None else _number(getattr(scores.clefts, name), 3)


def _matches(scores: MeanEvaluation) -> str:
    found = scores.clefts
    return "-" if found is None else f"{found.matched} / {found.true} / {found.predicted}"


COLUMNS: dict[str, Callable[[MeanEvaluation], str]] = {
    "F1": lambda scores: _number(scores.counts.f1, 4),
    "precision": lambda scores: _number(scores.counts.precision, 4),
    "recall": lambda scores: _number(scores.counts.recall, 4),
    "AUC": lambda scores: _number(histogram(scores).auc, 4),
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
    """Return a table with a row for each entry and a column for each score."""
    columns = ["", *COLUMNS, "threshold"]
    rows = [
        (entry.label, *(column(scores) for column in COLUMNS.values()), f"{entry.threshold:.3f}")
        for entry, scores in scored
    ]
    together = [name.replace(" nm", "\N{NO-BREAK SPACE}nm").replace("> ", ">\N{NO-BREAK SPACE}") for name in columns]
    return TextTable("Scores", tuple(together), tuple(rows), NOTE)


def headline(scores: MeanEvaluation) -> list[tuple[str, str, str]]:
    """Return name, value and unit of the scores that the page prints large."""
    found = scores.clefts
    clefts = "" if found is None else f"{found.matched} of {found.true} found, {found.predicted} predicted"
    return [
        ("F1 of voxels", _number(scores.counts.f1, 3), ""),
        ("CREMI score", COLUMNS["CREMI score, nm"](scores), "nm, lower is better"),
        ("AUC", _number(histogram(scores).auc, 4), "of voxels"),
        ("F1 of clefts", COLUMNS["cleft F1"](scores), clefts),
    ]
