"""A full disk, missing permissions and damaged chunks: one line each, and the rerun after the fault ends as an undisturbed run.

A fault returns what it did in a few words, or nothing where it does not concern a job.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import safetensors

from benchmarks.kill.jobs import Job
from benchmarks.kill.killing import Bench, UndisturbedRun, compare, finish, sizes, undisturbed
from benchmarks.kill.workers import kill_scheduler, kill_worker

_NOBODY = 65534
_MESSAGE = 1024  # bytes, since a limit holds for the file of messages as well


def fill_disk(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Run on a full disk, again with a little room, again with more, and at last with enough.

    The disk is a file system in memory, mounted where the command runs; a file beside the inputs fills it.
    """
    if not whole.sizes:
        return ""
    with _mounted(bench.work) as mounted:
        if not mounted:
            return "skipped: no file system may be mounted here"
        bench.begin(job)
        ballast = bench.work / "ballast"

        def leave(room: int) -> None:
            ballast.unlink(missing_ok=True)
            disk = os.statvfs(bench.work)
            ballast.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - room)))

        rooms = [0, *_draw_sizes(draw, sum(whole.sizes))]
        failed, done = _try_with_room(bench, job, rooms, leave)
        ballast.unlink()
        (compare if done else finish)(bench, job, whole, "a full disk")
    return f"{failed} times"


