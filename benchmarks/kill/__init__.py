"""Kills verbs at random moments, and compares what the rerun leaves with an undisturbed run, byte for byte.

Train, finetune, predict, synapses, evaluate, convert, compare, download and review are ended by SIGKILL or SIGTERM, and
the same command is run again until it is done. Exit code 1 when a byte differs or finished work was lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kill.jobs import FILE, JOBS, rehearse, serve_content, serving
from benchmarks.kill.killing import Bench, kill_job
from tools.warm import import_ahead


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=12, help="kills of each verb (default: 12)")
    parser.add_argument("--verbs", default=",".join(JOBS), help="only these verbs, separated by commas (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and signals (default: 0)")
    given = parser.parse_args(arguments)
    begin, draw, verbs = time.monotonic(), random.Random(given.seed), given.verbs.split(",")
    with tempfile.TemporaryDirectory(prefix="kill-") as name, serving() as url:
        inputs = Path(name, "inputs")
        inputs.mkdir()
        import_ahead(lambda: rehearse(inputs, verbs), inputs)
        serve_content(inputs / FILE)
        bench = Bench(Path(name), inputs, url)
        for verb in verbs:
            kill_job(bench, JOBS[verb], given.kills, draw)
    print(f"{bench.kills} kills, seed {given.seed}, {time.monotonic() - begin:.0f} s: {len(bench.problems)} problems")
    for problem in bench.problems:
        print(f"  {problem}")
    if bench.problems:
        sys.exit(1)
