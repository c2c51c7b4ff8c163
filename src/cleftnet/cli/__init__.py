"""The command line: verbs only, each calls one library function and prints what it returned.

stdout carries results, stderr progress and news. Exit 0: done; 2: the input is wrong, one line says what; 1: our fault.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

import typer

from cleftnet.cli.comparisons import compare
from cleftnet.cli.networks import models, predict, train
from cleftnet.cli.reports import report
from cleftnet.cli.scores import evaluate, submit
from cleftnet.cli.start import demo, doctor
from cleftnet.cli.synapses import synapses
from cleftnet.cli.volumes import check, convert, download, info
from cleftnet.errors import InputError
from cleftnet.progress import log_to_stderr

app = typer.Typer(
    name="cleftnet",
    help="Find synaptic clefts in volume electron microscopy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    demo,
    info,
    models,
    train,
    predict,
    synapses,
    evaluate,
    submit,
    compare,
    report,
    check,
    convert,
    download,
    doctor,
):  # as --help lists them
    app.command()(verb)

# click.ClickException, of whichever click this typer carries
_ClickError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[2])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the entry point of the `cleftnet` program."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    warnings.showwarning = _warn
    log_to_stderr()
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False)
    except (InputError, _ClickError) as error:
        if debug:
            raise
        text = str(error) if isinstance(error, InputError) else error.format_message()
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
