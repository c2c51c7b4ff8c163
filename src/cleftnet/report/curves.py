"""The curves of a page: how trainings went, precision against recall, the ROC curve, and scores over the threshold."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from cleftnet.metrics.voxels import Floats
from cleftnet.report.charts import Axis, Line, chart, style_class
from cleftnet.report.contents import Entry, History
from cleftnet.report.judging import Verdict

THRESHOLD = Axis("threshold", 0, 1)
LOWEST_RATE = 1e-5  # of false positives, where the ROC curve begins
Judged = Sequence[tuple[Entry, Verdict]]


class Plot(NamedTuple):
    """One chart with its heading.

    Attributes:
        title: The heading.
        svg: The chart.
        note: How to read it.
        legend: Name and style of each line, where they are not the page's entries.
    """

    title: str
    svg: Markup
    note: str
    legend: Sequence[tuple[str, str]] = ()


def plots(judged: Judged) -> list[Plot]:
    """Draw every curve that there are numbers for."""
    drawn = [*_learning(judged), _precision_recall(judged), _roc(judged), _f1(judged), _cremi(judged)]
    return [plot for plot in drawn if plot is not None]


def _learning(judged: Judged) -> list[Plot | None]:
    cremi = "validation CREMI score, nm"
    return [
        _losses(judged),
        _history(judged, "f1", "F1 while training", "validation F1", "higher is better"),
        _history(judged, "cremi_score", "CREMI score while training", cremi, "lower is better"),
    ]


def _losses(judged: Judged) -> Plot | None:
    """The loss of each training; where there is one, its parts."""
    parts = ["loss_total"]
    if len(judged) == 1 and judged[0][0].histories:
        parts = [name for name in judged[0][0].histories[0].steps if name.startswith("loss_")]
    lines = [
        line
        for style, part in enumerate(parts)
        for line in _over_steps(
            judged,
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
    note = "running mean; recipes with other losses have other units" if len(judged) > 1 else "running mean"
    return _plot("Loss", _steps(lines), y, lines, note)


def _history(judged: Judged, name: str, title: str, label: str, note: str) -> Plot | None:
    def columns(history: History) -> tuple[Floats, Floats] | None:
        found = history.validations
        return (found["step"], found[name]) if name in found else None

    lines = _over_steps(judged, columns)
    values = np.concatenate([line.y for line in lines]) if lines else np.zeros(0)
    if not np.isfinite(values).any():
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    tenths = Axis(label, math.floor(10 * low) / 10, (math.floor(10 * high) + 1) / 10)  # rows differ by hundredths
    return _plot(title, _steps(lines), tenths if name == "f1" else Axis(label, 0, max(high * 1.05, 1.0)), lines, note)


def _over_steps(
    judged: Judged,
    columns: Callable[[History], tuple[Floats, Floats] | None],
    label: str | None = None,
    style: int | None = None,
) -> list[Line]:
    """Lines over the steps of every training, the trainings after an entry's first faint."""
    lines = []
    for number, (entry, _) in enumerate(judged):
        for seed, history in enumerate(entry.histories):
            found = columns(history)
            if found is not None and found[0].size:
                name = label or (entry.label if seed == 0 else f"{entry.label}, training {seed + 1}")
                lines.append(Line(name, *found, number if style is None else style, entry.key, faint=seed > 0))
    return lines


def _steps(lines: Iterable[Line]) -> Axis:
    return Axis("step", 0, max(max((float(line.x.max()) for line in lines), default=1.0), 1.0))


def _loss(part: str, history: History) -> tuple[Floats, Floats] | None:
    """Steps, and the running mean of a part of the loss over a hundredth of them."""
    if part not in history.steps:
        return None
    step, value = history.steps["step"], history.steps[part]
    width = max(1, step.size // 100)
    return step[width - 1 :], np.convolve(value, np.full(width, 1 / width), mode="valid")


def _precision_recall(judged: Judged) -> Plot:
    lines = []
    for number, (entry, verdict) in enumerate(judged):
        curve, counts = verdict.histogram.curve(), verdict.counts
        mark = _point(counts.recall, counts.precision)
        lines.append(Line(entry.label, curve.recall, curve.precision, number, entry.key, mark))
    note = "of voxels, at every threshold; the circle is the one in use"
    return _plot("Precision and recall", Axis("recall", 0, 1), Axis("precision", 0, 1), lines, note)


def _roc(judged: Judged) -> Plot:
    lines = []
    for number, (entry, verdict) in enumerate(judged):
        found, counts = verdict.histogram, verdict.counts
        hits, alarms = (np.cumsum(side[::-1]).astype(np.float64) for side in (found.positives, found.negatives))
        with np.errstate(invalid="ignore"):
            recall, rate = hits / found.positive, alarms / found.negative
        alarmed = counts.false_positives / found.negative if found.negative else None
        mark = _point(alarmed, counts.recall)
        lines.append(Line(_with_auc(entry, verdict), rate, recall, number, entry.key, mark))
    note = "of voxels; clefts are few, so the false-positive rate is logarithmic (the AUC is that of the plain axes)"
    legend = [(line.label, style_class(line.style)) for line in lines]
    x = Axis("false-positive rate", LOWEST_RATE, 1, log=True)
    return _plot("ROC", x, Axis("recall", 0, 1), lines, note, legend if len(judged) == 1 else ())


def _with_auc(entry: Entry, verdict: Verdict) -> str:
    auc = verdict.histogram.auc
    return entry.label if auc is None else f"{entry.label}: AUC {auc:.4f}"


def _f1(judged: Judged) -> Plot:
    lines = []
    for number, (entry, verdict) in enumerate(judged):
        curve = verdict.histogram.curve()
        mark = _point(entry.threshold, verdict.counts.f1)
        lines.append(
            Line("F1" if len(judged) == 1 else entry.label, curve.threshold, curve.f1, number, entry.key, mark)
        )
        if len(judged) == 1:
            lines.append(Line("precision", curve.threshold, curve.precision, 1, entry.key))
            lines.append(Line("recall", curve.threshold, curve.recall, 2, entry.key))
    what = "F1, precision, recall" if len(judged) == 1 else "F1"
    return _plot("Threshold sweep", THRESHOLD, Axis(what, 0, 1), lines, "of voxels; the circle is the one in use")


def _cremi(judged: Judged) -> Plot | None:
    lines = []
    for number, (entry, verdict) in enumerate(judged):
        threshold = np.array(list(verdict.cremi_at))
        score = np.array([np.nan if s is None else s for s in verdict.cremi_at.values()], np.float64)
        mark = _point(entry.threshold, verdict.mean.scores["cremi_score"])
        lines.append(Line(entry.label, threshold, score, number, entry.key, mark))
    values = np.concatenate([line.y for line in lines])
    if not np.isfinite(values).any():
        return None
    y = Axis("CREMI score, nm", 0, max(float(np.nanmax(values)) * 1.05, 1.0))
    return _plot("CREMI score over the threshold", THRESHOLD, y, lines, "lower is better; the circle is the one in use")


def _point(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _plot(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], note: str, legend: Sequence[tuple[str, str]] = ()
) -> Plot:
    """Draw, with a legend where one entry has several lines."""
    entries, names = {line.entry for line in lines}, {line.label: style_class(line.style) for line in lines}
    if not legend and len(entries) == 1 and len(names) > 1 and not any(line.faint for line in lines):
        legend = list(names.items())
    return Plot(title, chart(title, x, y, lines), note, legend)
