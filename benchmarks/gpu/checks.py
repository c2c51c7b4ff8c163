"""Part 1: the tests marked `gpu`, each recorded with the numbers that it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.session import ResultFile, Session

TESTS = Path(__file__).parents[2] / "tests" / "gpu"
SHARE = 0.2  # of the time that is left


def run(session: Session) -> None:
    """Run the tests that have not passed yet, in a process of their own: an error on a GPU spoils its process."""
    file = session.file("checks")
    command = [sys.executable, "-m", "benchmarks.gpu.checks", str(file.path), json.dumps(session.about | {"seed": 0})]
    own = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    if session.device.type == "cpu":
        own["CLEFTNET_GPU_TESTS_ON"] = "cpu"
    try:
        subprocess.run(command, env=os.environ | own, timeout=max(10.0, SHARE * session.left_s()), check=False)
    except subprocess.TimeoutExpired:
        print("  the tests ran out of time")
    file.reload()


class Recorder:
    """Plugin of pytest that writes the outcome of every test at once, and leaves out those that an earlier run passed."""

    def __init__(self, file: ResultFile, about: dict[str, Any]) -> None:
        self.file, self.about = file, about

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out tests that have passed."""
        passed = {name for name, result in self.file.results.items() if result["values"]["outcome"] == "passed"}
        items[:] = [item for item in items if _short(item.nodeid) not in passed]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test, with the numbers that it recorded."""
        if report.when == "call" or report.outcome != "passed":
            values = {"outcome": report.outcome, "seconds": round(report.duration, 2), **dict(report.user_properties)}
            if report.outcome != "passed":
                values["reason"] = _reason(report)
            self.file.add(_short(report.nodeid), values, self.about)


def _reason(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped, without the places in files of this machine."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)[-1500:]


def _short(nodeid: str) -> str:
    """Return the name of a test without its folder."""
    return nodeid.rpartition("/")[2]


def main(results: str, about: str) -> None:
    """Run the tests without the settings of this project, whose plugins a bare GPU machine lacks."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "pytest.ini")
        settings.write_text("[pytest]\nmarkers = gpu: needs a CUDA device\n")
        options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--import-mode=importlib", f"--basetemp={folder}/tests"]
        where = ["-c", str(settings), f"--rootdir={TESTS.parents[1]}", f"--confcutdir={TESTS}", str(TESTS)]
        pytest.main([*options, *where], plugins=[Recorder(ResultFile(Path(results)), json.loads(about))])


if __name__ == "__main__":
    main(*sys.argv[1:])
