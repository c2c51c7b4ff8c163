"""The tables in docs/results are what their cells say, and the cells what the recipes in recipes/ ask for."""

import re
from pathlib import Path

import pytest

from cleftnet.comparison import CellFolder, Plan, load_comparison
from cleftnet.comparison.comparing import TABLES, collect
from cleftnet.comparison.recipe import with_defaults
from cleftnet.comparison.tables import SCORES, markdown
from cleftnet.training.recipe import first_difference
from cleftnet.training.runs import RECIPE
from tools.check_results import PAGE, published, table

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(recipe.parent for recipe in (ROOT / "docs" / "results").glob(f"*/{RECIPE}"))
OBJECTS = "whole synapses, of 37"
OUT_OF_FOLD = [  # row and seed of a cell, and how its line in docs/results.md begins
    ("coarse-boosted", 0, "mean of CleftNet and boosted trees"),
    ("coarse-boosted", 1, "mean of CleftNet and boosted trees, seed 1"),
    ("coarse-boosted", 2, "mean of CleftNet and boosted trees, seed 2"),
    ("coarse", 0, "CleftNet, coarse"),
    ("coarse", 1, "CleftNet in this form, seed 1"),
    ("coarse", 2, "CleftNet in this form, seed 2"),
    ("resunet", 0, "ResUnet"),
    ("resunet", 1, "ResUnet, seed 1"),
    ("resunet", 2, "ResUnet, seed 2"),
    ("symmetric", 0, "recipe of PyTorch Connectomics"),
    ("coarse-fa", 0, "CleftNet w/o LA, coarse queries"),
    ("coarse-balanced", 0, "CleftNet, coarse queries, balanced"),
    ("forest", 0, "random forest"),
    ("forest", 1, "random forest, seed 1"),
    ("forest", 2, "random forest, seed 2"),
    ("boosted", 0, "boosted trees"),
    ("boosted", 1, "boosted trees, seed 1"),
    ("boosted", 2, "boosted trees, seed 2"),
    ("coarse-normalized", 0, "CleftNet with normalized gray values"),
    ("networks", 0, "mean of ResUnet and CleftNet"),
    ("resunet-boosted", 0, "mean of ResUnet and boosted"),
    ("coarse-forest", 0, "mean of CleftNet and forest"),
]


@pytest.mark.parametrize("out", PUBLISHED, ids=lambda path: path.name)
def test_published_tables_follow_from_the_published_cells(out):
    plan = Plan(load_comparison(out / RECIPE), out, wanted=())
    results = collect(plan)
    assert results.cells
    assert (out / TABLES).read_text() == markdown(plan.comparison, results.tables, results.differences)


@pytest.mark.parametrize("out", PUBLISHED, ids=lambda path: path.name)
def test_published_cells_are_those_of_the_recipe(out):
    comparison = load_comparison(ROOT / "recipes" / f"{out.name}.yaml")
    for cell in collect(Plan(comparison, out, wanted=())).cells:
        assert first_difference(with_defaults(cell.recipe), comparison.described(cell.row, cell.seed)) is None


@pytest.mark.parametrize(("row", "seed", "line"), OUT_OF_FOLD)
def test_the_scores_on_the_page_are_those_of_the_cells(row, seed, line):
    page = published(PAGE.read_text(), "Out of fold: tissue that a network has not seen", line)
    cell = CellFolder.of(ROOT / "docs/results/tables-vnc-l3-folds", row, seed).load()
    assert set(page) == {"auc", "f1", "cremi_score", "synapse_voxel_f1", "synapse_cremi_score"}
    found = {key: SCORES[key][2](cell) for key in page}
    assert page == {key: round(value, SCORES[key][1]) for key, value in found.items()}


def titled_tables(text):
    """The finished rows of each table in a text, after the words above it, without parameters and seconds a step."""
    found = []
    for block in re.split(r"\n\n", text):
        lines = block.splitlines()
        if not lines[0].startswith("|"):
            title = lines[-1].strip("#* ")
            continue
        names, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
        kept = [n for n, name in enumerate(names) if name not in ("parameters", "s a step")]
        finished = [cells for cells in rows if "not finished" not in cells]
        found.append((title, [[cells[n] for n in kept] for cells in (names, *finished)]))
    return found


def test_the_papers_tables_on_the_page_are_those_of_the_comparison():
    section = re.split(r"^### ", PAGE.read_text().split("### The paper's tables\n")[1], flags=re.MULTILINE)[0]
    page = titled_tables(section.strip())
    tables = titled_tables((ROOT / "docs/results/tables-vnc-l3-cpu" / TABLES).read_text().strip())
    assert len(page) == 14
    assert page == tables


def test_the_readme_shows_scores_of_the_page():
    page = table(PAGE.read_text(), "Out of fold: tissue that a network has not seen")
    of = {next(iter(row.values())): row for row in page}
    lines = {
        "parts of `vnc-l3`": "mean of CleftNet and boosted trees",
        "its networks alone, `vnc-l3-cleftnet`": "CleftNet, coarse queries, \u03b1\u2082 = 0",
        "ResUnet, the same recipe": "ResUnet",
        "random forest on filters": "random forest on filters",
    }
    for row in table((ROOT / "README.md").read_text(), "Status"):
        name, *shown = row.values()
        expected = of[lines.pop(name)]
        assert shown == [expected[column] for column in ("auc", "voxel f1", "f1 of synapses' voxels", OBJECTS)]
    assert not lines


@pytest.mark.parametrize("out", PUBLISHED, ids=lambda path: path.name)
def test_published_files_name_no_path_of_a_machine(out):
    recipe = load_comparison(out / RECIPE)
    for cell in collect(Plan(recipe, out, wanted=())).cells:
        text = cell.model_dump_json()
        assert text.count('"/') == 0, cell.row
