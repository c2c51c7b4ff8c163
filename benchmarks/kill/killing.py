"""Runs a command, kills it at random moments, and compares what it leaves in the end with an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors

from benchmarks.kill.jobs import Job
from tools.warm import start_command

LIMIT_S = 120.0


@dataclass
class Bench:
    """Where commands run, and what came of it so far.

    Attributes:
        folder: A folder for everything; commands run in `work` inside, always the same path, which results may name.
        inputs: Folder of the inputs, which are copied for every run.
        url: Address of the server for downloads.
        kills: Number of processes killed so far.
        faults: Number of other faults so far.
        sessions: Number of the first process of every command started.
        problems: What was not as it should be.
    """

    folder: Path
    inputs: Path
    url: str
    kills: int = 0
    faults: int = 0
    sessions: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The working directory of every command."""
        return self.folder / "work"

    def begin(self, job: Job) -> None:
        """Make the working directory anew, with the inputs of a job."""
        self.work.mkdir(exist_ok=True)
        for path in self.work.iterdir():  # the folder itself may be a mounted disk
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.inputs, self.work, dirs_exist_ok=True)
        for arguments in job.before:
            code = self.wait(self.start(arguments))
            self.expect(code == 0, f"{job.name}: its input ended with code {code}")

    def start(self, arguments: tuple[str, ...], before: Callable[[], None] | None = None) -> int:
        """Start a command; return the number of its process, which leads a session."""
        words = tuple(self.url if word == "URL" else word for word in arguments)
        process = start_command(words, self.work, self.folder / "stdout", self.folder / "stderr", before)
        self.sessions.add(process)
        return process

    def wait(self, process: int, seconds: float = LIMIT_S) -> int | None:
        """Return the exit code of a process, minus the number of the signal that ended it; None: it still runs.

        A process that runs longer than `LIMIT_S` is killed, which is a problem.
        """
        handle = os.pidfd_open(process)
        ended, _, _ = select.select([handle], [], [], seconds)
        os.close(handle)
        if not ended and seconds < LIMIT_S:
            return None
        if not ended:
            self.expect(False, f"process {process} did not end within {LIMIT_S:g} s: {self.said()}")
            os.killpg(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def run(self, arguments: tuple[str, ...], before: Callable[[], None] | None = None) -> int | None:
        """Run a command to its end; return its exit code."""
        return self.wait(self.start(arguments, before))

    def said(self) -> str:
        """Return the last line on stderr."""
        return ((self.folder / "stderr").read_text("utf-8", "replace").strip().splitlines() or [""])[-1]

    def failed_well(self, code: int | None) -> bool:
        """Return whether a command ended as one does whose input or place is at fault: code 2 and one line."""
        said = (self.folder / "stderr").read_text("utf-8", "replace")
        return (
            code == 2 and "Traceback" not in said and said.count("error: ") == 1 and self.said().startswith("error: ")
        )

    def results(self, job: Job) -> dict[str, bytes]:
        """Return what a job printed, and the bytes of its results by their names."""
        files = {path for pattern in job.results for path in self.work.glob(pattern) if path.is_file()}
        named = {str(path.relative_to(self.work)): _content(path) for path in sorted(files)}
        named["what it prints"] = (self.folder / "stdout").read_bytes()
        for name in named:
            if job.times is not None and not name.endswith(".safetensors"):
                named[name] = re.sub(job.times, b"", named[name])
        return named

    def expect(self, sound: bool, problem: str) -> None:
        """Note a problem."""
        if not sound:
            self.problems.append(problem)
            print(f"  PROBLEM {problem}", flush=True)


def _content(path: Path) -> bytes:
    """Return the bytes of a file; of a checkpoint those of its weights, since its header has no fixed order."""
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return content
    return b"".join(name.encode() + bytes(tensor["data"]) for name, tensor in sorted(safetensors.deserialize(content)))


@dataclass(frozen=True)
class UndisturbedRun:
    """What a job leaves when nothing disturbs it.

    Attributes:
        results: What it printed and the files that are the same in two runs, by their names.
        seconds: How long it took.
        sizes: Bytes of each new file that it left.
    """

    results: dict[str, bytes]
    seconds: float
    sizes: list[int]


def undisturbed(bench: Bench, job: Job) -> UndisturbedRun | None:
    """Run a job twice; return None when it fails."""
    problems, runs = len(bench.problems), []
    for _ in range(2):
        bench.begin(job)
        before = sizes(bench.work)
        begin = time.monotonic()
        code = bench.run(job.arguments)
        bench.expect(code == 0, f"{job.name}: undisturbed, it ended with code {code}: {bench.said()}")
        runs.append((bench.results(job), time.monotonic() - begin))
    (first, _), (second, seconds) = runs
    same = {name: content for name, content in second.items() if first.get(name) == content}
    bench.expect(bool(same), f"{job.name}: nothing is the same in two undisturbed runs")
    if varying := sorted(second.keys() - same.keys()):
        print(f"{job.name}: not compared, since two undisturbed runs differ in it: {', '.join(varying)}")
    if len(bench.problems) > problems:
        return None
    new = [size for name, size in sizes(bench.work).items() if name not in before]
    return UndisturbedRun(same, seconds, new)


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file in a folder, by its path there."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def differing(bench: Bench, job: Job, expected: dict[str, bytes]) -> list[str]:
    """Return the names of the results that are not as expected."""
    found = bench.results(job)
    return [name for name, content in expected.items() if found.get(name) != content]


def finish(bench: Bench, job: Job, whole: UndisturbedRun, after: str) -> None:
    """Run a job to its end, and compare what it leaves with the undisturbed run."""
    code = bench.run(job.arguments)
    bench.expect(code == 0, f"{job.name}: after {after} the last run ended with code {code}: {bench.said()}")
    compare(bench, job, whole, after)


def compare(bench: Bench, job: Job, whole: UndisturbedRun, after: str) -> None:
    """Compare what a finished job left with the undisturbed run."""
    wrong = differing(bench, job, whole.results)
    bench.expect(not wrong, f"{job.name}: after {after} these differ from the undisturbed run: {', '.join(wrong[:5])}")


def kill_job(bench: Bench, job: Job, whole: UndisturbedRun, kills: int, draw: random.Random) -> None:
    """Kill a job this many times, in as many runs as that takes; compare the results of each run."""
    killed = runs = 0
    while killed < kills:
        bench.begin(job)
        runs += 1
        killed += _kill_until_done(bench, job, kills - killed, whole.seconds, draw)
        compare(bench, job, whole, "kills")
    bench.kills += killed
    left = _left_running(bench.sessions)
    bench.expect(not left, f"{job.name}: processes {left} run on although their command was killed")
    print(
        f"{job.name}: killed {killed} times in {runs} runs of {whole.seconds:.1f} s; {len(whole.results)} results equal",
        flush=True,
    )


def members(sessions: set[int]) -> dict[int, bytes]:
    """Return the command lines of the running processes of some sessions, by the numbers of the processes."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            state, _, _, session = (folder / "stat").read_text().rsplit(") ", 1)[1].split()[:4]
            if int(session) in sessions and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):  # ended meanwhile, or no process at all
            continue
    return found


def _left_running(sessions: set[int], seconds: float = 20) -> list[int]:
    """Return the processes of ended commands that still run after this time."""
    end = time.monotonic() + seconds
    while (left := members(sessions)) and time.monotonic() < end:
        time.sleep(0.2)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return sorted(left)


def _kill_until_done(bench: Bench, job: Job, most: int, seconds: float, draw: random.Random) -> int:
    """Start a job and kill it at a random moment, again and again until it ends by itself; return the number of kills."""
    killed = finished = 0
    while True:
        process = bench.start(job.arguments)
        code = bench.wait(process, draw.uniform(0, seconds) if killed < most else LIMIT_S)
        if code is None and killed < most:
            sent = draw.choice((signal.SIGKILL, signal.SIGTERM))
            os.kill(process, sent)
            code = bench.wait(process)
            if code != 0:  # else it ended by itself in that moment, or had done everything
                killed += 1
                known = (-sent,) if sent == signal.SIGKILL else (-sent, 143)
                bench.expect(code in known, f"{job.name}: {sent.name} ended it with code {code}: {bench.said()}")
                now = job.finished(bench.work)
                bench.expect(now >= finished, f"{job.name}: of {finished} finished parts {now} were left")
                finished = now
                continue
        bench.expect(code == 0, f"{job.name}: the last run ended with code {code}: {bench.said()}")
        return killed
