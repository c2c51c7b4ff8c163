"""The tables in docs/results are what their cells say, and the cells what the recipes in recipes/ ask for."""

from pathlib import Path

import pytest

from cleftnet.comparison import Plan, load_comparison
from cleftnet.comparison.comparing import TABLES, collect
from cleftnet.comparison.recipe import with_defaults
from cleftnet.comparison.tables import markdown
from cleftnet.training.recipe import first_difference
from cleftnet.training.runs import RECIPE

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(recipe.parent for recipe in (ROOT / "docs" / "results").glob(f"*/{RECIPE}"))


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


@pytest.mark.parametrize("out", PUBLISHED, ids=lambda path: path.name)
def test_published_files_name_no_path_of_a_machine(out):
    recipe = load_comparison(out / RECIPE)
    for cell in collect(Plan(recipe, out, wanted=())).cells:
        text = cell.model_dump_json()
        assert text.count('"/') == 0, cell.row
