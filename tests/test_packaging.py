"""The wheel: it holds exactly the package, its data and its licenses, and works where there is nothing but its dependencies."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.version import Version

from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import write_cremi
from tools.installed import brought_by, link_into, requirements_of

ROOT = Path(__file__).parents[1]
DATA = [  # what the package holds beside Python; a new kind of file is added here on purpose
    "datasets/*.sha256",
    "models/weights/*.md",
    "models/weights/*.safetensors",
    "napari/napari.yaml",
    "py.typed",
    "recipes/*.yaml",
    "reporting/page.css",
    "reporting/page.html",
    "reporting/page.js",
    "viewing/panel.html",
]
INFO = [
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "licenses/LICENSE-WEIGHTS",
    "top_level.txt",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it needs, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-WEIGHTS"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next((folder / "dist").glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_exactly_the_package_its_data_and_its_licenses(wheel):
    package = ROOT / "src/cleftnet"
    files = [path for pattern in ("**/*.py", *DATA) for path in package.glob(pattern)]
    expected = {path.relative_to(package.parent).as_posix() for path in files}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert sorted(name.split(".dist-info/")[1] for name in set(wheel.namelist()) - held) == sorted(INFO)


def test_the_wheel_says_both_licenses(metadata):
    assert metadata["License-Expression"] == "MIT AND CC-BY-NC-SA-3.0"
    assert metadata.get_all("License-File") == ["LICENSE", "LICENSE-WEIGHTS"]


def test_the_wheel_names_paper_and_data(metadata):
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert {"Paper", "Preprint", "Training data"} <= set(urls)


def test_the_base_install_has_fewer_than_23_mandatory_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) < 23


def test_every_version_that_ci_uses_is_pinned_once():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line]
    assert len(names) == len(set(names))


def pins(name):
    """The versions that a file pins, by normalized name."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def test_hashed_requirements_are_the_tested_versions_of_all_that_the_base_brings_but_torch():
    hashed, tested = pins("requirements-hashed.txt"), pins("constraints.txt")
    assert set(brought_by(requirements_of())) - {"torch", "setuptools"} <= set(hashed)
    assert {name: version for name, version in hashed.items() if tested.get(name, version) != version} == {}
    blocks = re.split(r"^(?=[\w.-]+==)", (ROOT / "requirements-hashed.txt").read_text(), flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_oldest_versions_are_the_lower_bounds():
    oldest = pins("constraints-oldest.txt")
    for one in requirements_of():
        (bound,) = [part.version for part in one.specifier if part.operator == ">="]
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        assert name == "torch" or Version(oldest[name]) == Version(bound)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a command in an environment with the wheel and what it depends on, and nothing else.

    `make test-wheel` downloads all of it, which takes minutes. Here the dependencies are links to the installed ones.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("**/site-packages")
    link_into(site, brought_by(requirements_of()).values())
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel.filename,
    ]
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(install, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr

    def run(*command):
        path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=own | path)

    return run


def test_the_wheel_runs_with_its_dependencies_alone_and_not_from_the_checkout(installed):
    code = (
        "import cleftnet, importlib.util as u; print(cleftnet.__file__, u.find_spec('sklearn'), u.find_spec('pytest'))"
    )
    done = installed("python", "-c", code)
    where, *extras = done.stdout.split()
    assert extras == ["None", "None"], done.stderr
    assert "site-packages" in where
    assert not Path(where).is_relative_to(ROOT / "src")


def test_every_module_of_the_wheel_but_those_of_extras_imports_with_its_dependencies_alone(installed):
    code = """import importlib, pkgutil, cleftnet
for module in pkgutil.walk_packages(cleftnet.__path__, "cleftnet.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""
    done = installed("python", "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
    missing = dict(line.split() for line in done.stdout.splitlines())
    assert set(missing.values()) <= {"neuroglancer", "napari", "magicgui", "qtpy", "pint"}


def test_the_installed_command_line_says_what_it_can_do(installed):
    assert "synaptic cleft" in installed("cleftnet", "--help").stdout.lower()


def test_the_installed_package_finds_its_released_models(installed):
    done = installed("cleftnet", "models")
    assert "vnc-l3-cleftnet" in done.stdout, done.stderr


def test_the_installed_package_predicts_on_trial(installed, tmp_path):
    made = synthetic_volume((8, 128, 128), seed=0)
    write_cremi(tmp_path / "A.hdf", raw=made.raw, clefts=made.labels)
    out = tmp_path / "out.hdf"
    done = installed("cleftnet", "predict", "vnc-l3-cleftnet", tmp_path / "A.hdf", out, "--dry-run", "--no-rescale")
    assert done.returncode == 0, done.stderr
    assert not out.exists()


@pytest.mark.slow  # a training step and predictions: 7 s of a core that is idle
def test_the_installed_package_tests_itself(installed):
    done = installed("cleftnet", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert not [fault for fault in json.loads(done.stdout)["checks"].values() if fault]
