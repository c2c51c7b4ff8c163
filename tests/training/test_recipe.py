import ast
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import cleftnet
from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.training.data import open_data, open_region
from cleftnet.training.recipe import VolumeSettings, load_recipe, shipped_recipes

SOURCE = Path(cleftnet.__file__).parent
RECIPES = sorted(p for p in (Path(__file__).parents[2] / "recipes").glob("*.yaml") if not p.name.startswith("tables-"))


def small(volume: Path) -> dict:
    return {
        "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [4, 8], "max_keys": 64},
        "data": {
            "train": [{"raw": str(volume), "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": str(volume), "roi": "0:16,64:96,0:96"}],
        },
        "training": {"steps": 4, "batch": 2, "validate_every": 2, "validation_overlap": 0},
    }


@pytest.fixture
def write(tmp_path, cremi_file):
    """Write a small recipe, some of its keys changed, and return its path."""

    def _write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(small(cremi_file) | changes))
        return path

    return _write


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_shipped_recipe_is_valid_and_loads_by_its_name(path):
    assert load_recipe(path.stem) == load_recipe(path)


def regions_of(value):
    """Every volume with a region, at any depth of a recipe."""
    if isinstance(value, dict):
        return [value] if "roi" in value else [r for inner in value.values() for r in regions_of(inner)]
    return [r for inner in value for r in regions_of(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if "vnc-l3" in name])
def test_shipped_recipes_read_the_part_x_below_768_of_vnc_l3_alone(name):
    """The rest is a test strip; docs/data.md says so."""
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes" / f"{name}.yaml").read_text())
    regions = [region for region in regions_of(recipe) if "vnc-l3.hdf" in region["raw"]]
    assert regions
    assert str(recipe).count("vnc-l3.hdf") == len(regions) + sum("tissue" in region for region in regions)
    for region in regions:
        start, stop = region["roi"].split(",")[2].split(":")
        assert 0 <= int(start) < int(stop) <= 768


def test_a_path_comes_before_the_name_of_a_shipped_recipe(tmp_path, monkeypatch, cremi_file):
    monkeypatch.chdir(tmp_path)
    Path("vnc-l3-quick").write_text(yaml.safe_dump(small(cremi_file)))
    assert load_recipe("vnc-l3-quick").training.steps == 4


def test_a_training_by_the_name_of_a_shipped_recipe_goes_to_runs_with_that_name(tmp_path, monkeypatch, cremi_file):
    monkeypatch.chdir(tmp_path)
    changes = [f"{key}={json.dumps(value)}" for key, value in small(cremi_file).items()]
    assert cleftnet.train("vnc-l3-quick", changes=changes).directory == Path("runs/vnc-l3-quick")


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all_names():
    with pytest.raises(InputError, match=r"no recipe 'vnc-l3-quik'; did you mean 'vnc-l3-quick'\?") as caught:
        load_recipe("vnc-l3-quik")
    assert all(name in str(caught.value) for name in shipped_recipes())


