"""The documentation is true: its commands run, its links lead somewhere, its tables have the columns of the code.

Shell and Python blocks run page by page, in order, in a folder with small stand-ins for the files they name. A block with
the comment `<!-- not run: why -->` in front of it is not run, but every `cleftnet` command in it must still parse.
"""

import ast
import contextlib
import csv
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer

import cleftnet
from cleftnet.cli import app, main
from cleftnet.comparison.cells import Cell
from cleftnet.synapses.exports import CATMAID_COLUMNS, CAVE_COLUMNS, NEURON_COLUMNS
from cleftnet.synapses.table import COLUMNS
from cleftnet.synthetic import synthetic_volume
from cleftnet.volumes import Volume, write_cremi

ROOT = Path(__file__).parents[1]
FOLDERS = ["docs", "docs/decisions", "docs/tutorials"]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md"))]
}
COMMANDS = typer.main.get_command(app)
VOXEL_SIZE_NM = (50, 4.6, 4.6)  # that of the released model
# What a page takes for granted; everything else it makes itself. A.hdf is always there.
NEEDED = {
    "docs/cluster.md": ["A.zarr"],
    "docs/evaluation.md": ["out.hdf"],
    "docs/export.md": ["runs/quick"],
    "docs/look.md": ["out.hdf"],
    "docs/prediction.md": ["runs/quick"],
    "docs/report.md": ["runs/quick"],
    "docs/review.md": ["out.hdf"],
    "docs/synapses.md": ["out.hdf", "validation.hdf", "runs/quick"],
}
# A training on the stand-in instead of the volumes of the recipe.
SMALL_TRAINING = [
    "net.patch=[8,64,64]",
    "net.widths=[2,4]",
    "data.train=[{raw: A.hdf}]",
    "data.validate=[{raw: A.hdf}]",
    "training.steps=2",
    "training.validate_every=1",
    "training.validation_overlap=0",
]
BANNED = r"\bSPEC\b|/work/|shared/data|\bwhoever\b|\b[Hh]ouse\b|\bstairs\b|that morning|[Oo]ptimiser|[Cc]olour|\b[Cc]entres?\b"
BANNED += r"|[Nn]eighbour|(?:[Rr]ecogn|[Nn]ormal|[Ii]nitial|[Pp]enal|[Dd]igit)is(?:e|ed|ation)\b|\bhelper [A-Z]\b"


@dataclass(frozen=True)
class Block:
    """A fenced code block: its page and line, its language, and why it is not run (None: it is)."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """Return the command lines of a shell block, without comments, continued lines joined."""
        lines = self.text.replace("\\\n", " ").split("\n")
        return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    blocks, reason, opened = [], None, None
    for number, line in enumerate(PAGES[page].split("\n"), 1):
        stripped = line.strip()
        if opened is not None:
            if stripped == "```":
                start, language, lines = opened
                indent = min((len(text) - len(text.lstrip()) for text in lines if text.strip()), default=0)
                blocks.append(Block(page, start, language, "\n".join(text[indent:] for text in lines), reason))
                opened = reason = None
            else:
                opened[2].append(line)
        elif stripped.startswith("```"):
            opened = (number, stripped[3:], [])
        elif stripped:
            marker = re.fullmatch(r"<!-- not run: (.+) -->", stripped)
            reason = marker[1] if marker else None
    assert opened is None, f"{page}: a code block is not closed"
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "shell"]


def prose_of(page: str) -> list[tuple[int, str]]:
    """Return the numbered lines of a page that are not code."""
    inside, lines = False, []
    for number, line in enumerate(PAGES[page].split("\n"), 1):
        if line.strip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append((number, line))
    return lines


def table_under(page: str, heading: str) -> list[str]:
    """Return the names in backticks in the first columns of the tables under a heading, in order."""
    section = re.split(rf"^#+ {re.escape(heading)}\n", PAGES[page], flags=re.M)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.M)[0]
    cells = re.findall(r"^\|([^|]+)\|", section, flags=re.M)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with a small volume, a prediction of it, and a run directory."""
    folder = tmp_path_factory.mktemp("stand-ins")
    made = synthetic_volume((8, 128, 128), seed=0)
    raw, clefts = (Volume(np.asarray(v.read()), VOXEL_SIZE_NM) for v in (made.raw, made.labels))
    write_cremi(folder / "A.hdf", raw=raw, clefts=clefts)
    with contextlib.chdir(folder):
        run("cleftnet convert A.hdf A.zarr")
        run("cleftnet train vnc-l3-quick --out runs/quick")
        run("cleftnet predict runs/quick A.hdf out.hdf")
        with h5py.File("out.hdf", "a") as file:  # what a good model would have said
            file["volumes/probability"][...] = np.where(np.asarray(clefts.read()) > 0, 230, 20)
            file["volumes/probability"].attrs["threshold"] = 0.5
        shutil.copy("out.hdf", "validation.hdf")
    return folder


