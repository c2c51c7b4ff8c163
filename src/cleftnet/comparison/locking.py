"""One process at a time in a folder: several that compare at once share the cells out and never do one twice."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there one process alone must do it
    fcntl = None  # type: ignore[assignment]


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
    try:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                pass
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield True
    finally:
        os.close(file)
