"""Pictures of a result: the sections that hold most clefts, raw beside truth beside prediction."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cleftnet.volumes import Volume
from cleftnet.volumes.atomic import replacing
from cleftnet.volumes.volume import Array, intensity, is_cleft

TRUTH, PREDICTION = "#0072B2", "#E69F00"  # blue and orange of Okabe & Ito: told apart by colour-blind readers too


def draw_sections(
    raw: Volume,
    prediction: Volume,
    path: Path,
    *,
    truth: Volume | None = None,
    threshold: float = 0.5,
    sections: int = 3,
) -> Path:
    """Draw a few sections as a PNG: raw, the true clefts over it, the probability over it with the threshold's outline.

    Args:
        raw: Gray values z y x.
        prediction: Probability of the same shape: uint8 0-255, or float 0-1.
        path: The PNG to write.
        truth: Labels of the same shape, where there are any.
        threshold: The probability whose outline is drawn.
        sections: How many; those with most true (or predicted) cleft voxels, at least three apart.

    Returns:
        The path.
    """
    probability = intensity(prediction.read())
    clefts = probability >= threshold if truth is None else is_cleft(truth.read())
    gray = raw.read()
    chosen = _busiest(clefts.sum(axis=(1, 2)), sections)
    columns = 2 if truth is None else 3
    height, width = raw.shape[1:]
    panel = 4.5
    figure = Figure(figsize=(panel * columns, panel * len(chosen) * height / width), layout="constrained")
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, z in zip(axes, chosen, strict=True):
        _panel(row[0], gray[z], f"raw, section {z}")
        if truth is not None:
            _panel(row[1], gray[z], "truth")
            _tint(row[1], clefts[z].astype(np.float32), TRUTH)
        _panel(row[-1], gray[z], f"prediction, outline at {threshold:.2f}")
        _tint(row[-1], probability[z], PREDICTION)
        if (probability[z] >= threshold).any():
            row[-1].contour(probability[z] >= threshold, [0.5], colors=[PREDICTION], linewidths=0.8)
    with replacing(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _busiest(counts: npt.NDArray[np.int64], wanted: int) -> list[int]:
    """The sections with the highest counts, at least three apart, in order."""
    chosen: list[int] = []
    for z in np.argsort(-counts, kind="stable").tolist():
        if len(chosen) < wanted and all(abs(z - other) >= 3 for other in chosen):
            chosen.append(z)
    return sorted(chosen)


def _panel(axis: Axes, image: Array, title: str) -> None:
    axis.imshow(image, cmap="gray", interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _tint(axis: Axes, strength: npt.NDArray[np.float32], colour: str) -> None:
    """Lay a colour over the panel, as opaque as the strength (0-1) says, never quite hiding what lies beneath."""
    layer = np.zeros((*strength.shape, 4), np.float32)
    layer[..., :3] = mpl.colors.to_rgb(colour)
    layer[..., 3] = 0.7 * strength
    axis.imshow(layer, interpolation="nearest")
