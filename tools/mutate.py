"""Measures what the tests catch: changes the code in one place, runs the tests beside it, and lists the changes they miss.

    python -m tools.mutate --minutes 60

Cosmic Ray makes the changes (mutants). One mutant is drawn for each place and kind of change, and those are tested in an
order drawn by the seed, until the time is over. Each is tested in a copy of the repository by the tests of its package that
take SECONDS together without the change: those that run the changed line come first, the fastest of them before the
others. The results are lines of OUT/mutants.jsonl, and the same command goes on where it stopped. OUT/survivors.md lists
the mutants that no test noticed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import coverage

ROOT = Path(__file__).parents[1]
SOURCES = {  # what is mutated, below src/cleftnet: the tests that should notice
    "training/losses.py": "tests/training/test_losses.py",
    "nets/*.py": "tests/nets",
    "metrics/*.py": "tests/metrics",
    "patches/*.py": "tests/patches",
    "geometry.py": "tests/test_geometry.py",
}
PRELOADED = (
    "torch",
    "numpy",
    "scipy.optimize",
    "scipy.ndimage",
    "sklearn.linear_model",
    "hypothesis",
    "pytest",
    "h5py",
)
PYTEST = (
    "-q",
    "-x",
    "--no-header",
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow and not gpu",
    "--hypothesis-seed=0",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)  # Hypothesis is in memory already
SLOWEST = 5  # a mutant that takes so many times as long as the unchanged code hangs, and is noticed
SHORTEST_S = 30.0  # no mutant is stopped earlier
EMPTY = (0, 5)  # exit codes of pytest: all passed, no tests


class Mutant(NamedTuple):
    """One change of the code.

    Attributes:
        path: Module, below the root of the repository.
        line: Its line.
        operator: Cosmic Ray's name for the kind of change.
        occurrence: Which of the places in the module that this operator can change, from 0.
        tests: Tests of the module's package.
    """

    path: str
    line: int
    operator: str
    occurrence: int
    tests: str

    @property
    def key(self) -> str:
        """Name of the mutant in the file of results."""
        return f"{self.path}:{self.line} {self.operator} {self.occurrence}"


def all_mutants(root: Path, only: Sequence[str], rng: random.Random) -> list[Mutant]:
    """Return one mutant for each place and kind of change, in an order drawn by the generator."""
    found: dict[tuple[str, Any, str], list[Mutant]] = defaultdict(list)
    for pattern, tests in SOURCES.items():
        for path in sorted((root / "src/cleftnet").glob(pattern)):
            name = path.relative_to(root).as_posix()
            if not only or any(part in name for part in only):
                for operator, occurrence, place in places(path.read_text()):
                    kind = operator.partition("_")[0]  # Replace..Operator_Add_Sub and .._Add_Mul are one kind
                    found[name, place, kind].append(Mutant(name, place[0], operator, occurrence, tests))
    mutants = [rng.choice(same) for same in found.values()]
    rng.shuffle(mutants)
    return mutants


def places(source: str) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yield every change of a source that Cosmic Ray knows: operator, number of the occurrence, and line and column."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(source)))
    for name in plugins.operator_names():
        operator = plugins.get_operator(name)
        if operator.arguments():  # takes the names of variables
            continue
        spots = itertools.chain.from_iterable(map(operator().mutation_positions, nodes))
        for occurrence, (start, _) in enumerate(spots):
            yield name, occurrence, start


def mutated(source: str, operator: str, occurrence: int) -> str | None:
    """Return the changed source; None where the change means nothing at run time, as in an annotation."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    changed = mutate_code(source, plugins.get_operator(operator)(), occurrence)
    try:
        return changed if changed is not None and _meaning(changed) != _meaning(source) else None
    except SyntaxError:
        return None


def _meaning(source: str) -> str:
    """Return the syntax tree of a source without the annotations of functions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
            for inner in ast.walk(node):
                if isinstance(inner, ast.AnnAssign):
                    inner.annotation = ast.Constant(None)
    return ast.dump(tree)


class Lines:
    """Plugin of pytest that measures which lines of the package each test runs, and for how long.

    Attributes:
        seconds: By test.
    """

    def __init__(self, root: Path) -> None:
        import coverage

        self.seconds: dict[str, float] = defaultdict(float)
        self._root = root
        self._coverage: coverage.Coverage = coverage.Coverage(
            data_file=None, config_file=False, source=[str(root / "src")]
        )
        self._coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Count the lines from here on for this test."""
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Report) -> None:
        """Add the time of a test, its setup or its teardown."""
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write everything as a `Known`."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {
            Path(path).relative_to(self._root).as_posix(): {
                str(line): tests for line, tests in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        }
        (self._root / "known.json").write_text(json.dumps({"seconds": self.seconds, "lines": lines}))


class Report(Protocol):
    """What pytest reports of a test."""

    nodeid: str
    duration: float


