"""Measures time and peak memory of a function in a fresh process, so that no caches are inherited."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Measurement:
    """Result and time of a function, and peak memory of its process, input included."""

    result: Any
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Ratio:
    """Our time and memory against another way to the same result, both measured in one run.

    Attributes:
        what: What was done.
        peer: The other way.
        ours: Our measurement.
        theirs: That of the other way.
        same: Whether both results agree; None where that is not compared.
    """

    what: str
    peer: str
    ours: Measurement
    theirs: Measurement
    same: bool | None = None

    @property
    def speed(self) -> float:
        """Their time divided by ours."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def memory(self) -> float:
        """Our peak memory divided by theirs."""
        return self.ours.peak_bytes / self.theirs.peak_bytes

    def rows(self, peer: str, ours: str) -> list[dict[str, Any]]:
        """Return both as rows of a table, with speed and memory as ratios to the other way."""
        return [
            {"name": peer, "speed": 1.0, "memory": 1.0},
            {"name": ours, "speed": self.speed, "memory": self.memory},
        ]

    def __str__(self) -> str:
        """Say it in one line."""
        agreement = {None: "", True: ", the same result", False: ", DIFFERENT RESULTS"}[self.same]
        return (
            f"{self.what}, against {self.peer}: {self.speed:.1f} times as fast ({self.ours.seconds:.1f} s, "
            f"{self.theirs.seconds:.1f} s), {self.memory:.2f} of the memory{agreement}"
        )


def measure(make_input: Callable[..., tuple[Any, ...]], run: Callable[..., Any], *arguments: Any) -> Measurement:
    """Call `run(*make_input(*arguments))` in a process of its own; only `run` is timed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_measure_here, make_input, run, arguments).result()


def _measure_here(
    make_input: Callable[..., tuple[Any, ...]], run: Callable[..., Any], arguments: tuple[Any, ...]
) -> Measurement:
    inputs = make_input(*arguments)
    start = time.perf_counter()
    result = run(*inputs)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return Measurement(result, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def write_rows(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write measured rows as JSON, which `tools.check_results` compares with a page. Rows of other names in the file stay."""
    if path is None:
        return
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {row["name"] for row in rows}
    kept = [row for row in before if row["name"] not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": [*kept, *rows]}, indent=1, ensure_ascii=False) + "\n")


def machine(*packages: str) -> str:
    """Return one line with the machine, its load and the versions that a number was measured with."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()} {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, load {load:.1f}; "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123 (not a file of ours)
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
