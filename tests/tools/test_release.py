"""A small model released into a folder of its own, end to end."""

import math
from dataclasses import replace

import pytest
import torch
import yaml

import cleftnet
from cleftnet.errors import InputError
from cleftnet.metrics.evaluation import evaluate
from cleftnet.models.checkpoint import Model, load_model, save_model
from cleftnet.prediction import PredictionSettings, predict
from cleftnet.training.data import open_region
from cleftnet.training.recipe import Recipe
from tools.release import BEGIN, END, release


@pytest.fixture(scope="module")
def run(tmp_path_factory, cremi_file):
    """A training of a few steps whose data is named by a variable."""
    folder = tmp_path_factory.mktemp("release")
    content = {
        "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [2, 4], "max_keys": 64},
        "data": {
            "train": [{"raw": "$CLEFTNET_DATA/volume.hdf", "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": "$CLEFTNET_DATA/volume.hdf", "roi": "0:16,64:96,0:96"}],
        },
        "training": {"steps": 6, "batch": 1, "validate_every": 6, "validation_overlap": 0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEFTNET_DATA", str(cremi_file.parent))
        return cleftnet.train(folder / "recipe.yaml", folder / "run").directory


@pytest.fixture
def folder(tmp_path, cremi_file, monkeypatch):
    """A folder with a page with a place for its numbers."""
    monkeypatch.setenv("CLEFTNET_DATA", str(cremi_file.parent))
    (tmp_path / "tiny.md").write_text(f"# tiny\n\n{BEGIN}\nold numbers\n{END}\n\nLimits.\n")
    return tmp_path


def test_a_release_is_rounded_scored_as_shipped_and_described(run, folder, cremi_file):
    done = release(run, "tiny", folder=folder)
    trained, shipped = load_model(run), load_model(done.weights)
    rounded = [p.half().float() if p.dim() > 1 else p for p in trained.net.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(shipped.net.state_dict().values(), rounded, strict=True))

    region = open_region(Recipe(**shipped.card.provenance["recipe"]).data.validate_on[0])
    probability = predict(shipped, region.raw, folder / "out.hdf", settings=PredictionSettings(overlap=0))
    found = evaluate(probability, region.labels)
    assert probability.threshold == shipped.card.threshold
    assert found.f1 == pytest.approx(shipped.card.scores["f1"], abs=1e-12)
    assert found.auc == pytest.approx(shipped.card.scores["auc"], abs=1e-12)

    page = done.page.read_text()
    assert page.startswith(f"# tiny\n\n{BEGIN}\n")
    assert page.endswith(f"{END}\n\nLimits.\n")
    assert "old numbers" not in page
    assert "| network | cleftnet, widths 2, 4, at most 64 keys |" in page
    assert f"| AUC | {found.auc:.5f} |" in page.replace(f"{trained.card.scores['auc']:.5f} | ", "")
    assert str(cremi_file.parent) not in page + shipped.card.model_dump_json()


def test_a_second_release_replaces_the_first(run, folder):
    first = release(run, "tiny", folder=folder)
    before = first.page.read_text()
    assert release(run, "tiny", folder=folder).page.read_text() == before


def test_float16_halves_the_file(run, folder):
    net = cleftnet.build("cleftnet", widths=(8, 16), patch=(4, 16, 16))
    for half in (False, True):
        save_model(folder / f"{half}.safetensors", Model(net, load_model(run).card), half=half)
    sizes = [(folder / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.65 * sizes[0]


def test_norms_and_biases_are_not_rounded(model, tmp_path):
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.fill_(math.pi)
    save_model(tmp_path / "m.safetensors", model, half=True)
    values = {p.dim() > 1: p.flatten()[0].item() for p in load_model(tmp_path / "m.safetensors").net.parameters()}
    assert values == {True: 3.140625, False: pytest.approx(math.pi, rel=1e-7)}


def test_a_release_needs_a_page_with_a_place_for_its_numbers(run, folder):
    with pytest.raises(InputError, match=r"other\.md is not there or has no place for the numbers"):
        release(run, "other", folder=folder)
    (folder / "tiny.md").write_text("# tiny\n")
    with pytest.raises(InputError, match=r"tiny\.md is not there or has no place"):
        release(run, "tiny", folder=folder)


def test_a_release_cannot_have_the_name_of_a_network(run, folder):
    with pytest.raises(InputError, match="'unet3d' is the name of a network"):
        release(run, "unet3d", folder=folder)


def test_a_model_without_recipe_is_not_released(model, folder):
    save_model(folder / "m.safetensors", model)
    with pytest.raises(InputError, match="does not hold the recipe"):
        release(folder / "m.safetensors", "tiny", folder=folder)


def test_a_model_trained_on_paths_of_one_machine_is_not_released(run, folder, cremi_file):
    model = load_model(run)
    recipe = dict(model.card.provenance["recipe"])
    data = recipe["data"] | {"train": [{"raw": str(cremi_file)}]}
    card = model.card.model_copy(update={"provenance": {"recipe": recipe | {"data": data}}})
    save_model(folder / "m.safetensors", replace(model, card=card))
    with pytest.raises(InputError, match="a path of one machine"):
        release(folder / "m.safetensors", "tiny", folder=folder)
