import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import cleftnet

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", cleftnet.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(cleftnet, name).__doc__


def test_no_public_name_is_the_name_of_a_module():
    """Python sets a subpackage as an attribute of its parent once it is imported, and would hide the function."""
    modules = {path.stem for path in Path(cleftnet.__file__).parent.iterdir()}
    assert not modules & set(cleftnet.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'predictions'"):
        cleftnet.predictions  # noqa: B018 (the look-up is the test)


def imports(module, library):
    """Return whether importing a module, by itself in a new process, imports a library too."""
    code = f"import sys, {module}; sys.exit({library!r} in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", code], check=False).returncode)


@pytest.mark.parametrize(
    "module",
    ["cleftnet", "cleftnet.metrics.evaluation", "cleftnet.synapses", "cleftnet.cli", "cleftnet.synthetic"],
)
def test_what_starts_fast_imports_no_torch(module):
    assert not imports(module, "torch")


@pytest.mark.parametrize("module", ["cleftnet", "cleftnet.metrics.evaluation", "cleftnet.cli"])
def test_pandas_is_imported_for_tables_only(module):
    assert not imports(module, "pandas")


def test_an_upward_import_breaks_the_layers(tmp_path):
    """A copy of the package in which geometry imports the recipe must fail the very contract that `make check` runs."""
    import shutil

    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "src" / "cleftnet" / "geometry.py"
    planted.write_text(planted.read_text() + "\nimport cleftnet.training.recipe\n")
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cleftnet.geometry -> cleftnet.training.recipe" in done.stdout


def test_the_names_that_load_on_first_use_are_those_that_type_checkers_see():
    tree = ast.parse(Path(cleftnet.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"cleftnet.{module}" for name, module in cleftnet._MODULES.items()}


def classes_in(annotation):
    """All classes that a resolved annotation mentions, those inside unions, tuples and callables included."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return {inner for argument in get_args(annotation) for inner in classes_in(argument)}


FUNCTIONS = [name for name in cleftnet.__all__ if inspect.isfunction(getattr(cleftnet, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whatever_the_arguments_of_a_public_function_need_is_public(name):
    function = getattr(cleftnet, name)
    hints = get_type_hints(function, vars(inspect.getmodule(function)))
    hints.pop("return", None)
    needed = {c for hint in hints.values() for c in classes_in(hint) if c.__module__.startswith("cleftnet.")}
    assert {c.__name__ for c in needed} <= set(cleftnet.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_described(name):
    function = getattr(cleftnet, name)
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^\s+(\*\*)?{parameter}: ", function.__doc__, re.MULTILINE), parameter
