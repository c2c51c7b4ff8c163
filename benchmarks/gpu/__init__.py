"""Everything that needs a GPU, within given minutes: tests, speed, the paper's table at its own size, a model (docs/gpu.md)."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.packages import missing_packages

PARTS = ("checks", "speed", "table", "candidate")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all, in this order")
    parser.add_argument("--minutes", type=float, default=8, help="end after about this time (default: 8)")
    parser.add_argument("--out", type=Path, help="folder of the results; those that it holds already are not repeated")
    parser.add_argument("--work", type=Path, help="folder for trainings and volumes (default: a temporary one)")
    parser.add_argument("--tiny", action="store_true", help="rehearsal: tiny sizes on synthetic tissue, also on a CPU")
    parser.add_argument("--commit", help="commit of this code, for a machine without its Git repository")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if given.out is None:
        parser.error("--out is missing: name a folder for the results")
    missing = missing_packages()
    if missing:
        parser.error(f"this Python lacks {', '.join(missing)}; bring their wheels, and name their folder in PYTHONPATH")
    from cleftnet.errors import InputError

    try:
        run(given)
    except InputError as error:
        parser.error(str(error))


def run(given: argparse.Namespace) -> None:
    """Run the parts one after the other; whatever is finished is in the folder of the results."""
    from benchmarks.gpu import candidate, checks, speed, table  # these import PyTorch and the package
    from benchmarks.gpu.session import Session

    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        session = Session.begin(given.out, work, given.minutes, given.tiny, given.commit)
        modules = {"checks": checks, "speed": speed, "table": table, "candidate": candidate}
        for part in PARTS:
            if part in (given.parts or PARTS):
                print(f"\n{part}: {session.left_s():.0f} s left", flush=True)
                modules[part].run(session)
        print(f"\nresults in {session.out}; {session.left_s():.0f} s left")
