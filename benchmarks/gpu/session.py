"""The folder of the results, the time that is left, and the sizes of a run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import IntZYX
from cleftnet.training import loop
from cleftnet.training.loop import learn
from cleftnet.training.provenance import provenance

MODEL_BYTES = 16 * 2**20  # largest file of a candidate model


class Sizes(NamedTuple):
    """Sizes of the measurements: the paper's, or tiny ones for a rehearsal."""

    patch: IntZYX = (8, 256, 256)
    widths: tuple[int, ...] = (32, 64, 96, 128, 160)
    max_keys: int = 1024
    batch: int = 16
    steps: int = 5  # of a measurement, after two that choose kernels
    volume: IntZYX = (64, 2048, 2048)


TINY = Sizes((4, 16, 16), (2, 4), 16, 2, 1, (8, 32, 48))


class ResultFile:
    """A JSON file of results by name, which is written anew whenever a result is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file again, to which another process may have added results."""
        if self.path.exists():
            self.results = json.loads(self.path.read_text())

    def add(self, name: str, values: Any, run: dict[str, Any]) -> None:
        """Add a result with the run that it was measured in."""
        self.results[name] = {"values": values, "run": run}
        with replacing(self.path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(self.results, indent=1, default=str) + "\n")
        print(f"  {name}: {json.dumps(values, default=str)[:300]}", flush=True)


@dataclass(frozen=True, eq=False)
class Session:
    """One run of the script.

    Attributes:
        out: Folder of the results.
        work: Folder for trainings and volumes, which a later run does not need.
        ends: When the time is over, on the clock of `time.monotonic`.
        tiny: Whether this is a rehearsal.
        about: Card, driver, versions, commit and time, stored with every result.
        files: The result files by part.
        baseline: Measurements of this process that others are compared with.
        failed: Names of the cells that failed in this process.
    """

    out: Path
    work: Path
    ends: float
    tiny: bool
    about: dict[str, Any]
    files: dict[str, ResultFile] = field(default_factory=dict)
    baseline: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    @classmethod
    def begin(cls, out: Path, work: Path, minutes: float, tiny: bool, commit: str | None) -> Session:
        """Open the folder of the results.

        Raises:
            InputError: when there is no GPU, or the results are those of a rehearsal.
        """
        if not tiny and not torch.cuda.is_available():
            raise InputError("there is no CUDA device; --tiny rehearses everything on a CPU")
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        about = {key: value for key, value in provenance(None).items() if key != "recipe"}
        about |= {"git": commit or about["git"], "minutes": minutes, "tiny": tiny, **_card()}
        session = cls(out, work, time.monotonic() + 60 * minutes, tiny, about)
        for file in session.out.glob("*.json"):
            for name, result in session.file(file.stem).results.items():
                if result["run"]["tiny"] != tiny:
                    raise InputError(
                        f"{file} holds {name} of {'a real run' if tiny else 'a rehearsal'}; choose another folder"
                    )
        return session

    @property
    def sizes(self) -> Sizes:
        """Sizes of the measurements."""
        return TINY if self.tiny else Sizes()

    @property
    def device(self) -> torch.device:
        """The GPU, or in a rehearsal perhaps the CPU."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self.ends - time.monotonic()

    def file(self, part: str) -> ResultFile:
        """Return the result file of a part."""
        if part not in self.files:
            self.files[part] = ResultFile(self.out / f"{part}.json")
        return self.files[part]

    def add(self, part: str, name: str, values: Any, seed: int = 0) -> None:
        """Add a result and write its file."""
        self.file(part).add(name, values, {**self.about, "seed": seed, "seconds_left": round(self.left_s())})


def _card() -> dict[str, Any]:
    """Return name, memory and driver of the GPU, and the versions of its libraries."""
    if not torch.cuda.is_available():
        return {"card": None, "driver": None}
    driver = _nvidia_smi("--query-gpu=driver_version")
    return {
        "card": torch.cuda.get_device_name(),
        "card_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "driver": driver[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _nvidia_smi(query: str) -> list[str]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


@contextmanager
def gpu_busy(into: dict[str, Any]) -> Iterator[None]:
    """Store the mean share of time that the GPU was busy, by nvidia-smi; None where it has none.

    It is measured between the first and the last training step of the body, or all the time where there is none.
    """
    query = "--query-gpu=timestamp,utilization.gpu"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "--loop-ms=200"]
    steps: list[datetime] = []

    def noted(*arguments: Any) -> Any:
        found = learn(*arguments)
        steps.append(datetime.now())
        return found

    try:
        sampling = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        into["gpu_busy"] = None
        yield
        return
    try:
        with mock.patch.object(loop, "learn", noted):
            yield
    finally:
        sampling.terminate()
        shares = [
            int(share)
            for moment, _, share in (line.partition(",") for line in sampling.communicate()[0].splitlines())
            if share.strip().isdigit() and (not steps or steps[0] < _time(moment) < steps[-1])
        ]
        into["gpu_busy"] = round(sum(shares) / len(shares) / 100, 3) if shares else None


def _time(moment: str) -> datetime:
    """Return a time as nvidia-smi writes it."""
    return datetime.strptime(moment.strip(), "%Y/%m/%d %H:%M:%S.%f")
