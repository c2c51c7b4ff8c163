"""Messages and docstrings of the library name Python parameters; only the command line names options."""

import ast
import re
from pathlib import Path

import pytest

import cleftnet

SOURCE = Path(cleftnet.__file__).parent
FILES = sorted(p for p in SOURCE.rglob("*.py") if "cli" not in p.relative_to(SOURCE).parts)
OTHER_PROGRAMS = {"--always", "--dirty", "--abbrev", "--scheduler-file"}  # options of git and of Dask


def texts(path):
    """Every string in a file: messages, the parts of f-strings, docstrings."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_option_of_the_command_line_in_the_library(path):
    found = {option for text in texts(path) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert found <= OTHER_PROGRAMS
