"""The file of a comparison: what it says, and what is refused in one line."""

import copy
from pathlib import Path

import pytest
import yaml

from cleftnet.comparison import load_comparison
from cleftnet.errors import InputError
from cleftnet.nets.zoo import ZOO

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "recipes").glob("tables-*.yaml"))


def changed(tiny, change):
    content = copy.deepcopy(tiny)
    change(content)
    return content


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_every_comparison_that_ships_is_valid_and_loads_by_its_name(path):
    assert load_comparison(path.stem) == load_comparison(path)


PAPER_TABLES = [path for path in TABLES if not path.stem.endswith("-folds")]


@pytest.mark.parametrize("path", PAPER_TABLES, ids=lambda p: p.name)
def test_the_tables_of_the_paper_have_the_nine_networks_and_two_related_rows(path):
    comparison = load_comparison(path)
    assert {comparison.base["net"]["name"], *ZOO} <= set(comparison.rows)
    assert {"forest", "distance-unet"} <= set(comparison.rows)


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_every_comparison_begins_with_its_command(path):
    assert path.read_text().startswith(f"# cleftnet compare {path.stem} --out")


def test_the_published_comparisons_show_the_papers_numbers():
    for path in PAPER_TABLES:
        paper = next(table.paper for table in load_comparison(path).tables if "segnet" in table.paper)
        assert paper["segnet"] == {"cremi_score": 72.32, "auc": 0.883, "f1": 0.842}
        assert paper["cleftnet"] == {"cremi_score": 50.50, "auc": 0.938, "f1": 0.895}


def test_a_row_is_the_base_with_its_changes_and_the_seed(tiny, write):
    comparison = load_comparison(write(tiny))
    one, other = comparison.recipe("cleftnet", 0), comparison.recipe("resunet", 3)
    assert (one.net.down, other.net.down, other.seed) == ("fa", "max-pool", 3)
    assert one.training == other.training


def test_the_base_may_be_a_recipe_beside_the_file_whose_seed_is_not_taken(tiny, write, tmp_path):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"seed": 9, **tiny["base"]}))
    assert load_comparison(write({**tiny, "base": "one.yaml"})) == load_comparison(write(tiny))


def test_the_first_row_is_the_reference_unless_said(tiny, write):
    assert load_comparison(write(tiny)).against == "cleftnet"
    assert load_comparison(write(changed(tiny, lambda c: c.pop("reference")))).against == "cleftnet"
    assert load_comparison(write({**tiny, "reference": "resunet"})).against == "resunet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(tabels=[]), "unknown key 'tabels'; did you mean 'tables'"),
        (lambda c: c["rows"]["resunet"].update(labl="x"), r"unknown key 'rows.resunet.labl'; did you mean 'label'"),
        (lambda c: c["rows"]["resunet"]["set"].update({"net.widht": [2]}), "row resunet: .*widht"),
        (lambda c: c["rows"]["resunet"]["set"].update({"training.stepps": 2}), "row resunet: unknown key"),
        (lambda c: c["base"].update(seed=1), "list the seeds"),
        (lambda c: c["rows"]["resunet"]["set"].update(seed=1), "list the seeds"),
        (lambda c: c.update(seeds=[0, 0]), "contain one twice"),
        (lambda c: c.update(reference="resnet"), "reference names an unknown row 'resnet'.* did you mean 'resunet'"),
        (lambda c: c["tables"][0]["rows"].append("resnet"), "table 'Two' names an unknown row 'resnet'"),
        (lambda c: c["tables"][0]["paper"].update(resunet={"f2": 1}), "f2"),
        (lambda c: c["rows"].update({"a/b": {"label": "x"}}), "row 'a/b' cannot name a folder"),
        (lambda c: c["rows"]["resunet"].update(classical={}), "set and classical exclude each other"),
        (
            lambda c: c["rows"]["resunet"]["set"].update({"data.validate": [{"raw": "other.hdf"}]}),
            "row resunet has other validation data",
        ),
        (lambda c: c.pop("rows"), "rows: Field required"),
    ],
)
def test_a_wrong_comparison_is_refused_in_one_line(tiny, write, change, message):
    with pytest.raises(InputError, match=message) as caught:
        load_comparison(write(changed(tiny, change)))
    assert "\n" not in str(caught.value)
