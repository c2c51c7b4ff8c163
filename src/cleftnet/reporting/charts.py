"""Line charts as inline SVG; the style sheet of the page colors them for light and dark, screen and print."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from cleftnet.errors import InputError
from cleftnet.metrics.voxels import Floats

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46  # margins
MAX_POINTS = 400  # of a line; more are invisible
COLORS = 7  # in page.css; further lines have the same colors and other dashes
STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
MAX_INTERVALS = 5  # between ticks


class Axis(NamedTuple):
    """One axis of a chart.

    Attributes:
        label: Label with its unit.
        low: Lower end; above 0 if the axis is logarithmic.
        high: Upper end.
        log: Whether the axis is logarithmic.
    """

    label: str
    low: float
    high: float
    log: bool = False

    def share(self, values: Floats) -> Floats:
        """Return the positions of values along the axis, clipped to 0-1; NaN stays."""
        low, high = self.low, self.high
        if self.log:
            with np.errstate(divide="ignore"):
                values, low, high = np.log(values), math.log(low), math.log(high)
        return np.asarray((values - low) / (high - low)).clip(0, 1)

    def ticks(self) -> list[float]:
        """Return the values of the ticks: round numbers, or powers of ten."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            every = -(-len(powers) // 6) or 1
            return [10.0**power for power in powers][::every]
        least = (self.high - self.low) / MAX_INTERVALS
        power = 10.0 ** math.floor(math.log10(least))
        step = next(step for n in STEPS if (step := n * power) >= least * (1 - 1e-9))
        return [n * step for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class ChartLine:
    """One line of a chart.

    Attributes:
        label: Name of the line.
        x: Ascending values.
        y: The values at x; NaN interrupts the line.
        style: Number that selects color and dashes.
        entry: Key by which the legend shows and hides the line; empty for a line that is always shown.
        mark: A point to circle, such as the threshold in use.
        faint: Whether the line is thin, as for a second seed.
    """

    label: str
    x: Floats
    y: Floats
    style: int = 0
    entry: str = ""
    mark: tuple[float, float] | None = None
    faint: bool = False


def style_class(style: int) -> str:
    """Return the CSS classes of a line, for its color and dashes.

    Example:
        >>> style_class(0), style_class(8)
        ('c0 d0', 'c1 d1')
    """
    return f"c{style % COLORS} d{style // COLORS % 3}"


def chart(title: str, x: Axis, y: Axis, lines: Sequence[ChartLine]) -> Markup:
    """Draw a chart.

    Args:
        title: Description for screen readers.
        x: Horizontal axis.
        y: Vertical axis.
        lines: Lines to draw.

    Returns:
        An `svg` element.

    Raises:
        InputError: when an axis is empty, or is logarithmic and includes 0.

    Example:
        >>> line = ChartLine("F1", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        >>> 'd="M52.0 224.0L366.0 12.0"' in chart("F1", Axis("step", 0, 1), Axis("F1", 0, 1), [line])
        True
    """
    for axis in (x, y):
        if not (axis.high > axis.low and (axis.low > 0 or not axis.log)):
            raise InputError(f"axis '{axis.label}' from {axis.low:g} to {axis.high:g}; expected an ascending range")
    names = ", ".join(dict.fromkeys(line.label for line in lines))
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{title}: {names}")}">'
        f"{''.join(_frame(x, y))}{''.join(_drawn(line, x, y) for line in lines)}</svg>"
    )


def _across(axis: Axis, values: Floats) -> Floats:
    return LEFT + axis.share(values) * (WIDTH - LEFT - RIGHT)


def _up(axis: Axis, values: Floats) -> Floats:
    return HEIGHT - BOTTOM - axis.share(values) * (HEIGHT - TOP - BOTTOM)


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tick, at in zip(x.ticks(), _across(x, np.array(x.ticks())).tolist(), strict=True):
        yield f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>'
        yield f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick, x.log)}</text>'
    for tick, at in zip(y.ticks(), _up(y, np.array(y.ticks())).tolist(), strict=True):
        yield f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick, y.log)}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    middle = (LEFT + right) / 2
    yield f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x.label)}</text>'
    height = (TOP + bottom) / 2
    yield (
        f'<text class="label" x="13" y="{height:.0f}" text-anchor="middle" transform="rotate(-90 13 {height:.0f})">'
        f"{html.escape(y.label)}</text>"
    )


def _drawn(line: ChartLine, x: Axis, y: Axis) -> str:
    every = max(1, -(-len(line.x) // MAX_POINTS))
    kept = np.unique([*range(0, len(line.x), every), *range(max(0, len(line.x) - 1), len(line.x))]).astype(int)
    across, up = _across(x, line.x[kept]).tolist(), _up(y, line.y[kept]).tolist()
    path, pen = "", "M"
    for one, other in zip(across, up, strict=True):
        if math.isnan(one) or math.isnan(other):
            pen = "M"
            continue
        path, pen = f"{path}{pen}{one:.1f} {other:.1f}", "L"
    name = html.escape(line.label)
    classes = f"line {style_class(line.style)}{' faint' if line.faint else ''}"
    drawn = f'<path class="{classes}" d="{path}"><title>{name}</title></path>' if path else ""
    if line.mark is not None:
        at, height = _across(x, np.array([line.mark[0]]))[0], _up(y, np.array([line.mark[1]]))[0]
        if not math.isnan(at) and not math.isnan(height):
            drawn += f'<circle class="mark {style_class(line.style)}" cx="{at:.1f}" cy="{height:.1f}" r="4.5"/>'
    return f'<g data-entry="{html.escape(line.entry)}">{drawn}</g>' if line.entry else drawn


def _number(value: float, log: bool) -> str:
    """Format the number of a tick; powers of ten far from 1 get an exponent."""
    if log and not 0.01 <= value <= 1000:
        return f'10<tspan class="power" dy="-5">{round(math.log10(value))}</tspan>'
    return f"{value:g}"
