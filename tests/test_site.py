"""The site of the documentation: a broken link or a missing page fails its build, and it works offline."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.browser import WITHOUT_GRAPHICS, chromium

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the site needs the extra docs")


def build(
    folder: Path, theme: str = "mkdocs", plugins: tuple[str, ...] = (), nav: tuple[str, ...] = ("index",), **pages: str
) -> subprocess.CompletedProcess[str]:
    """Build a site of these pages, by the settings of the real one but without the Python API."""
    (folder / "docs").mkdir()
    for name in ("site.css", "iframe-worker.js"):
        shutil.copy(ROOT / "docs" / name, folder / "docs")
    for name, text in pages.items():
        (folder / f"docs/{name}.md").write_text(text)
    own = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": "docs",
        "site_dir": "site",
        "hooks": [],
        "plugins": list(plugins),
        "theme": {"name": theme},
        "nav": [{name: f"{name}.md"} for name in nav],
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


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    """A site with a wide table, in the theme of the real one, opened from its folder on a screen 390 pixels wide."""
    folder = tmp_path_factory.mktemp("phone")
    columns = [f"column-{number}" for number in range(20)]
    rows = [columns, ["---"] * 20, ["0.123456789"] * 20]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    pages = {"index": f"# Home\n\n{table}\n", "other": "# Other\n\nHow to choose a threshold.\n"}
    done = build(folder, "material", ("search", "offline"), nav=("index", "other"), **pages)
    assert done.returncode == 0, done.stderr
    with chromium(folder / "browser", WITHOUT_GRAPHICS) as browser:
        browser.open(folder / "site/index.html", width=390, height=844)
        yield browser


def test_a_wide_table_scrolls_within_itself_on_a_phone(phone):
    assert phone.ask("document.documentElement.scrollWidth") == 390
    width, shown = phone.ask("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.md-typeset__scrollwrap'))")
    assert width > 2 * shown


def test_the_search_finds_a_word_without_a_server_or_the_network(phone):
    phone.ask(
        "document.querySelector('label[for=__search]').click(); document.querySelector('.md-search__input').focus()"
    )
    time.sleep(0.5)  # the field slides in
    for key in "threshold":
        phone.press(key)
    found = """new Promise(done => { const look = () => {
        const first = document.querySelector('.md-search-result__item a');
        first ? done(first.href) : setTimeout(look, 50) }; look(); })"""
    assert phone.ask(found).split("/")[-1].startswith("other.html")
    assert [url for url in phone.fetched() if not url.startswith(("file:", "about:"))] == []
    assert phone.complaints() == []
