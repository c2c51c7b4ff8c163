"""The help of the command line: grouped, complete within 80 columns, and quick."""

import os
import re
import subprocess
import sys

import pytest

from cleftnet.cli import GROUPS, app

VERBS = [verb.__name__ for verbs in GROUPS.values() for verb in verbs]


def run(*arguments):
    """Run `python -m cleftnet` in a terminal of 80 columns; return stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "cleftnet", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    return done.stdout


def test_help_lists_every_verb_under_its_heading_with_a_whole_sentence():
    lines = run("--help").splitlines()
    assert all(len(line) <= 80 for line in lines)
    for heading, verbs in GROUPS.items():
        listed = lines[lines.index(f"{heading}:") + 1 :][: len(verbs)]
        summaries = [verb.__doc__.splitlines()[0].rstrip(".") for verb in verbs]
        assert [line.split(maxsplit=1) for line in listed] == [
            [verb.__name__, summary] for verb, summary in zip(verbs, summaries, strict=True)
        ]


def test_the_verbs_are_those_of_the_groups():
    assert {command.callback.__name__ for command in app.registered_commands} == set(VERBS)
    assert len(VERBS) == len(set(VERBS))


@pytest.mark.parametrize("verb", VERBS)
def test_the_summary_of_a_verb_is_one_sentence_of_one_line(verb):
    (summary,) = [v.__doc__.splitlines()[0] for verbs in GROUPS.values() for v in verbs if v.__name__ == verb]
    assert re.fullmatch(r"[A-Z][^.]*\.", summary)


@pytest.mark.parametrize(("module", "at_most"), [("cleftnet", 60), ("cleftnet.cli", 250)])
def test_what_starts_fast_imports_few_modules(module, at_most):
    """Counts modules instead of seconds, so that a busy machine changes nothing; NumPy alone would add 130."""
    slow = {"torch", "numpy", "scipy", "pydantic", "rich", "yaml", "importlib.metadata"}
    allowed = {"importlib.metadata"} if module == "cleftnet.cli" else set()  # typer imports it
    code = f"import sys; before = len(sys.modules); import {module}; print(len(sys.modules) - before)"
    code += f"; print(*sorted({slow - allowed!r} & sys.modules.keys()))"
    number, *found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (found, int(number) <= at_most) == ([], True)
