"""Released models are found by name, described by a page, and reach the scores on it."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from cleftnet.comparison.out_of_fold import score_out_of_fold
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import BEST, find_model, load_card, load_model, save_model
from cleftnet.models.released import FOLDER, list_models, released_page, released_weights
from cleftnet.nets.zoo import ZOO
from cleftnet.prediction import PredictionSettings
from cleftnet.prediction.view import NetworkView
from cleftnet.synapses import TuningSettings
from cleftnet.training.data import open_region
from cleftnet.training.recipe import Recipe
from cleftnet.volumes import Volume
from tools.release import BEGIN, END, predict_folds

MEGABYTE = 1e6
SIZE_NM = (50.0, 4.6, 4.6)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_released_model_is_found_by_its_name(empty_folder):
    assert find_model("vnc-l3") == released_weights("vnc-l3")
    assert load_model("vnc-l3").card.voxel_size_nm == SIZE_NM


def test_a_file_and_a_run_directory_of_that_name_come_first(empty_folder, model):
    (empty_folder / "vnc-l3").mkdir()
    save_model(empty_folder / "vnc-l3" / BEST, model)
    assert str(find_model("vnc-l3")) == f"vnc-l3/{BEST}"
    shutil.rmtree(empty_folder / "vnc-l3")
    save_model(empty_folder / "vnc-l3", model)
    assert str(find_model("vnc-l3")) == "vnc-l3"


def test_a_folder_of_data_of_that_name_does_not_hide_it(empty_folder):
    (empty_folder / "vnc-l3").mkdir()
    assert find_model("vnc-l3") == released_weights("vnc-l3")


def test_an_unknown_name_suggests_the_nearest(empty_folder):
    with pytest.raises(InputError, match=r"no model at vnc-l4.*did you mean 'vnc-l3'"):
        find_model("vnc-l4")
    with pytest.raises(InputError, match="no released model 'vncl3'; did you mean 'vnc-l3'"):
        released_page("vncl3")


def test_no_released_model_has_the_name_of_a_network():
    assert not set(list_models()) & set(ZOO)


@pytest.mark.parametrize("name", list_models())
def test_weights_take_a_few_megabytes_and_come_back_as_float32(name):
    assert released_weights(name).stat().st_size < 16 * MEGABYTE
    assert {str(p.dtype) for p in load_model(name).net.parameters()} == {"torch.float32"}


@pytest.mark.parametrize("name", list_models())
def test_every_contrast_is_seen_as_that_of_the_training_data(name, synthetic):
    def seen(gray):
        return NetworkView.of(Volume(gray, SIZE_NM), load_card(name), PredictionSettings()).seen.read()

    raw = synthetic.raw.read()
    as_it_is, pale = seen(raw), seen((raw // 2 + 60).astype(np.uint8))
    assert np.percentile(as_it_is, (5, 95)) == pytest.approx((32, 204), abs=2)  # of vnc-l3, x < 768
    assert np.abs(as_it_is.astype(int) - pale).mean() < 1


@pytest.mark.parametrize("name", list_models())
def test_a_page_states_data_terms_split_use_and_limits_and_shows_the_scores_of_the_card(name):
    page, scores = released_page(name), load_card(name).scores
    for word in ("## Data and terms", "CC BY-NC-SA", "commercial", "## Split", "## Scores", "what not"):
        assert word in page
    _, measured, _ = page.replace(END, BEGIN).split(BEGIN)
    shown = {
        cells[1].strip(): cells[-2].strip()
        for cells in (line.split("|") for line in measured.splitlines())
        if len(cells) > 3
    }
    assert shown["voxel F1"] == f"{scores['f1']:.4f}"
    assert shown["AUC"] == f"{scores['auc']:.5f}"
    assert shown["CREMI score, nm"] == f"{scores['cremi_score']:.2f}"
    assert shown["object F1"] == f"{scores['object_f1']:.3f}"


@pytest.mark.parametrize("name", list_models())
def test_a_card_holds_the_recipe_and_no_absolute_path(name):
    card = load_card(name)
    Recipe.model_validate(card.provenance["recipe"])
    assert '"/' not in card.model_dump_json()


def test_the_page_is_shown_by_models_and_the_list_names_it():
    def cleftnet(*arguments):
        command = [sys.executable, "-c", "from cleftnet.cli import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert cleftnet("models", "vnc-l3").startswith("# vnc-l3")
    assert '"voxel_size_nm"' in cleftnet("models", "vnc-l3", "--json")
    assert "vnc-l3" in cleftnet("models", "--patch", "8,32,32")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list_models())
def test_the_networks_of_a_released_model_reproduce_the_scores_of_its_card_out_of_fold(name, real_data, monkeypatch):
    monkeypatch.setenv("CLEFTNET_DATA", str(real_data))
    model = load_model(name)
    scores, about = model.card.scores, model.card.provenance
    recipe = Recipe(**about["recipe"])
    region = open_region(recipe.data.train[0])
    folds = predict_folds(model, about["folds"], recipe)
    found, _, _ = score_out_of_fold(folds, region, TuningSettings(**about["synapse_grid"]))
    assert found.scores.f1 == pytest.approx(scores["f1"], abs=0.002)
    assert found.scores.auc == pytest.approx(scores["auc"], abs=0.0005)
    assert found.scores.cremi_score == pytest.approx(scores["cremi_score"], abs=1)
    assert found.objects.f1 == pytest.approx(scores["object_f1"], abs=0.03)
    assert found.objects.voxel_f1 == pytest.approx(scores["object_voxel_f1"], abs=0.005)


def test_the_folder_holds_a_page_for_every_model_and_a_model_for_every_page():
    pages = sorted(path.stem for path in FOLDER.glob("*.md"))
    assert pages == list_models() != []
