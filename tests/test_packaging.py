"""The wheel: it holds exactly the package, its data and its licenses, and its metadata says both licenses."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

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


def test_the_base_install_has_at_most_23_mandatory_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 23


def test_every_version_that_ci_uses_is_pinned_once():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line]
    assert len(names) == len(set(names))
