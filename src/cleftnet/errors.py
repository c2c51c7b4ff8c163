"""The exception for wrong input, whose message is one line: the bad value, what was expected, and what to try next."""


class InputError(ValueError):
    """Raised for input that cannot be used.

    The message is one line that names Python parameters as `name=value`. The command line translates them into its options,
    prints the line without a traceback, and exits with code 2. In Python it is an ordinary `ValueError`.
    """


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
