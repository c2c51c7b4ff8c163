"""The command line: each verb calls one library function and prints what it returns.

Results go to stdout; progress, log messages and errors go to stderr. Exit codes: 0 success; 2 wrong input, explained in one
line; 1 another failure; 130 interrupted; 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from typing import Any, cast

import typer
from typer.core import TyperGroup

from cleftnet.cli import data, judge, learn, predict, review, start
from cleftnet.cli.translation import to_options
from cleftnet.errors import InputError, TrainingInterrupted

GROUPS = {
    "Start": (start.demo, start.doctor),
    "Data": (data.info, data.check, data.convert, data.download),
    "Learn": (learn.train, learn.finetune, learn.models, learn.compare),
    "Predict": (predict.predict, predict.synapses, predict.export),
    "Judge": (judge.evaluate, review.review, judge.submit, judge.report, judge.view),
}


class GroupedCommands(TyperGroup):
    """Prints the verbs under the headings of `GROUPS`, each with the first sentence of its help.

    Plain text: typer's own panels need rich, whose import takes longer than the rest of `cleftnet --help`.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of verbs."""
        width = max(map(len, self.commands))
        for heading, verbs in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(verb.__name__.ljust(width), _summary(verb)) for verb in verbs])


def _summary(verb: Any) -> str:
    return str(verb.__doc__).split("\n", 1)[0].rstrip(".")


app = typer.Typer(
    name="cleftnet",
    cls=GroupedCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def prepare() -> None:
    """Find synaptic clefts in volume electron microscopy. Help on a verb: cleftnet VERB --help."""
    from cleftnet.nets.memory import keep_freed_memory
    from cleftnet.progress import log_to_stderr

    keep_freed_memory()
    log_to_stderr()
    for handler in logging.getLogger("cleftnet").handlers:
        handler.addFilter(_translate)


def _translate(record: logging.LogRecord) -> bool:
    """Put options into a log message; every message passes."""
    record.msg, record.args = to_options(record.getMessage()), None
    return True


for _verbs in GROUPS.values():
    for _verb in _verbs:
        app.command()(_verb)

# click.ClickException, of the click that this typer uses
_ClickError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[2])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the entry point of the `cleftnet` program.

    Args:
        arguments: Words after the program's name; default: those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    warnings.showwarning = _warn
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False)
        sys.stdout.flush()
    except (InputError, _ClickError) as error:
        if debug:
            raise
        code = _fail(to_options(str(error)) if isinstance(error, InputError) else error.format_message(), 2)
    except TrainingInterrupted as error:
        print(to_options(str(error)), file=sys.stderr)
        code = 143  # 128 + SIGTERM, as shells count
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; finished work is kept", file=sys.stderr)
        code = 130
    except MemoryError as error:
        if debug:
            raise
        code = _fail(_TOO_LARGE.format(error), 2)
    except BrokenPipeError:  # whoever read the results has gone, as in `cleftnet models | head -1`
        _drop_results()
        code = 1  # as click ends
    except OSError as error:
        from cleftnet.files import disk_full, full_disk

        _drop_results()
        full = disk_full(error)
        if debug or (full is None and error.filename is None):
            raise
        code = _fail(_about_path(error) if full is None else str(full_disk(full, full.filename)), 2)
    except RuntimeError as error:
        from cleftnet.blockwise import UnfinishedError

        if debug or not (isinstance(error, UnfinishedError) or _NO_MEMORY in str(error)):
            raise
        unfinished = isinstance(error, UnfinishedError)
        code = _fail(to_options(str(error)) if unfinished else _TOO_LARGE.format(error), 1 if unfinished else 2)
    raise SystemExit(code or 0)


_NO_MEMORY = "DefaultCPUAllocator"  # in what PyTorch raises
_TOO_LARGE = "not enough memory ({}); choose a smaller patch, block or region, or check that the file is not damaged"


def _drop_results() -> None:
    """Write what is left for stdout, or drop it where it cannot be written, which Python would complain about at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _about_path(error: OSError) -> str:
    """Describe a failure of the operating system in one line."""
    if error.errno == errno.ENAMETOOLONG:
        return f"'{str(error.filename)[:60]}...' is too long for the name of a file; expected a path or address"
    return f"'{error.filename}' cannot be used ({error.strerror}); check the path and its permissions"


def _fail(message: str, code: int) -> int:
    line = message.translate({ord("\n"): "\\n", ord("\r"): "\\r"})  # an address may hold any character
    print(f"error: {line}", file=sys.stderr)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {to_options(str(message))}", file=sys.stderr)
