"""Hooks of MkDocs: put pages and files of the repository outside docs/ into the site, and rewrite the links to them.

README.md, CHANGELOG.md and others are pages of the site without a second copy. Notebooks become pages with their outputs.
Any other file of the repository that a page links to, such as a recipe, is copied into the site.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
PAGES = {  # file of the repository: page of the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "src/cleftnet/models/weights/vnc-l3.md": "model-vnc-l3.md",
    "src/cleftnet/models/weights/vnc-l3-cleftnet.md": "model-vnc-l3-cleftnet.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace folders in the navigation by their pages, in the order of their names."""
    docs = Path(config.docs_dir)
    for section in config.nav or []:
        for items in section.values():
            for item in items if isinstance(items, list) else []:
                for name, target in item.items():
                    if target.endswith("/"):
                        item[name] = [
                            page.relative_to(docs).as_posix() for page in sorted((docs / target).glob("*.md"))
                        ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`, the notebooks, and every file outside docs/ that a page links to."""
    for source, target in PAGES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        cells = json.loads(Path(_source(notebook)).read_text())["cells"]
        name = notebook.src_uri.removesuffix(".ipynb")
        text = f"[Download this notebook]({Path(notebook.src_uri).name})\n\n" + "\n\n".join(
            _cell(cell) for cell in cells
        )
        files.append(File.generated(config, f"{name}.md", content=text))
    for page in [file for file in files if file.is_documentation_page()]:
        for path in _linked(page, config):
            target = _place(path, config)
            if target.startswith("files/") and path.is_file() and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the copies within the site, code blocks excepted."""
    if page.file.abs_src_path is None:
        return markdown
    folder, here = Path(page.file.abs_src_path).resolve().parent, Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        opened, target, anchor, closed = match.groups()
        if _is_elsewhere(target):
            return match[0]
        place = _place((folder / target).resolve(), config)
        return f"{opened}{os.path.relpath(place, here)}{anchor or ''}{closed}"

    done, end = [], 0
    for fence in FENCE.finditer(markdown):
        done += [LINK.sub(moved, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*done, LINK.sub(moved, markdown[end:])])


def _is_elsewhere(target: str) -> bool:
    """Return whether a link names an address or a place of the site's root."""
    return re.match(r"[a-z]+:|/", target) is not None


def _source(file: File) -> Path:
    """Return the path of a file that lies on the disk."""
    assert file.abs_src_path is not None
    return Path(file.abs_src_path).resolve()


def _linked(page: File, config: MkDocsConfig) -> Iterator[Path]:
    """Yield the paths that a page links to."""
    if page.abs_src_path is not None:
        source = _source(page)
        for match in LINK.finditer(FENCE.sub("", source.read_text())):
            if not _is_elsewhere(match[2]):
                yield (source.parent / match[2]).resolve()


def _place(path: Path, config: MkDocsConfig) -> str:
    """Return the place in the site of a path of the repository; a folder of pages is its first page."""
    docs = Path(config.docs_dir).resolve()
    if path.is_dir() and (pages := sorted(path.glob("*.md"))):
        path = pages[0]
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    if not path.is_relative_to(ROOT):
        return f"files/{path.name}"  # which does not exist, so that MkDocs reports the link
    name = path.relative_to(ROOT).as_posix()
    return PAGES.get(name, f"files/{name}")


def _cell(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook as Markdown, with its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            image = "".join(data["image/png"]).replace("\n", "")
            parts.append(f'<img alt="output of the cell above" src="data:image/png;base64,{image}">')
        elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts)
