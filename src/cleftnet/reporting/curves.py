"""Charts of a page: losses and scores during training, precision and recall, the ROC curve, scores over the threshold."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from cleftnet.metrics.pooling import MeanEvaluation
from cleftnet.metrics.voxels import Floats
from cleftnet.reporting.charts import Axis, ChartLine, chart, style_class
from cleftnet.reporting.contents import Entry, History
from cleftnet.reporting.entry_scores import ScoredEntries, histogram

THRESHOLD = Axis("threshold", 0, 1)
LOWEST_RATE = 1e-5  # false-positive rate at which the ROC curve begins


class Plot(NamedTuple):
    """One chart with its heading.

    Attributes:
        title: Heading of the chart.
        svg: The chart.
        note: How to read the chart.
        legend: Name and style of each line, where lines are not the entries of the page.
    """

    title: str
    svg: Markup
    note: str
    legend: Sequence[tuple[str, str]] = ()


def plots(scored: ScoredEntries) -> list[Plot]:
    """Draw every chart for which there is data."""
    drawn = [*_learning(scored), _precision_recall(scored), _roc(scored), _f1(scored), _cremi(scored)]
    return [plot for plot in drawn if plot is not None]


def _learning(scored: ScoredEntries) -> list[Plot | None]:
    cremi = "validation CREMI score, nm"
    return [
        _losses(scored),
        _history(scored, "f1", "F1 while training", "validation F1", "higher is better"),
        _history(scored, "cremi_score", "CREMI score while training", cremi, "lower is better"),
    ]


def _losses(scored: ScoredEntries) -> Plot | None:
    """Draw the loss of each training; for a single training, the parts of the loss."""
    parts = ["loss_total"]
    if len(scored) == 1 and scored[0][0].histories:
        parts = [name for name in scored[0][0].histories[0].steps if name.startswith("loss_")]
    lines = [
        line
        for style, part in enumerate(parts)
        for line in _over_steps(
            scored,
            functools.partial(_loss, part),
            label=part.removeprefix("loss_") if len(parts) > 1 else None,
            style=style if len(parts) > 1 else None,
        )
    ]
    values = np.concatenate([line.y for line in lines]) if lines else np.zeros(0)
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size or values.min() == values.max():
        return None
    y = Axis("training loss", float(values.min()), float(values.max()), log=True)
    note = "running mean; recipes with other losses have other units" if len(scored) > 1 else "running mean"
    return _plot("Loss", _steps(lines), y, lines, note)


def _history(scored: ScoredEntries, name: str, title: str, label: str, note: str) -> Plot | None:
    def columns(history: History) -> tuple[Floats, Floats] | None:
        found = history.validations
        return (found["step"], found[name]) if name in found else None

    lines = _over_steps(scored, columns)
    values = np.concatenate([line.y for line in lines]) if lines else np.zeros(0)
    if not np.isfinite(values).any():
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    tenths = Axis(label, math.floor(10 * low) / 10, (math.floor(10 * high) + 1) / 10)  # rows differ by hundredths
    return _plot(title, _steps(lines), tenths if name == "f1" else Axis(label, 0, max(high * 1.05, 1.0)), lines, note)


def _over_steps(
    scored: ScoredEntries,
    columns: Callable[[History], tuple[Floats, Floats] | None],
    label: str | None = None,
    style: int | None = None,
) -> list[ChartLine]:
    """Return lines over the steps of every training; the second and later trainings of an entry are faint."""
    lines = []
    for number, (entry, _) in enumerate(scored):
        for seed, history in enumerate(entry.histories):
            found = columns(history)
            if found is not None and found[0].size:
                name = label or (entry.label if seed == 0 else f"{entry.label}, training {seed + 1}")
                lines.append(ChartLine(name, *found, number if style is None else style, entry.key, faint=seed > 0))
    return lines


def _steps(lines: Iterable[ChartLine]) -> Axis:
    return Axis("step", 0, max(max((float(line.x.max()) for line in lines), default=1.0), 1.0))


def _loss(part: str, history: History) -> tuple[Floats, Floats] | None:
    """Return steps, and the running mean of a part of the loss over a hundredth of the steps."""
    if part not in history.steps:
        return None
    step, value = history.steps["step"], history.steps[part]
    width = max(1, step.size // 100)
    return step[width - 1 :], np.convolve(value, np.full(width, 1 / width), mode="valid")


def _precision_recall(scored: ScoredEntries) -> Plot:
    lines = []
    for number, (entry, scores) in enumerate(scored):
        curve, counts = histogram(scores).curve(), scores.counts
        mark = _point(counts.recall, counts.precision)
        lines.append(ChartLine(entry.label, curve.recall, curve.precision, number, entry.key, mark))
    note = "of voxels, at every threshold; the circle marks the threshold in use"
    return _plot("Precision and recall", Axis("recall", 0, 1), Axis("precision", 0, 1), lines, note)


def _roc(scored: ScoredEntries) -> Plot:
    lines = []
    for number, (entry, scores) in enumerate(scored):
        found, counts = histogram(scores), scores.counts
        hits, alarms = (np.cumsum(side[::-1]).astype(np.float64) for side in (found.positives, found.negatives))
        with np.errstate(invalid="ignore"):
            recall, rate = hits / found.positive, alarms / found.negative
        alarmed = counts.false_positives / found.negative if found.negative else None
        mark = _point(alarmed, counts.recall)
        lines.append(ChartLine(_with_auc(entry, scores), rate, recall, number, entry.key, mark))
    note = "of voxels; clefts are few, so the false-positive rate is logarithmic (the AUC is that of linear axes)"
    legend = [(line.label, style_class(line.style)) for line in lines]
    x = Axis("false-positive rate", LOWEST_RATE, 1, log=True)
    return _plot("ROC", x, Axis("recall", 0, 1), lines, note, legend if len(scored) == 1 else ())


def _with_auc(entry: Entry, scores: MeanEvaluation) -> str:
    auc = histogram(scores).auc
    return entry.label if auc is None else f"{entry.label}: AUC {auc:.4f}"


def _f1(scored: ScoredEntries) -> Plot:
    lines = []
    for number, (entry, scores) in enumerate(scored):
        curve = histogram(scores).curve()
        mark = _point(entry.threshold, scores.counts.f1)
        lines.append(
            ChartLine("F1" if len(scored) == 1 else entry.label, curve.threshold, curve.f1, number, entry.key, mark)
        )
        if len(scored) == 1:
            lines.append(ChartLine("precision", curve.threshold, curve.precision, 1, entry.key))
            lines.append(ChartLine("recall", curve.threshold, curve.recall, 2, entry.key))
    what = "F1, precision, recall" if len(scored) == 1 else "F1"
    return _plot(
        "Threshold sweep", THRESHOLD, Axis(what, 0, 1), lines, "of voxels; the circle marks the threshold in use"
    )


def _cremi(scored: ScoredEntries) -> Plot | None:
    lines = []
    for number, (entry, scores) in enumerate(scored):
        threshold = np.array(list(scores.cremi_at))
        score = np.array([np.nan if s is None else s for s in scores.cremi_at.values()], np.float64)
        mark = _point(entry.threshold, scores.scores["cremi_score"])
        lines.append(ChartLine(entry.label, threshold, score, number, entry.key, mark))
    values = np.concatenate([line.y for line in lines])
    if not np.isfinite(values).any():
        return None
    y = Axis("CREMI score, nm", 0, max(float(np.nanmax(values)) * 1.05, 1.0))
    return _plot(
        "CREMI score over the threshold", THRESHOLD, y, lines, "lower is better; the circle marks the threshold in use"
    )


def _point(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _plot(
    title: str, x: Axis, y: Axis, lines: Sequence[ChartLine], note: str, legend: Sequence[tuple[str, str]] = ()
) -> Plot:
    """Draw a chart, with a legend if one entry has several lines."""
    entries, names = {line.entry for line in lines}, {line.label: style_class(line.style) for line in lines}
    if not legend and len(entries) == 1 and len(names) > 1 and not any(line.faint for line in lines):
        legend = list(names.items())
    return Plot(title, chart(title, x, y, lines), note, legend)