@pytest.mark.parametrize(("verb", "comparisons"), [("train", False), ("compare", True)])
def test_help_names_all_shipped_recipes(verb, comparisons, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    words = re.findall(r"[\w-]+", capsys.readouterr().out)
    names = {name for name in shipped_recipes() if name.startswith("tables-") == comparisons}
    assert names
    assert names <= set(words)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_recipe_begins_with_its_command(path):
    assert path.read_text().startswith(f"# cleftnet train {path.stem} --out")


def unread_fields(sources: list[str]) -> list[str]:
    """Return the fields of all settings classes that no line reads as an attribute."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    read = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    return [
        f"{node.name}.{field.target.id}"
        for node in nodes
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Settings" for base in node.bases)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and field.target.id not in read
    ]


def test_every_setting_is_read_by_some_line_of_the_package():
    assert unread_fields([path.read_text() for path in SOURCE.rglob("*.py")]) == []


def test_a_setting_that_no_line_reads_is_found():
    source = "class PlantedSettings(Settings):\n    sigma: float = 0.0\n    planted: float = 0.0\nprint(settings.sigma)"
    assert unread_fields([source]) == ["PlantedSettings.planted"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainings": {}}, "unknown key 'trainings'; did you mean 'training'"),
        (
            {"training": {"steps": 1, "lerning_rate": 1}},
            "unknown key 'training.lerning_rate'; did you mean 'learning_rate'",
        ),
        ({"net": {"name": "cleftnet", "width": [1, 2]}}, "unknown key 'net.width'; did you mean 'widths'"),
        ({"net": {"nam": "cleftnet"}}, "unknown key 'net.nam'; did you mean 'name'"),
        ({"net": {"name": "clefnet"}}, "unknown network 'clefnet'; did you mean 'cleftnet'"),
        ({"net": {"name": ["cleftnet"]}}, "unknown network"),
        ({"net": {"name": "cleftnet", 1: 2}}, "unknown key 'net.1'"),
        ({"net": {"name": "cleftnet", "patch": [8, 0, 8]}}, "patch"),
        ({"training": {"steps": "many"}}, "training.steps: .*given: 'many'"),
        ({"training": {}}, "training.steps: Field required"),
        ({"loss": {"form": "signed_distance"}}, "recipe.yaml: loss.form signed_distance trains one head.*unet3d"),
        ({"data": {"train": [{"raw": "a.hdf", "label": "b"}], "validate": [{"raw": "a"}]}}, "did you mean 'labels'"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line_that_says_what_to_try(write, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(write(**changes))
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no recipe .*no\.yaml"):
        load_recipe(tmp_path / "no.yaml")


@pytest.mark.parametrize("text", ["[1, 2", "just words", ""])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match="recipe"):
        load_recipe(tmp_path / "r.yaml")


def test_a_change_from_the_command_line_reaches_its_key(write):
    assert load_recipe(write(), ["training.steps=77", "net.name=resunet"]).training.steps == 77


@pytest.mark.parametrize("change", ["training.steps", "=3", "seed.x=3"])
def test_a_change_that_is_no_key_and_value_is_refused(write, change):
    with pytest.raises(InputError):
        load_recipe(write(seed=1), [change])


def test_a_run_directory_holds_the_recipe_as_used_and_where_it_came_from(write, tmp_path):
    run = cleftnet.train(write(), tmp_path / "run")
    assert load_recipe(run.directory / "recipe.yaml") == load_recipe(write())
    about = json.loads((run.directory / "run.json").read_text())
    assert about["versions"]["torch"]
    assert about["recipe"]["training"]["steps"] == 4


def test_a_run_directory_in_use_is_kept_unless_told(write, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        cleftnet.train(write(), tmp_path / "run")
    cleftnet.train(write(), tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_region_smaller_than_the_patch_is_refused_before_training(write, tmp_path, cremi_file):
    data = small(cremi_file)["data"] | {"validate": [{"raw": str(cremi_file), "roi": "0:4,0:96,0:96"}]}
    with pytest.raises(InputError, match="patch 8×32×32 is larger than"):
        cleftnet.train(write(data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_of_another_shape_than_raw_are_refused(write, tmp_path, cremi_file, synthetic):
    from cleftnet.geometry import Box
    from cleftnet.volumes import write_cremi

    write_cremi(tmp_path / "part.hdf", clefts=synthetic.labels.crop(Box.of((16, 96, 90))))
    data = small(cremi_file)["data"]
    data["train"][0]["labels"] = str(tmp_path / "part.hdf")
    data["train"][0].pop("roi")
    with pytest.raises(InputError, match=r"16×96×96 voxels and .*part\.hdf.* 16×96×90"):
        cleftnet.train(write(data=data), tmp_path / "run")


def test_labels_smaller_than_raw_are_placed_by_their_offset(tmp_path, cremi_file, synthetic):
    from cleftnet.geometry import Box
    from cleftnet.volumes import write_cremi

    part = Box((4, 8, 16), (16, 72, 96))
    write_cremi(tmp_path / "part.hdf", clefts=synthetic.labels.crop(part))
    region = open_region(VolumeSettings(raw=str(cremi_file), labels=str(tmp_path / "part.hdf")))
    assert (region.raw.read() == synthetic.raw[part]).all()
    assert (region.labels.read() == synthetic.labels[part]).all()


def test_a_signed_distance_is_learned_inside_clefts_and_outside(write, cremi_file):
    net = small(cremi_file)["net"] | {"name": "unet3d"}
    recipe = load_recipe(write(loss={"form": "signed_distance"}, net=net))
    distance = torch.cat([open_data(recipe).patches[number][2] for number in range(4)])
    assert distance.min() == pytest.approx(-np.tanh(3))
    assert distance.max() > 0


def test_a_network_is_trained_by_its_signed_distance_alone(write, cremi_file, tmp_path):
    net = small(cremi_file)["net"] | {"name": "unet3d"}
    run = cleftnet.train(write(loss={"form": "signed_distance"}, net=net), tmp_path / "run")
    assert run.scores.calibration_error < 0.5
    with (run.directory / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    total, *parts = (
        [float(row[f"loss_{name}"]) for row in rows] for name in ("total", "segmentation", "boundary", "coherence")
    )
    assert parts == [[0.0] * 4, total, [0.0] * 4]
