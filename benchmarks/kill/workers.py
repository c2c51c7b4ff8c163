"""Kills a worker of a command, or the scheduler of its cluster."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kill.jobs import Job
from benchmarks.kill.killing import Bench, UndisturbedRun, compare, members


def kill_worker(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Kill one of the workers that a command started; the command, or its rerun, must end as the undisturbed run."""
    if "--workers" not in job.arguments:
        return ""
    bench.begin(job)
    process = bench.start(job.arguments)
    workers: list[int] = []
    code = None
    while not workers and (code := bench.wait(process, 0.2)) is None:
        workers = [number for number, line in members({process}).items() if b"spawn_main" in line]
    if not workers:
        bench.expect(False, f"{job.name}: no worker was seen, and it ended with code {code}: {bench.said()}")
        return ""
    time.sleep(draw.uniform(0, whole.seconds))
    with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
        os.kill(draw.choice(workers), signal.SIGKILL)
        bench.kills += 1
    _end(bench, job, whole, bench.wait(process), job.arguments, "the death of a worker")
    return "one killed"


def kill_scheduler(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Kill the scheduler of the cluster that a command works on; its rerun on a new one must end as the undisturbed run."""
    if "--workers" not in job.arguments:
        return ""
    bench.begin(job)
    file = bench.work / "scheduler.json"
    at = job.arguments.index("--workers")
    arguments = (*job.arguments[:at], *job.arguments[at + 2 :], "--scheduler", str(file))
    with _cluster(file) as scheduler:
        process = bench.start(arguments)
        time.sleep(draw.uniform(0.5, whole.seconds))
        scheduler.kill()
        bench.kills += 1
        code = bench.wait(process)
    if code == 0:
        _end(bench, job, whole, code, arguments, "the death of its scheduler")
    else:
        with _cluster(file):
            _end(bench, job, whole, code, arguments, "the death of its scheduler")
    return "one killed"


def _end(
    bench: Bench, job: Job, whole: UndisturbedRun, code: int | None, arguments: tuple[str, ...], after: str
) -> None:
    bench.expect(code in (0, 1), f"{job.name}: {after} ended it with code {code}: {bench.said()}")
    if code != 0:  # blocks failed: the same command computes them
        code = bench.run(arguments)
    bench.expect(code == 0, f"{job.name}: after {after} the rerun ended with code {code}: {bench.said()}")
    compare(bench, job, whole, after)


@contextmanager
def _cluster(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a scheduler and a worker; yield the scheduler once it has written its file."""
    file.unlink(missing_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    begin = [*dask, "scheduler", "--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    work = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    work += ["--no-nanny", "--death-timeout", "20", "--local-directory", str(file.parent)]
    scheduler = subprocess.Popen(begin, **quiet)
    try:
        while not file.exists() and scheduler.poll() is None:
            time.sleep(0.1)
        worker = subprocess.Popen(work, **quiet)
        try:
            yield scheduler
        finally:
            worker.kill()
            worker.wait()
    finally:
        scheduler.kill()
        scheduler.wait()
