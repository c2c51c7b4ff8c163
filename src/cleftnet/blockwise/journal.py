"""Records on disk which blocks are finished, so that a run after a crash computes only the others.

A journal is a folder beside the output. `task.json` describes the task (model, input, settings) and the size of its blocks.
`blocks.txt` gets one line for each block after its voxels are on disk. Only lines that end with a newline count, so that a
line cut short by a crash or a full disk is ignored.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cleftnet.errors import InputError
from cleftnet.files import holding, replacing
from cleftnet.geometry import IntZYX

TASK, BLOCKS, LOCK = "task.json", "blocks.txt", ".lock"
Inputs = dict[str, tuple[int | None, ...]]


class Task(BaseModel):
    """The task that a journal belongs to.

    Attributes:
        settings: Everything that decides the result; a run with other values cannot use the journal.
        block: Sides of the blocks, z y x; a later run uses the same.
        inputs: Checksums of places in each input by name, which tell whether voxels at the same address have changed; None
            where a place could not be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, JsonValue]
    block: IntZYX
    inputs: Inputs = {}


class Journal:
    """The finished blocks of one task, as a context manager that only one process can enter at a time.

    Args:
        folder: Folder of the journal; created if missing.
        task: The task. If the folder holds a task already, its settings must be the same.
        anew: Discard another task that the folder holds.
        accept_changed_input: Go on although the voxels of an input have changed.

    Raises:
        InputError: when the folder holds another task, an input has changed, or another process uses the folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "out.zarr.unfinished")
        >>> with Journal(folder, Task(settings={"model": "a"}, block=(8, 8, 8))) as journal:
        ...     journal.add(3)
        >>> with Journal(folder, Task(settings={"model": "a"}, block=(16, 16, 16))) as journal:
        ...     3 in journal, 2 in journal, len(journal), journal.block
        (True, False, 1, (8, 8, 8))
    """

    def __init__(self, folder: Path, task: Task, anew: bool = False, accept_changed_input: bool = False) -> None:
        self.folder, self.task, self.anew, self.accept_changed_input = folder, task, anew, accept_changed_input
        self._done = bytearray()  # by block: 1 where it is finished
        self._turn = threading.Lock()

    @property
    def block(self) -> IntZYX:
        """Sides of the blocks, z y x, with which the task was begun."""
        return self.task.block

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if not stack.enter_context(holding(self.folder / LOCK)):
                raise InputError(f"another process is working in {self.folder}; wait for it, or choose another output")
            self._file = os.open(self.folder / BLOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, self._file)
            self._agree()
            self._read()
            self._held = stack.pop_all()  # until this journal is closed
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index < len(self._done) and bool(self._done[index])

    def __len__(self) -> int:
        return self._done.count(1)

    def add(self, index: int) -> None:
        """Record that a block is on disk; after this returns, a crash cannot undo the record.

        Raises:
            OSError: when the disk is full.
        """
        line = f"{index}\n".encode()
        with self._turn:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
            self._mark(index)

    def clear(self) -> None:
        """Forget every block."""
        with self._turn:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._done.clear()

    def _mark(self, index: int) -> None:
        self._done.extend(bytes(max(0, index + 1 - len(self._done))))
        self._done[index] = 1

    def _agree(self) -> None:
        path = self.folder / TASK
        if not path.exists():
            self._describe()
            return
        if self.anew and not self._is_same(path):
            os.ftruncate(self._file, 0)  # first, so that a crash leaves no block of the other task
            os.fsync(self._file)
            self._describe()
            return
        begun = _read_task(path)
        for name in {**begun.settings, **self.task.settings}:
            before, now = begun.settings.get(name), self.task.settings.get(name)
            if before != now:
                raise InputError(
                    f"{self.folder} was begun with {name} {_short(before)}, not {_short(now)}; complete it with the same "
                    f"settings, use overwrite=True to begin anew, or choose another output"
                )
        if changed := _changed(begun.inputs, self.task.inputs):
            if not self.accept_changed_input:
                raise InputError(
                    f"the voxels of the {' and the '.join(changed)} have changed since {self.folder} was begun, and the "
                    f"output would mix both; use overwrite=True to begin anew, or accept_changed_input=True to complete it"
                )
            self.task = begun.model_copy(update={"inputs": self.task.inputs})
            self._describe()
            return
        self.task = begun

    def _is_same(self, path: Path) -> bool:
        """Return whether the folder holds this task, with the same voxels of its inputs."""
        try:
            begun = _read_task(path)
        except InputError:
            return False
        return begun.settings == self.task.settings and not _changed(begun.inputs, self.task.inputs)

    def _describe(self) -> None:
        with replacing(self.folder / TASK, overwrite=True) as temporary, temporary.open("wb") as file:
            file.write(self.task.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        """Read the complete lines, and cut off what follows them."""
        good = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for line in lines:
                if not (line.endswith(b"\n") and line[:-1].isdigit()):
                    break
                self._mark(int(line))
                good += len(line)
        os.ftruncate(self._file, good)
        os.lseek(self._file, 0, os.SEEK_END)


def _read_task(path: Path) -> Task:
    try:
        return Task.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise InputError(f"{path} cannot be read; use overwrite=True to begin anew, or choose another output") from None


def _changed(before: Inputs, now: Inputs) -> list[str]:
    """Return the names of the inputs of which a place that could be read both times has other voxels now."""
    pairs = {name: zip(before.get(name, sums), sums, strict=False) for name, sums in now.items()}
    return [name for name, both in pairs.items() if any(None not in pair and pair[0] != pair[1] for pair in both)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
