"""Exceptions that callers handle: wrong input, and a training ended by a signal."""


class InputError(ValueError):
    """Raised for input that cannot be used.

    The message is one line that names Python parameters as `name=value`. The command line translates them into its options,
    prints the line without a traceback, and exits with code 2. In Python it is an ordinary `ValueError`.
    """


class TrainingInterrupted(Exception):  # noqa: N818 (an interruption, as KeyboardInterrupt is, not an error)
    """Raised when SIGTERM ended a training; `train(..., resume=True)` continues it from its last state."""


def nearest(name: str, known: "list[str]") -> str:
    """Return a hint naming the known name closest to `name`, or the list of all of them.

    Example:
        >>> nearest("lerning_rate", ["learning_rate", "steps"])
        "did you mean 'learning_rate'?"
        >>> nearest("zzz", ["learning_rate", "steps"])
        'known: learning_rate, steps'
    """
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
