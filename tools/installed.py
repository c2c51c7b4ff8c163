"""What an install of cleftnet brings: the distributions of the base and of each extra, their size, and the time of imports.

`python -m tools.installed` prints the tables of docs/install.md. It reads the environment that it runs in and installs nothing.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LEAST_MB = 0.1  # below which a dependency counts as nothing
IMPORTS = {  # what a user waits for, and the statement that brings it
    "`import cleftnet`": "import cleftnet",
    "`cleftnet --help`": "import cleftnet.cli",
    "`cleftnet.open_volume`": "from cleftnet import open_volume",
    "`cleftnet.evaluate`": "from cleftnet import evaluate",
    "`cleftnet.predict`": "from cleftnet import predict",
    "`cleftnet.find_synapses`": "from cleftnet import find_synapses",
    "`cleftnet.train`": "from cleftnet import train",
    "workers (`dask.distributed`)": "import cleftnet.blockwise.cluster",
    "`cleftnet.report`": "from cleftnet import report",
    "extra `trees`": "import sklearn.ensemble",
    "extra `view`": "import neuroglancer",
    "extra `export`": "import onnx, onnxruntime",
}


def requirements_of(extra: str | None = None) -> list[Requirement]:
    """Return what pyproject.toml asks for: the mandatory dependencies, or those of an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def brought_by(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """Return the installed distributions that requirements bring, with what these need in turn, by normalized name.

    Raises:
        PackageNotFoundError: when one that has to be there is not installed.
    """
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(one, extra) for one in requirements for extra in ("", *one.extras)]
    while waiting:
        one, extra = waiting.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        found[name] = distribution(one.name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, inner) for inner in ("", *needed.extras)]
    return found


def megabytes(distributions: Iterable[Distribution]) -> float:
    """Return the size of all their files on disk, in MB, without bytecode."""
    files = [Path(str(file.locate())) for one in distributions for file in one.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def link_into(folder: Path, distributions: Iterable[Distribution]) -> None:
    """Link the packages of distributions into a folder, so that an environment has these and no others.

    Args:
        folder: The `site-packages` of an environment.
        distributions: As `brought_by` returns them.
    """
    for one in distributions:
        for top in {PurePosixPath(file).parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(one.locate_file(top))))


def size_table() -> list[str]:
    """Return a table in Markdown: what the base is made of, and what each extra adds to it."""
    base = brought_by(requirements_of())
    direct = [re.sub(r"[-_.]+", "-", one.name).lower() for one in requirements_of()]
    lines = ["| | packages | MB |", "|---|---|---|"]
    lines.append(f"| base, {len(direct)} mandatory dependencies | {len(base)} | {megabytes(base.values()):,.0f} |")
    less = {name: _added(name, base) for name in direct}
    for name in sorted((name for name in direct if less[name] >= LEAST_MB), key=lambda name: -less[name]):
        lines.append(f"| — without {name} | | −{less[name]:,.1f} |")
    lines.append(f"| — without any of the other {sum(mb < LEAST_MB for mb in less.values())} | | 0 |")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in (name for name in extras if name not in ("docs", "dev")):
        try:
            added = {name: one for name, one in brought_by(requirements_of(extra)).items() if name not in base}
        except PackageNotFoundError as error:
            lines.append(f"| `{extra}` | {error.name} is not installed here | |")
        else:
            lines.append(f"| `{extra}` | +{len(added)} | +{megabytes(added.values()):,.1f} |")
    return lines


def _added(name: str, base: dict[str, Distribution]) -> float:
    """Return the size in MB that the base would be smaller without one dependency."""
    others = brought_by(one for one in requirements_of() if re.sub(r"[-_.]+", "-", one.name).lower() != name)
    return megabytes(one for key, one in base.items() if key not in others)


def import_table(repeats: int) -> list[str]:
    """Return a table in Markdown: the seconds that imports take in a new process, median, beyond those of Python itself."""
    lines = ["| | s |", "|---|---|"]
    empty = _seconds("pass", repeats)
    for name, statement in IMPORTS.items():
        lines.append(f"| {name} | {max(0.0, _seconds(statement, repeats) - empty):.2f} |")
    return lines


def _seconds(statement: str, repeats: int) -> float:
    """Return the median of the CPU seconds of a new process, so that other processes on the machine count less."""

    def once() -> float:
        code = f"import time\n{statement}\nprint(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout.splitlines()[-1])

    once()  # fills the file cache
    return statistics.median(once() for _ in range(repeats))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tools.installed", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="of each import; 0: sizes only")
    chosen = parser.parse_args(arguments)
    print("\n".join(size_table()), flush=True)
    if chosen.repeats:
        print("", *import_table(chosen.repeats), time.strftime("\nmeasured %Y-%m-%d"), sep="\n")


if __name__ == "__main__":
    main()
