"""The one exception that means "your input is wrong": a single line that says what, what was expected, and what to try."""


class InputError(ValueError):
    """Raised for anything the user handed us that we cannot use.

    The message is one line for people: the bad value, what was expected, what to try next. The command line prints it
    without a traceback and exits with code 2; in Python it is an ordinary `ValueError`.
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
