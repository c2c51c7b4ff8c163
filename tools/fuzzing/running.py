"""Runs one input in a forked process under limits, and judges how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tools.fuzzing.cases import Case, draw_case, prepare
from tools.fuzzing.samples import LABELS, PREDICTIONS, RAW
from tools.warm import start_command

MEMORY_BYTES = 2 * 2**30  # address space that an input may add to what the libraries take
FILE_BYTES = 2**28
LARGE_VOX = 2**28
_TEMPORARY = re.compile(r"^\..*\.(part|old)$|\.tmp$")


@dataclass(frozen=True)
class Outcome:
    """How an input ended.

    Attributes:
        case: The input.
        damage: What was done to its file.
        code: Exit code, minus the number of the signal that ended the process.
        seconds: Time it took.
        stderr: What it printed on stderr.
        problem: What is wrong with this end; empty where nothing is.
    """

    case: Case
    damage: str
    code: int
    seconds: float
    stderr: str
    problem: str


def run_case(seed: int, number: int, samples: Path, limit_s: float, short: bool = False) -> Outcome:
    """Draw an input, run it, and judge its end."""
    case, draw = draw_case(seed, number, short)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        folder.mkdir()
        damage = prepare(case, draw, samples, folder)
        before = _files(folder)
        code, seconds, stderr = run_command(case.arguments, folder, Path(name) / "stderr", limit_s)
        problem = judge(case, code, stderr, folder, before)
        if problem == "hang" and _is_large(folder, samples, case):
            problem = ""
        return Outcome(case, damage, code, seconds, stderr, problem)


def run_command(arguments: tuple[str, ...], folder: Path, stderr: Path, limit_s: float) -> tuple[int, float, str]:
    """Run the command line in a forked process in a folder; return its code, seconds and stderr."""

    def limit() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if arguments[0] == "view":  # serves until it is interrupted
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 2)

    begin = time.monotonic()
    child = start_command(arguments, folder, Path(os.devnull), stderr, limit)
    code = _wait(child, limit_s)
    return code, time.monotonic() - begin, stderr.read_text("utf-8", "replace") if stderr.exists() else ""


def _wait(child: int, limit_s: float) -> int:
    """Wait for a process; kill its session when the limit is over, and what it left running in any case."""
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([handle], [], [], limit_s)
    os.close(handle)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if ready else -1000


def judge(case: Case, code: int, stderr: str, folder: Path, before: dict[str, tuple[int, int]]) -> str:
    """Return what is wrong with the end of a command; empty where nothing is.

    Args:
        case: The input.
        code: Exit code, minus the number of the signal that ended the process; -1000 where it ran past its limit.
        stderr: What it printed on stderr.
        folder: Where it ran.
        before: Size and time of the files that were there before.
    """
    if code == -1000:
        return "hang"
    if code < 0:
        return f"ended by signal {-code}"
    lines = stderr.rstrip("\n").split("\n")
    if code not in (0, 2) or "Traceback" in stderr:
        return f"exit code {code}: {lines[-1][:200]}"
    errors = [n for n, line in enumerate(lines) if line.startswith("error: ")]
    if code == 2 and errors != [len(lines) - 1]:
        return f"not one line: {' | '.join(lines[-3:])[:300]}"
    if re.search(r"^warning: .*(encountered in|Deprecat|overflow)", stderr, re.MULTILINE):
        return f"a library's warning: {next(li for li in lines if li.startswith('warning: '))[:200]}"
    after = _files(folder)
    if left := [name for name in after if any(_TEMPORARY.search(part) for part in Path(name).parts)]:
        return f"left behind: {left[0]}"
    if code == 2 and case.arguments[0] != "review":
        new = {name for name in after if name not in before}
        whole = [out for out in case.outputs if any(n == out or n.startswith(f"{out}/") for n in new)]
        whole = [out for out in whole if not (folder / out).is_dir() or any((folder / out).glob("synapses.*"))]
        if whole:
            return f"output in spite of an error: {whole[0]}"
    changed = [name for name, was in before.items() if "/" not in name and after.get(name) != was]
    return f"changed its input {changed[0]}" if changed and "--into" not in case.arguments else ""


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file, by its path in the folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns)
    return found


def _is_large(folder: Path, samples: Path, case: Case) -> bool:
    """Return whether a damaged file says that it holds a volume that takes longer than the limit."""
    if case.damaged is None:
        return False
    if case.damaged not in {*RAW, *LABELS, *PREDICTIONS}:
        return False
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        large = 0
        try:
            os.chdir(folder)
            from cleftnet.volumes import list_arrays, open_volume

            named = {"pre": "precomputed://pre", "series": "series/*.tif"}.get(case.damaged, case.damaged)
            large = max((open_volume(a).size for a in list_arrays(named)), default=0)
        finally:
            os.write(writing, b"1" if large > LARGE_VOX else b"0")
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        return answer.read(1) == b"1"
