"""The site of the documentation: a broken link or a missing page fails its build, and it works offline."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the site needs the extra docs")


def build(folder: Path, **pages: str) -> subprocess.CompletedProcess[str]:
    """Build a site of these pages, by the settings of the real one but without the Python API."""
    (folder / "docs").mkdir()
    for name, text in pages.items():
        (folder / f"docs/{name}.md").write_text(text)
    own = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": "docs",
        "site_dir": "site",
        "hooks": [],
        "plugins": [],
        "theme": {"name": "mkdocs"},
        "extra_css": [],
        "nav": [{"Home": "index.md"}],
    }
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(own))
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_sound_pages_are_built(tmp_path):
    done = build(tmp_path, index="# Home\n\n[below](#a-part)\n\n## A part\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/index.html").is_file()


def test_broken_links_and_pages_outside_the_navigation_fail_the_build(tmp_path):
    links = "[a](nowhere.md) [b](#no-such-part) [c](/absolute.md)"
    done = build(tmp_path, index=f"# Home\n\n{links}\n", orphan="# Orphan\n")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert all(name in said for name in ("nowhere.md", "no-such-part", "/absolute.md", "orphan.md"))


def test_a_public_function_without_docstring_fails_the_check(tmp_path):
    (tmp_path / "new.py").write_text('"""A module."""\n\n\ndef predict() -> None:\n    pass\n')
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "--no-cache", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "D103" in done.stdout


def test_the_site_names_no_server_for_its_own_parts():
    settings = (ROOT / "mkdocs.yml").read_text() + (ROOT / "docs/site.css").read_text()
    assert not re.search(r"https?://", settings)
