"""The networks of a small comparison with folds released into a folder of their own, end to end."""

import math

import numpy as np
import pytest
import torch
import yaml

import cleftnet
from cleftnet.comparison import CellFolder
from cleftnet.comparison.out_of_fold import score_out_of_fold
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, load_model, load_trees, save_model
from cleftnet.synapses import TuningSettings
from cleftnet.training.data import open_region
from cleftnet.training.recipe import Recipe
from cleftnet.volumes import matched_to
from tools.release import BEGIN, END, predict_folds, release


@pytest.fixture(scope="module")
def cells(tmp_path_factory, cremi_file):
    """Finished cells of two folds by row, trained for a few steps, whose data is named by a variable."""
    folder = tmp_path_factory.mktemp("release")
    content = {
        "base": {
            "net": {"name": "cleftnet", "patch": [8, 16, 16], "widths": [2, 4], "max_keys": 64},
            "data": {"train": [{"raw": "$CLEFTNET_DATA/volume.hdf", "roi": "0:16,0:96,0:96"}]},
            "sampling": {"min_cleft_voxels": 20},
            "training": {"steps": 6, "batch": 2, "validation_overlap": 0},
        },
        "folds": {"axis": "x", "borders_vox": [57]},
        "rows": {
            "cleftnet": {"label": "CleftNet"},
            "boosted": {"label": "trees", "boosted": {"trees": 4, "depth": 2, "voxels": 2000, "sigmas_nm": [8, 40]}},
            "both": {"label": "both", "mean_of": ["cleftnet", "boosted"]},
        },
        "synapses": {"thresholds": [0.3, 0.6], "sizes_nm3": [0, 1e5]},
    }
    (folder / "tables.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEFTNET_DATA", str(cremi_file.parent))
        results = cleftnet.compare(folder / "tables.yaml", folder / "out")
    assert not results.failed
    return {row: CellFolder.of(folder / "out", row, 0).path for row in content["rows"]}


@pytest.fixture
def cell(cells):
    """The cell of networks alone."""
    return cells["cleftnet"]


@pytest.fixture
def folder(tmp_path, cremi_file, monkeypatch):
    """A folder with a page with a place for its numbers."""
    monkeypatch.setenv("CLEFTNET_DATA", str(cremi_file.parent))
    (tmp_path / "tiny.md").write_text(f"# tiny\n\n{BEGIN}\nold numbers\n{END}\n\nLimits.\n")
    return tmp_path


def test_the_networks_of_the_folds_are_one_rounded_ensemble_scored_out_of_fold_and_described(cell, folder, cremi_file):
    done = release(cell, "tiny", folder=folder)
    shipped = load_model(done.weights)
    for number, member in enumerate(shipped.net.networks):
        trained = load_model(CellFolder(cell).fold(number).run).net.state_dict()
        rounded = [p.half().float() if p.dim() > 1 else p for p in trained.values()]
        assert all(torch.equal(a, b) for a, b in zip(member.state_dict().values(), rounded, strict=True))
    assert (shipped.card.members, shipped.card.voxel_size_nm) == (2, (40.0, 4.0, 4.0))
    assert shipped.card.synapses is not None

    about = shipped.card.provenance
    recipe = Recipe(**about["recipe"])
    region = open_region(recipe.data.train[0])
    assert shipped.card.normalize == matched_to(region.raw, sections=True)
    folds = predict_folds(shipped, about["folds"], recipe)
    scored, _, _ = score_out_of_fold(folds, region, TuningSettings(**about["synapse_grid"]))
    assert scored.scores.auc == pytest.approx(shipped.card.scores["auc"], abs=1e-12)
    assert scored.scores.f1 == pytest.approx(shipped.card.scores["f1"], abs=1e-12)

    page = done.page.read_text()
    assert page.startswith(f"# tiny\n\n{BEGIN}\n")
    assert page.endswith(f"{END}\n\nLimits.\n")
    assert "old numbers" not in page
    assert "| network | 2 × cleftnet (max_keys 64), widths 2, 4 |" in page
    assert f"| {scored.scores.auc:.5f} |" in page
    assert str(cremi_file.parent) not in page + shipped.card.model_dump_json()


def test_networks_and_boosted_trees_are_one_model_scored_out_of_fold(cells, folder):
    done = release(cells["both"], "tiny", folder=folder)
    shipped = load_model(done.weights)
    own = [load_trees(CellFolder(cells["boosted"]).fold(number).trees) for number in range(2)]
    assert all(
        np.array_equal(mine.value, theirs.value) for mine, theirs in zip(shipped.trees.split(2), own, strict=True)
    )
    assert shipped.card.scores["auc"] == pytest.approx(
        CellFolder(cells["both"]).load().scores.auc, abs=0.01
    )  # sections are matched
    page = done.page.read_text()
    assert "| beside them | boosted trees on filters of 8, 40 nm |" in page
    assert "--rows cleftnet,boosted,both --seeds 0" in page


def test_trees_alone_are_not_released(cells, folder):
    with pytest.raises(InputError, match="networks of one row"):
        release(cells["boosted"], "tiny", folder=folder)


def test_a_second_release_replaces_the_first(cell, folder):
    first = release(cell, "tiny", folder=folder)
    before = first.page.read_text()
    assert release(cell, "tiny", folder=folder).page.read_text() == before


def test_float16_halves_the_file(folder):
    net = cleftnet.build("cleftnet", widths=(8, 16), patch=(4, 16, 16))
    for half in (False, True):
        save_model(folder / f"{half}.safetensors", Model(net, ModelCard(spec=net.spec)), half=half)
    sizes = [(folder / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.65 * sizes[0]


def test_norms_and_biases_are_not_rounded(model, tmp_path):
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.fill_(math.pi)
    save_model(tmp_path / "m.safetensors", model, half=True)
    values = {p.dim() > 1: p.flatten()[0].item() for p in load_model(tmp_path / "m.safetensors").net.parameters()}
    assert values == {True: 3.140625, False: pytest.approx(math.pi, rel=1e-7)}


def test_a_release_needs_a_page_with_a_place_for_its_numbers(cell, folder):
    with pytest.raises(InputError, match=r"other\.md is not there or has no place for the numbers"):
        release(cell, "other", folder=folder)
    (folder / "tiny.md").write_text("# tiny\n")
    with pytest.raises(InputError, match=r"tiny\.md is not there or has no place"):
        release(cell, "tiny", folder=folder)


def test_a_release_cannot_have_the_name_of_a_network(cell, folder):
    with pytest.raises(InputError, match="'unet3d' is the name of a network"):
        release(cell, "unet3d", folder=folder)


def test_a_folder_without_a_finished_cell_with_folds_is_not_released(folder):
    with pytest.raises(InputError, match="not the folder of a finished cell with folds"):
        release(folder, "tiny", folder=folder)


def test_networks_trained_on_paths_of_one_machine_are_not_released(cell, folder, cremi_file):
    done = CellFolder(cell).load()
    data = done.recipe["data"] | {"train": [{"raw": str(cremi_file), "roi": "0:16,0:96,0:96"}]}
    CellFolder(folder).save(done.model_copy(update={"recipe": done.recipe | {"data": data}}))
    for number in range(2):
        (folder / f"fold-{number}").symlink_to(cell / f"fold-{number}")
    with pytest.raises(InputError, match="a path of one machine"):
        release(folder, "tiny", folder=folder)
