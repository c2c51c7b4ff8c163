"""Where tensorstore works: in the first process that uses it, and never in that one's forks, which get a process beside them.

tensorstore keeps threads, which a fork does not inherit, and so aborts any process that was forked after tensorstore was used
and then uses it (`aborting: fork() use detected`). PyTorch's loaders are such forks. Everything that touches tensorstore
therefore goes through `run`, which calls the function on the spot where that works, and else in a fresh Python process that
belongs to this one and ends with it.
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
_beside: dict[int, _Beside] = {}  # by the process that it belongs to


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that uses tensorstore, wherever tensorstore works.

    Args:
        function: Importable by name; its arguments, its result and what it raises can be pickled.
        *args: Of the function.
        **kwargs: Of the function.

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
    if process not in _beside:
        _beside[process] = _Beside()
    result: T = _beside[process].call((function, args, kwargs))
    return result


class _Beside:
    """A Python process that calls functions for this one, one at a time."""

    def __init__(self) -> None:
        code = "from cleftnet.volumes.chunked.forks import serve; serve()"
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
    """Answer the process above until it hangs up: a function and its arguments in, its result or what it raised out."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not land among the answers
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