class Known(NamedTuple):
    """What is known of the tests of a package.

    Attributes:
        seconds: By test, of the unchanged code.
        lines: Tests that run a line, by module and line; "" stands for the import of a module.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    def chosen(self, mutant: Mutant, seconds: float) -> list[str]:
        """Return tests that take `seconds` together: first those that run the line, each group from the fastest on.

        At least one test is returned.
        """
        own = set(self.lines.get(mutant.path, {}).get(str(mutant.line), ()))
        ordered = sorted(self.seconds, key=lambda test: (test not in own, self.seconds[test]))
        spent = list(itertools.accumulate(self.seconds[test] for test in ordered))
        return ordered[: max(1, sum(one <= seconds for one in spent))]


def known_of(root: Path, tests: str, out: Path) -> Known:
    """Run the tests of a package without any change, and return what each of them runs; kept in a file of `out`.

    The examples in the docstrings of the package are tests too.
    """
    kept = out / f"known-{tests.replace('/', '-')}.json"
    if not kept.exists():
        modules = [f"src/cleftnet/{pattern.removesuffix('/*.py')}" for pattern in SOURCES if SOURCES[pattern] == tests]
        if not passes(root, [tests, *modules], 3600, lines=True)[0]:
            raise SystemExit(f"{tests} fails without any change; see {root / 'pytest.txt'}")
        (root / "known.json").replace(kept)
    return Known(**json.loads(kept.read_text()))


def passes(root: Path, tests: Sequence[str], limit_s: float, *, lines: bool = False) -> tuple[bool, float]:
    """Run tests in a fork of this process, which has the libraries in memory; return if they pass, and the seconds.

    Args:
        root: Copy of the repository.
        tests: Tests, files and folders in it.
        limit_s: After so many seconds the tests are stopped, and count as failed.
        lines: Also write `known.json` into the copy: which lines each test runs.
    """
    began, child = time.monotonic(), os.fork()
    if not child:
        os.setsid()  # so that what the tests start is stopped with them
        os.chdir(root)
        with (root / "pytest.txt").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.path[:0] = [str(root / "src"), str(root)]
        import pytest

        os._exit(int(pytest.main([*PYTEST, *tests], plugins=[Lines(root)] if lines else [])))
    while time.monotonic() - began < limit_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) in EMPTY, time.monotonic() - began
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, time.monotonic() - began


def is_noticed(root: Path, mutant: Mutant, changed: str, known: Known, seconds: float) -> bool:
    """Return whether a test fails with the changed source, which is undone afterwards."""
    path = root / mutant.path
    source = path.read_text()
    tests = known.chosen(mutant, seconds)
    limit_s = max(SHORTEST_S, SLOWEST * sum(known.seconds[test] for test in tests))
    path.write_text(changed)
    try:
        return not passes(root, tests, limit_s)[0]
    finally:
        path.write_text(source)


def copied(out: Path) -> Path:
    """Copy the files of the repository that git knows or would take, and return the folder of the copy."""
    root = out / "copy"
    shutil.rmtree(root, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


def changed_lines(before: str, after: str) -> str:
    """Return the changed lines as `- before` and `+ after`, without their indentation."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[3:]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines)


def summary(results: Sequence[dict[str, Any]], total: int) -> str:
    """Return the page of survivors: counts by package, then every survivor with its change."""
    packages: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        packages[result["path"].removeprefix("src/cleftnet/").partition("/")[0]].append(result["noticed"])
    rows = [
        f"| {name} | {len(hits)} | {sum(hits)} | {len(hits) - sum(hits)} |" for name, hits in sorted(packages.items())
    ]
    noticed = sum(result["noticed"] for result in results)
    head = f"{noticed} of {len(results)} mutants were noticed, of {total} in all.\n\n"
    table = "\n".join(["| package | tested | noticed | survived |", "|---|---|---|---|", *rows])
    survivors = [
        f"\n\n{result['path']}:{result['line']}\n\n```diff\n{result['change']}\n```"
        for result in sorted(results, key=lambda r: (r["path"], r["line"]))
        if not result["noticed"]
    ]
    return head + table + "".join(survivors) + "\n"


def run(out: Path, minutes: float, seed: int, only: Sequence[str], seconds: float) -> str:
    """Test mutants until the time is over; return the page of survivors, which is also written.

    Args:
        out: Folder of the results; those that it holds already are kept.
        minutes: When to stop; the mutant in work is finished.
        seed: Draws the mutants and their order.
        only: Parts of the names of modules to mutate; empty mutates all.
        seconds: Of tests for each mutant.
    """
    ends = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    root, log = copied(out), out / "mutants.jsonl"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {result["key"] for result in results}
    mutants = all_mutants(root, only, random.Random(seed))
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    known: dict[str, Known] = {}
    with log.open("a") as file:
        for mutant in mutants:
            if time.monotonic() > ends:
                break
            source = (root / mutant.path).read_text()
            changed = None if mutant.key in done else mutated(source, mutant.operator, mutant.occurrence)
            if changed is None:
                continue
            if mutant.tests not in known:
                known[mutant.tests] = known_of(root, mutant.tests, out)
            noticed = is_noticed(root, mutant, changed, known[mutant.tests], seconds)
            change = changed_lines(source, changed)
            results.append({"key": mutant.key, **mutant._asdict(), "noticed": noticed, "change": change})
            print(json.dumps(results[-1]), file=file, flush=True)
            print(f"{'noticed ' if noticed else 'SURVIVED'} {mutant.key}", flush=True)
    page = summary(results, len(mutants))
    (out / "survivors.md").write_text(page)
    return page


def main() -> None:
    """Read the options, test mutants, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="time for all mutants; default: 60")
    parser.add_argument("--seed", type=int, default=0, help="draws the mutants and their order; default: 0")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of modules, such as metrics/")
    parser.add_argument("--seconds", type=float, default=60, help="of tests for each mutant; default: 60")
    parser.add_argument("--out", type=Path, default=ROOT / "build/mutation", help="folder of the results")
    options = parser.parse_args()
    print(run(options.out.resolve(), options.minutes, options.seed, options.only, options.seconds))


if __name__ == "__main__":
    main()