def limit_files(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Run with a small limit on the size of a file, again with larger ones, and at last without."""
    if not whole.sizes:
        return ""
    bench.begin(job)
    limit = 0

    def leave(room: int) -> None:
        nonlocal limit
        limit = room

    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    rooms = [_MESSAGE, *(max(_MESSAGE, size) for size in _draw_sizes(draw, max(whole.sizes)))]
    failed, done = _try_with_room(bench, job, rooms, leave, before)
    (compare if done else finish)(bench, job, whole, "a limit on the size of files")
    return f"{failed} times"


def _draw_sizes(draw: random.Random, size: int) -> list[int]:
    """Draw three sizes below this one, in rising order."""
    return sorted(draw.randrange(size) for _ in range(3))


def _try_with_room(
    bench: Bench, job: Job, rooms: list[int], leave: Callable[[int], None], before: Callable[[], None] | None = None
) -> tuple[int, bool]:
    """Run a job with ever more room; return how often it failed for want of room, and whether it was done at last."""
    attempts = _Attempts(bench, job)
    for room in rooms:
        leave(room)
        if attempts.run(f"with room for {room} bytes", before):
            return attempts.failed, True
    return attempts.failed, False


def forbid_access(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Take away the permission to read each input, then to write the output; root, who may do all, becomes nobody."""
    if "--workers" in job.arguments:
        return ""  # workers start a Python of their own, which another user may not be allowed to read
    if os.getuid() == 0 and not _may_become_nobody():
        return "skipped: root may not become another user here"
    bench.begin(job)
    _give_away(bench.work)
    places = dict.fromkeys(bench.work / _file(name) for name in job.reads)
    if whole.sizes:
        places[bench.work] = None
    for place in places:
        before, mode = sizes(bench.work), place.stat().st_mode
        place.chmod(0o555 if place == bench.work else 0)
        code = bench.run(job.arguments, _become_nobody)
        place.chmod(mode)
        what = f"without permission for {place.name}"
        bench.expect(bench.failed_well(code), f"{job.name}: {what} it ended with code {code}: {bench.said()}")
        new = sizes(bench.work).keys() - before.keys()
        bench.expect(not new, f"{job.name}: {what} it left {', '.join(sorted(new)[:5])}")
    code = bench.run(job.arguments, _become_nobody)
    bench.expect(code == 0, f"{job.name}: with permission again it ended with code {code}: {bench.said()}")
    compare(bench, job, whole, "missing permissions")
    return f"{len(places)} times"


def damage_chunk(bench: Bench, job: Job, whole: UndisturbedRun, draw: random.Random) -> str:
    """Damage one chunk of each volume, in HDF5 and in Zarr, overwritten and then cut short; then restore it."""
    failed = tried = 0
    for disturbed in (job, job.on_zarr) if job.volumes else ():
        expected = whole if disturbed is job else undisturbed(bench, disturbed)
        if expected is None:
            continue
        bench.begin(disturbed)
        attempts = _Attempts(bench, disturbed)
        for volume in disturbed.volumes:
            path, start, size = _chunk(bench.work, volume, draw)
            content = path.read_bytes()
            sound, half = content[start : start + size], size // 2
            for damaged in (b"\xff" * size, sound[:half] + bytes(size - half) if start else sound[:half]):
                path.write_bytes(content[:start] + damaged + content[start + size :])
                done = attempts.run(f"with a damaged chunk of {volume}")
                path.write_bytes(content)
                tried += 1
                if done:  # it does not need that chunk, so that its results must be right
                    compare(bench, disturbed, expected, f"a damaged chunk of {volume} that it does not need")
                    bench.begin(disturbed)
                    attempts.finished = 0
        failed += attempts.failed
        finish(bench, disturbed, expected, "a damaged chunk")
    return f"{failed} of {tried} times" if tried else ""


FAULTS: dict[str, Callable[[Bench, Job, UndisturbedRun, random.Random], str]] = {
    "worker": kill_worker,
    "scheduler": kill_scheduler,
    "disk": fill_disk,
    "file-size": limit_files,
    "permission": forbid_access,
    "chunk": damage_chunk,
}


@dataclass
class _Attempts:
    """Runs a job under a fault, again and again in one folder.

    Attributes:
        bench: Where it runs.
        job: The job.
        failed: How often it failed so far.
        finished: Parts that were finished when it last failed, which must not become fewer.
    """

    bench: Bench
    job: Job
    failed: int = 0
    finished: int = 0

    def run(self, what: str, before: Callable[[], None] | None = None) -> bool:
        """Run the job; return whether it was done. If not, note what is wrong with how it failed."""
        code = self.bench.run(self.job.arguments, before)
        if code == 0:
            return True
        self.failed += 1
        name = self.job.name
        self.bench.expect(
            self.bench.failed_well(code), f"{name}: {what} it ended with code {code}: {self.bench.said()}"
        )
        _expect_nothing_half(self.bench, self.job, what)
        now = self.job.finished(self.bench.work)
        self.bench.expect(now >= self.finished, f"{name}: {what}, of {self.finished} finished parts {now} were left")
        self.finished = now
        return False


def _expect_nothing_half(bench: Bench, job: Job, what: str) -> None:
    """Expect no temporary file, and of an output that appears whole not a part of it."""
    left = sorted(name for name in sizes(bench.work) if Path(name).name.endswith((".part", ".tmp", ".old")))
    if job.name == "download":  # goes on from its part
        left = []
    bench.expect(not left, f"{job.name}: {what} it left {', '.join(left[:5])}")
    try:
        there = bench.results(job)
    except safetensors.SafetensorError as error:
        bench.expect(False, f"{job.name}: {what} a checkpoint is half written: {error}")
        return
    half = [name for name in there if name != "what it prints" and ".unfinished/" not in name]
    bench.expect(job.grows or not half, f"{job.name}: {what} it left half an output: {', '.join(half[:5])}")


def _chunk(folder: Path, volume: str, draw: random.Random) -> tuple[Path, int, int]:
    """Choose a chunk of an array; return the file that holds it, where it begins there and its size."""
    path = folder / _file(volume)
    if path.suffix == ".hdf":
        with h5py.File(path) as file:
            dataset = file[volume.partition("/")[2]].id
            info = dataset.get_chunk_info(draw.randrange(dataset.get_num_chunks()))
            return path, info.byte_offset, info.size
    chunks = sorted(file for file in (folder / volume).rglob("*") if file.is_file() and file.name[0] not in ".z")
    chunk = draw.choice(chunks)
    return chunk, 0, chunk.stat().st_size


def _file(name: str) -> str:
    return name.partition("/")[0]


@contextmanager
def _mounted(folder: Path, size: str = "64m") -> Iterator[bool]:
    """Mount an empty file system of this size while the body runs; yield False where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:  # no program to mount with
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


def _give_away(folder: Path) -> None:
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)


def _become_nobody() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _may_become_nobody() -> bool:
    child = os.fork()
    if child == 0:
        try:
            _become_nobody()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
