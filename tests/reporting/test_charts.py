import re

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, ChartLine, chart

UNIT = Axis("share", 0, 1)


def paths(svg):
    return re.findall(r'class="line[^"]*" d="([^"]*)"', svg)


def test_a_line_goes_from_corner_to_corner_of_its_axes():
    (path,) = paths(chart("t", UNIT, UNIT, [ChartLine("a", np.array([0.0, 1.0]), np.array([0.0, 1.0]))]))
    assert path == f"M{LEFT:.1f} {HEIGHT - BOTTOM:.1f}L{WIDTH - RIGHT:.1f} {TOP:.1f}"


def test_a_missing_value_interrupts_the_line():
    (path,) = paths(chart("t", UNIT, UNIT, [ChartLine("a", np.linspace(0, 1, 4), np.array([0.5, np.nan, 0.5, 0.5]))]))
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_a_logarithmic_axis_gives_every_power_of_ten_the_same_room():
    shares = Axis("rate", 1e-4, 1, log=True).share(np.array([0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]))
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.5, 0.75, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.3, 0.9, [0.4, 0.6, 0.8]),
        (0, 360, [0, 100, 200, 300]),
        (0, 12, [0, 2.5, 5, 7.5, 10]),
        (-3, 2, [-3, -2, -1, 0, 1, 2]),
    ],
)
def test_ticks_are_round_numbers_at_most_six(low, high, ticks):
    assert Axis("a", low, high).ticks() == pytest.approx(ticks)


def test_a_long_line_keeps_its_first_and_last_points():
    steps = np.arange(10_001) / 10_000
    (path,) = paths(chart("t", UNIT, UNIT, [ChartLine("a", steps, steps)]))
    assert path.startswith(f"M{LEFT:.1f} {HEIGHT - BOTTOM:.1f}L")
    assert path.endswith(f"L{WIDTH - RIGHT:.1f} {TOP:.1f}")
    assert path.count("L") < 500


def test_names_cannot_break_out_of_the_drawing():
    svg = chart(
        "t", Axis("<x>", 0, 1), UNIT, [ChartLine('"><script>', np.array([0.0, 1]), np.array([0.0, 1]), entry='"x')]
    )
    assert "<script>" not in svg
    assert "&lt;x&gt;" in svg


@pytest.mark.parametrize("axis", [Axis("a", 1, 1), Axis("a", 0, 1, log=True), Axis("a", 0, float("nan"))])
def test_an_axis_without_length_is_refused(axis):
    with pytest.raises(InputError, match="axis 'a'"):
        chart("t", axis, UNIT, [])
