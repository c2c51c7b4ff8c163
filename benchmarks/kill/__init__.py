"""Disturbs verbs in every way, and compares what the rerun leaves with an undisturbed run, byte for byte.

Train, finetune, predict, synapses, evaluate, convert, compare, download and review are ended by SIGKILL or SIGTERM at
random moments. Then faults: predict loses a worker or its scheduler, the disk is full, files may not be larger, inputs may
not be read, a chunk is damaged. After each, the same command is run again until it is done. Exit code 1 when a byte differs,
finished work was lost, an output is half written, or a fault was not reported in one line.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kill.faults import FAULTS
from benchmarks.kill.jobs import FILE, JOBS, make_inputs, rehearse, serve_content, serving
from benchmarks.kill.killing import Bench, kill_job, undisturbed
from tools.warm import import_ahead


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=12, help="kills of each verb (default: 12)")
    parser.add_argument(
        "--verbs", default=",".join(JOBS), help=f"only these, separated by commas (default: {', '.join(JOBS)})"
    )
    parser.add_argument(
        "--faults", default=",".join(FAULTS), help=f"only these, or '' for none (default: {', '.join(FAULTS)})"
    )
    parser.add_argument("--times", type=int, default=1, help="how often each fault is tried on each verb (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments, signals and chunks (default: 0)")
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    jobs = [JOBS[name] for name in given.verbs.split(",")]
    faults = [name for name in given.faults.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="kill-") as name, serving() as url:
        Path(name).chmod(0o755)  # a user without rights works in it, too
        inputs = Path(name, "inputs")
        inputs.mkdir()
        import_ahead(lambda: make_inputs(inputs), inputs)
        serve_content(inputs / FILE)
        import_ahead(lambda: rehearse(inputs, jobs, url), inputs)
        bench = Bench(Path(name), inputs, url)
        for job in jobs:
            draw = random.Random(f"{given.seed} {job.name}")  # a verb alone is disturbed as among all
            whole = undisturbed(bench, job)
            if whole is None:
                continue
            kill_job(bench, job, whole, given.kills, draw)
            for fault in faults:
                for _ in range(given.times):
                    if what := FAULTS[fault](bench, job, whole, draw):
                        bench.faults += 1
                        print(f"{job.name}: {fault}: {what}", flush=True)
    print(
        f"{bench.kills} kills and {bench.faults} other faults, seed {given.seed}, {time.monotonic() - begin:.0f} s: "
        f"{len(bench.problems)} problems"
    )
    for problem in bench.problems:
        print(f"  {problem}")
    if bench.problems:
        sys.exit(1)
