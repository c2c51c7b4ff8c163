"""Starts the command line in forked processes that have imported everything already, so that each begins at once."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path


def import_ahead(rehearse: Callable[[], None], folder: Path) -> None:
    """Call a function in a folder in a process of its own, and import here what it imported there.

    This process must not have used tensorstore, which works in no fork of a process that has.

    Raises:
        RuntimeError: when the function fails; its traceback is printed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with _ending(1):
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(folder / ".said", os.O_WRONLY | os.O_CREAT), 2)
            rehearse()
            os.write(writing, json.dumps([name for name in sys.modules if not name.startswith("__")]).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(f"the rehearsal failed: {(folder / '.said').read_text()}")
    (folder / ".said").unlink()
    for module in json.loads(text):
        with contextlib.suppress(Exception):  # a name that is no module of its own
            __import__(module)
    gc.collect()
    gc.freeze()  # else every forked process walks through, and so copies, all objects of these modules


def start_command(
    arguments: tuple[str, ...], folder: Path, stdout: Path, stderr: Path, before: Callable[[], None] | None = None
) -> int:
    """Run the command line in a folder in a forked process, which leads a session; return the number of the process.

    Args:
        arguments: The words after `cleftnet`.
        folder: Its working directory.
        stdout: File for its results.
        stderr: File for its messages.
        before: Called in the process before the command line, such as to set limits.
    """
    child = os.fork()
    if child == 0:
        with _ending(70):
            os.setsid()
            for number, file in ((1, stdout), (2, stderr)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(folder)
            if before is not None:
                before()
            os._exit(_run(arguments))
    return child


def _run(arguments: tuple[str, ...]) -> int:
    from cleftnet.cli import main

    try:
        main(list(arguments))
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


@contextlib.contextmanager
def _ending(code: int) -> Iterator[None]:
    """End this process when the body does, so that a forked process never runs on in its parent's code."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
