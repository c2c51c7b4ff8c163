"""Calls functions that use tensorstore in a process where it works.

tensorstore keeps threads, which a fork does not inherit. It therefore aborts any process that was forked after tensorstore was
used and then uses it (`aborting: fork() use detected`); PyTorch's loaders are such forks. Everything that uses tensorstore goes
through `run`. It calls the function in this process where that works, and otherwise in a helper process: a fresh Python
process that belongs to this one and ends with it.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_user: int | None = None  # the process that used tensorstore first; forks inherit the number of their parent
_helpers: dict[int, _HelperProcess] = {}  # by the process that each belongs to


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that uses tensorstore, in a helper process where this one cannot use it.

    Args:
        function: Importable by name; its arguments, its result and what it raises can be pickled.
        *args: The function's arguments.
        **kwargs: The function's keyword arguments.

    Example:
        >>> run(divmod, 7, 2)
        (3, 1)
    """
    global _user
    process = os.getpid()
    if _user is None:
        _user = process
    if _user == process:
        return function(*args, **kwargs)
    if process not in _helpers:
        _helpers[process] = _HelperProcess()
    result: T = _helpers[process].call((function, args, kwargs))
    return result


class _HelperProcess:
    """A Python process that calls functions for this one, one at a time."""

    def __init__(self) -> None:
        code = "from cleftnet.volumes.forks import serve; serve()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.turn = threading.Lock()
        atexit.register(self.process.kill)

    def call(self, request: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.turn:
            pickle.dump(request, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
            failed, result = pickle.load(self.process.stdout)
        if failed:
            raise result
        return result


def serve() -> None:
    """Call the functions that the parent process sends, and send back results and errors, until it closes the pipe."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # printed text must not land among the answers
    while True:
        try:
            function, args, kwargs = pickle.load(requests)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = (False, run(function, *args, **kwargs))
        except Exception as error:
            answer = (True, error)
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
