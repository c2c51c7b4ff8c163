"""All speed goals in one run: each as a ratio to another way to the same result, with the floor that it must reach.

`make bench` runs it in about half an hour on two idle cores; `--small` tries every part on small volumes in a minute, where
no floor holds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import metrics, prediction, synapses
from benchmarks.measure import Ratio, machine
from cleftnet.geometry import IntZYX

HELP_S = 1.0  # `cleftnet --help`, the fastest of five


class Goal(NamedTuple):
    """A ratio and the floors it must reach.

    Attributes:
        run: Measures it, given whether volumes are small.
        speed: Least speed, as a multiple of the other way's.
        memory: Most memory, as a share of the other way's; None where it does not matter.
    """

    run: Callable[[bool], Ratio]
    speed: float
    memory: float | None = None


def _score(name: str) -> Callable[[bool], Ratio]:
    def run(small: bool) -> Ratio:
        return next(metrics.compare(name, (20, 100, 100) if small else (125, 1250, 1250), peers=1))

    return run


def _synapses(small: bool) -> Ratio:
    return synapses.compare((16, 128, 128) if small else (512, 1024, 1024))


def _prediction(small: bool) -> Ratio:
    patch: IntZYX = (4, 16, 16) if small else (16, 128, 128)
    shape: IntZYX = (8, 32, 32) if small else (512, 1024, 1024)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prediction.some_model(folder, patch, (2, 4) if small else (8, 16, 32), 64)
        prediction.make_volume(None, shape, folder / "raw.zarr")
        how = prediction.Windows(0.125, len(os.sched_getaffinity(0)), 4)
        return next(prediction.against_monai(model, folder / "raw.zarr", folder, how))


GOALS = {
    "cremi": Goal(_score("cremi"), 10),
    "auc": Goal(_score("auc"), 10),
    "evaluate": Goal(_score("all"), 10),
    "synapses": Goal(_synapses, 15, 0.25),
    "prediction": Goal(_prediction, 1.5, 0.25),
}


def help_s(times: int = 5) -> float:
    """Return the seconds from `cleftnet --help` to its end, the least of several."""

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cleftnet", "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    return min(once() for _ in range(times))


def lines(names: Sequence[str], *, small: bool) -> Iterator[tuple[str, bool]]:
    """Measure goals; yield a line for each, and whether it is reached."""
    for name in names:
        goal = GOALS[name]
        ratio = goal.run(small)
        reached = ratio.speed >= goal.speed and (goal.memory is None or ratio.memory <= goal.memory)
        reached &= ratio.same is not False
        memory = "" if goal.memory is None else f" and at most {goal.memory:g} of the memory"
        yield f"{ratio}; goal {goal.speed:g} times{memory}: {'reached' if reached else 'MISSED'}", reached


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks goals", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"{', '.join(GOALS)}; default: all")
    parser.add_argument(
        "--small", action="store_true", help="small volumes, for trying it; goals are not reached there"
    )
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.goals) - set(GOALS)):
        parser.error(f"unknown goal {', '.join(unknown)}; choose from {', '.join(GOALS)}")
    print(machine("torch", "numpy", "scipy", "monai", "scikit-learn", "connected-components-3d"), flush=True)
    missed = 0
    for line, reached in lines(given.goals or list(GOALS), small=given.small):
        print(line, flush=True)
        missed += not reached
    if not given.goals:
        seconds = help_s()
        print(f"cleftnet --help: {seconds:.2f} s; goal {HELP_S:g} s: {'reached' if seconds <= HELP_S else 'MISSED'}")
        missed += seconds > HELP_S
    if missed and not given.small:
        sys.exit(1)
