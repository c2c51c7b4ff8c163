"""One process at a time where several would spoil each other's work; the operating system frees the lock of one that died."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such lock: there, nobody keeps two processes apart
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()


def _leave_to_the_parent() -> None:
    """Close the locks in a forked process, which would otherwise keep them when its parent has died."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def lock(file: int) -> bool:
    """Lock an open file until it is closed; False when another process has it, True where the file system knows no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Try to take a lock for as long as the body runs; False when another process has it.

    The operating system gives the lock back however its holder ends, a power cut included, so that none is ever stale. The
    file stays, and says who took it last.

    Args:
        path: The lock file, made with the folders above it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, holding(Path(folder, "lock")) as one:
        ...     with holding(Path(folder, "lock")) as other:
        ...         one, other
        (True, False)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(file)
    try:
        mine = lock(file)
        if mine:
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield mine
    finally:
        if file in _held:  # not in a forked process, which has closed it
            _held.remove(file)
            os.close(file)
