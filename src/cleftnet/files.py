"""Writes files whole or not at all, and locks them against other processes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cleftnet.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(.*)")  # a `Path` has joined the slashes; one letter is a drive
_TEMPORARY = ".part"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # network file systems may know no locks


@contextmanager
def replacing(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path; the file or folder made there becomes `path` when the body succeeds.

    When the body fails or is interrupted, the temporary file is removed and what was at `path` before is untouched. Missing
    folders above `path` are made.

    Args:
        path: Where the result shall be.
        overwrite: Whether a file, or a folder where a folder is written, may already be there.

    Raises:
        InputError: when `path` exists and `overwrite` is not set, its folder cannot be written to, or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "table.csv")) as temporary:
        ...         _ = temporary.write_text("synapse_id")
        ...     sorted(p.name for p in Path(folder).iterdir())
        ['table.csv']
    """
    refuse_existing(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if disk_full(error) is not None:
            raise full_disk(error, path) from error
        raise InputError(f"cannot make the folder {path.parent}: {error.strerror}; choose another output") from None
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written to; choose another output")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}")
    try:
        yield temporary
        _rename(temporary, path)
    except BaseException as error:  # an interrupt too: a half-written file must never be taken for a result
        _remove(temporary)
        if (full := disk_full(error)) is not None:
            raise full_disk(full, path) from full
        raise


def disk_full(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk that an error is or was raised from: it would end every further write as well."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return error
        error = error.__cause__
    return None


def full_disk(error: OSError, path: str | Path | None = None, kept: str = "") -> InputError:
    """Return what to raise for a full disk.

    Args:
        error: What the operating system said.
        path: File that cannot be written, where it is known.
        kept: What was finished and is kept, such as "finished blocks".
    """
    what = "cannot write" if path is None else f"cannot write {path}"
    kept = kept and f": {kept} are kept"
    return InputError(f"{what} ({error.strerror}); free some space or choose another disk, and try again{kept}")


def is_left_behind(path: Path) -> bool:
    """Return whether a path is what a process that was killed within `replacing` left behind.

    Example:
        >>> is_left_behind(Path("runs/.run.json.0f3a9c21.part")), is_left_behind(Path("runs/run.json"))
        (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


def refuse_address(path: Path) -> None:
    """Raise `InputError` for what reads like an address (`s3://bucket/runs`), where files are written to this machine only.

    Example:
        >>> refuse_address(Path("s3://bucket/runs"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        cleftnet.errors.InputError: s3://bucket/runs is an address, ...
    """
    if (found := _ADDRESS.match(path.as_posix())) is not None:
        raise InputError(
            f"{found[1]}://{found[2]} is an address, and this output is written to this machine only; expected a path on it, "
            f"such as {path.name}"
        )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise `InputError` when `path` exists and may not be replaced, or reads like an address.

    An empty folder counts as not there.
    """
    refuse_address(path)
    empty_folder = path.is_dir() and not any(path.iterdir())
    if path.exists() and not overwrite and not empty_folder:
        raise InputError(f"{path} exists already; add overwrite=True or choose another name")


def _rename(temporary: Path, path: Path) -> None:
    """Put a finished file or folder in its place; only a folder may replace a folder."""
    if not (path.is_dir() and any(path.iterdir())):
        temporary.replace(path)
        return
    if not temporary.is_dir():
        raise InputError(f"{path} is a folder, not a file; choose another name")
    old = temporary.with_suffix(".old")  # folders cannot be swapped in one step, so the old one waits beside
    path.replace(old)
    temporary.replace(path)
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def json_object(data: bytes | str, name: str | Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Args:
        data: The content of the file.
        name: Name of the file, for messages.

    Raises:
        InputError: when it is no JSON, or another kind of value.

    Example:
        >>> json_object('{"step": 3}', "run.json")
        {'step': 3}
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON ({error}); it is damaged: copy or fetch it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{name} holds no JSON object; it is damaged: copy or fetch it again")
    return value


@contextmanager
def holding(path: Path, wait_s: float = 0) -> Iterator[bool]:
    """Try to take a lock for as long as the body runs; yield False when another process holds it.

    The operating system releases the lock however its holder ends, a power cut included, so that none is ever stale. A
    forked process does not keep it. Where the file system knows no locks, every process gets True. The file stays, and says
    which process took it last.

    Args:
        path: The lock file, made with the folders above it.
        wait_s: Seconds to wait for another process to release it.

    Raises:
        InputError: when the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, holding(Path(folder, "lock")) as one:
        ...     with holding(Path(folder, "lock")) as other:
        ...         one, other
        (True, False)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_s, thread_local=False, preserve_lock_file=True, on_acquired=_sign)
    try:
        lock.acquire()
        mine = True
    except Timeout:
        mine = False
    except OSError as error:
        if disk_full(error) is not None:
            raise full_disk(error, path) from error
        if error.errno not in _NO_LOCKS:
            raise
        mine = True
    try:
        yield mine
    finally:
        lock.release()


def _sign(file: int) -> None:
    """Write into an open lock file which process holds it."""
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