@pytest.fixture
def workspace(stand_ins, tmp_path, monkeypatch):
    """Copies named stand-ins into an empty folder and goes there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLEFTNET_DATA", raising=False)

    def provide(*names):
        for name in ("A.hdf", *names):
            source, target = stand_ins / name, tmp_path / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    return provide


def run(command: str) -> None:
    """Run one `cleftnet` command in this process; it must succeed."""
    program, *arguments = shlex.split(command)
    assert program == "cleftnet", f"'{command}' is no cleftnet command: mark its block as not run, with the reason"
    if arguments[0] == "train":
        arguments += [part for setting in SMALL_TRAINING for part in ("--set", setting)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert ended.value.code == 0, command


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language in ("shell", "python")}))
def test_the_blocks_of_a_page_run_one_after_the_other(page, workspace):
    workspace(*NEEDED.get(page, []))
    variables = {"__name__": page}
    for block in blocks_of(page):
        if block.not_run is None and block.language == "shell":
            for command in block.commands():
                run(command)
        if block.not_run is None and block.language == "python":
            exec(compile("\n" * block.line + block.text, str(ROOT / page), "exec"), variables)


def test_the_first_command_of_the_readme_runs_as_a_program(workspace):
    workspace()
    command = next(block for block in SHELL if block.page == "README.md" and block.not_run is None).commands()[0]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert Path("out.hdf").is_file()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_its_language_and_python_is_valid(block):
    assert block.language in ("shell", "python", "text", "yaml"), f"{block}: '{block.language}'"
    if block.language == "python":
        compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_the_names_that_python_takes_from_cleftnet_exist(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cleftnet":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cleftnet":
            assert node.attr in cleftnet.__all__, ast.unparse(node)


@pytest.mark.parametrize("page", PAGES)
def test_code_is_fenced_not_indented(page):
    before = ""
    for number, line in prose_of(page):
        assert before.strip() or not re.match(r" {4,}\S", line), f"{page}:{number} is an indented code block"
        before = line


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_command_parses(block):
    for command in block.commands():
        words = shlex.split(command)
        if "cleftnet" in words and not command.startswith(("pip", "make", "git")):
            verb, *arguments = words[words.index("cleftnet") + 1 :]
            assert verb in COMMANDS.commands, f"{block}: {command}"
            COMMANDS.commands[verb].make_context(verb, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_verbs_and_options_in_synopses_and_in_prose_exist(page):
    synopses = [block.text.replace("\n   ", " ") for block in blocks_of(page) if block.language == "text"]
    code = [f"`{name}`" for name in re.findall(r"`([^`]+)`", "\n".join(line for _, line in prose_of(page)))]
    for text in [line for synopsis in synopses for line in synopsis.split("\n")] + code:
        for verb, rest in re.findall(r"(?:^[`$ ]*)cleftnet ([a-z]+)([^`]*)", " ".join(text.split())):
            assert verb in COMMANDS.commands, f"{page}: {text}"
            known = {option for parameter in COMMANDS.commands[verb].params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= known, f"{page}: {text}"


def test_the_command_line_page_lists_every_verb():
    listed = re.findall(r"^\| `cleftnet ([a-z]+)", PAGES["docs/cli.md"], flags=re.M)
    assert sorted(listed) == sorted(COMMANDS.commands)


def test_links_lead_somewhere():
    for page in PAGES:
        text = "\n".join(line for _, line in prose_of(page))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://", target):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.M)
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short_and_words_are_plain(page):
    for number, line in prose_of(page):
        if not line.lstrip().startswith("|"):
            assert len(re.sub(r"\]\([^)]*\)", "]", line)) <= 160, f"{page}:{number} has {len(line)} characters"
        assert not (found := re.search(BANNED, line)), f"{page}:{number}: {found[0]}"


def test_the_page_on_python_names_everything_public():
    named = re.findall(r"`(?:cleftnet\.)?(\w+)[(`]", PAGES["docs/python.md"])
    assert set(cleftnet.__all__) - set(named) == set()


def test_the_api_page_describes_everything_public():
    assert set(re.findall(r"^::: cleftnet\.(\w+)$", PAGES["docs/api.md"], flags=re.M)) == set(cleftnet.__all__)


def test_the_table_of_synapses_has_the_columns_of_the_code():
    columns = [column.name for column in COLUMNS]
    listed = table_under("docs/synapses.md", "The table")
    assert listed[: len(columns)] == columns
    assert listed[len(columns) :] == ["segment_a", "segment_b", "contact_a", "contact_b"]


def test_the_tables_for_other_programs_have_the_columns_of_the_code():
    columns = [column.name for column in (*CAVE_COLUMNS, *CATMAID_COLUMNS, *NEURON_COLUMNS)]
    assert table_under("docs/synapses.md", "For other programs") == columns


def test_the_keys_of_an_evaluation_are_those_of_the_page(workspace, capsys):
    workspace("out.hdf")
    run("cleftnet evaluate out.hdf A.hdf --sweep --sections --json")
    scores = json.loads(capsys.readouterr().out)
    assert set(table_under("docs/evaluation.md", "The numbers")) == set(scores)
    assert set(table_under("docs/evaluation.md", "Whole clefts")) == set(scores["objects"])


@pytest.mark.parametrize("page", ["docs/training.md", "docs/data.md"])
def test_a_run_directory_holds_what_the_page_lists(page, stand_ins):
    heading = {"docs/training.md": "What a run directory holds", "docs/data.md": "A run directory"}[page]
    listed = {name.rstrip("/") for name in table_under(page, heading)}
    assert listed == {path.name for path in (stand_ins / "runs/quick").iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("name", ["losses.csv", "metrics.csv"])
def test_the_tables_of_a_training_have_the_columns_of_the_page(name, stand_ins):
    text = " ".join(PAGES["docs/training.md"].split())
    said = re.search(rf"columns of `{name}` are ([^.]+)\.", text)[1]
    with (stand_ins / "runs/quick" / name).open() as file:
        assert next(csv.reader(file)) == re.findall(r"`([^`]+)`", said)


def test_a_cell_of_a_comparison_has_the_keys_of_the_page():
    said = re.search(r"keys of `cell.json` are ([^.]+)\.", " ".join(PAGES["docs/compare.md"].split()))[1]
    assert re.findall(r"`([^`]+)`", said) == list(Cell.model_fields)
