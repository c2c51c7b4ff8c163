"""Fine-tuning without a recipe: a better model on other tissue, resumed exactly, with its origin and terms."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import cleftnet
from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, load_card, load_model, save_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.zoo import build
from cleftnet.synapses import find_synapses
from cleftnet.synthetic import SyntheticSettings, synthetic_volume
from cleftnet.training.fine_tuning import finetune
from cleftnet.training.fine_tuning_job import FineTuneSettings
from cleftnet.training.label_folds import LabelFolds
from cleftnet.training.recipe import Recipe
from cleftnet.training.runs import train
from cleftnet.volumes import INVALID, LABELS, Volume, is_labelled, open_volume, write_cremi

TISSUE = SyntheticSettings(synapses_per_um3=40, cell_size_nm=200, cleft_darkness=2.0)
SIZE_NM = (40.0, 4.0, 4.0)
QUICK = FineTuneSettings(steps=12, batch=2, folds=2, learning_rate=2e-2, validate_every=4)


@dataclass(frozen=True)
class Lab:
    """A base model of one tissue, and another tissue that looks inverted: to learn from, with ten labels, and to test on."""

    base: Path
    volume: Path
    labels: Path
    test: Path


def ten_labels(ids):
    """Ten clefts with their surroundings, all else invalid, as a review leaves them."""
    kept, labels = np.unique(ids)[1:11], np.full(ids.shape, INVALID, np.uint64)
    assert len(kept) == 10
    for one in kept:
        where = np.nonzero(ids == one)
        box = tuple(slice(max(0, a.min() - m), a.max() + 1 + m) for a, m in zip(where, (2, 16, 16), strict=True))
        labels[box] = ids[box]
    labels[(ids > 0) & ~np.isin(ids, kept)] = INVALID
    return labels


def write(path, seed, inverted):
    made = synthetic_volume((16, 192, 192), seed=seed, settings=TISSUE)
    raw, ids = np.asarray(made.raw.read()), np.asarray(made.labels.read())
    write_cremi(path, raw=Volume(255 - raw if inverted else raw, SIZE_NM), clefts=Volume(ids, SIZE_NM))
    return ids


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Synthetic tissue, and a model that was trained for seconds."""
    folder = tmp_path_factory.mktemp("tissue")
    write(folder / "home.hdf", 0, inverted=False)
    ids = write(folder / "lab.hdf", 1, inverted=True)
    write(folder / "test.hdf", 2, inverted=True)
    write_cremi(folder / "labels.hdf", clefts=Volume(ten_labels(ids), SIZE_NM))
    home = {"raw": str(folder / "home.hdf")}
    recipe = Recipe(
        net={"name": "cleftnet-no-fa", "patch": (4, 32, 32), "widths": (8, 16)},
        data={"train": [home], "validate": [{**home, "roi": "0:16,0:64,0:192"}]},
        training={
            "steps": 120,
            "batch": 4,
            "learning_rate": 5e-3,
            "ema": 0.9,
            "validate_every": 60,
            "validation_overlap": 0.0,
        },
    )
    train(recipe, folder / "base")
    return Lab(folder / "base", folder / "lab.hdf", folder / "labels.hdf", folder / "test.hdf")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Ten dark boxes in noise, eight of them labeled, and an untrained model."""
    folder, shape = tmp_path_factory.mktemp("lab"), (6, 96, 96)
    rng = np.random.default_rng(0)
    raw, ids = rng.integers(120, 200, shape).astype(np.uint8), np.zeros(shape, np.uint64)
    for number in range(10):
        y, x = 4 + 18 * (number % 5), 10 + 48 * (number // 5)
        ids[2:4, y : y + 8, x : x + 24] = number + 1
    raw[ids > 0] = 20
    labels = ids.copy()
    labels[(ids == 9) | (ids == 10)] = INVALID
    labels[:, 58:, 50:] = INVALID
    write_cremi(folder / "lab.hdf", raw=Volume(raw, SIZE_NM), clefts=Volume(ids, SIZE_NM))
    write_cremi(folder / "labels.hdf", clefts=Volume(labels, SIZE_NM))
    torch.manual_seed(0)
    net = build("cleftnet-no-fa", widths=(2, 4), patch=(4, 32, 32)).eval()
    recipe = {"recipe": {"net": {"widths": [2, 4]}, "loss": {"form": "as_printed"}}}
    card = ModelCard(spec=net.spec, voxel_size_nm=SIZE_NM, provenance={**recipe, "terms": "for tests only"})
    save_model(folder / "base.safetensors", Model(net, card))
    return Lab(folder / "base.safetensors", folder / "lab.hdf", folder / "labels.hdf", folder / "lab.hdf")


@pytest.fixture(scope="module")
def tuned(lab, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "run"
    finetune(lab.base, lab.volume, lab.labels, out, settings=QUICK)
    return out


def weights(model):
    return {name: tensor.numpy() for name, tensor in load_model(model).net.state_dict().items()}


@pytest.mark.slow
def test_ten_labels_of_other_tissue_raise_the_f1(tissue, tmp_path):
    settings = FineTuneSettings(steps=60, folds=2, learning_rate=5e-3, validate_every=30)
    finetune(tissue.base, tissue.volume, tissue.labels, tmp_path / "run", settings=settings)
    before, after = (
        cleftnet.evaluate(cleftnet.predict(model, tissue.test), tissue.test).f1
        for model in (tissue.base, tmp_path / "run")
    )
    assert after > before + 0.1


def test_the_result_is_an_ensemble_with_an_operating_point_that_synapses_uses(lab, tuned, tmp_path):
    card = load_card(tuned)
    assert card.members == 2
    assert isinstance(load_model(tuned).net, Ensemble)
    assert card.synapses is not None
    cleftnet.predict(tuned, lab.test, tmp_path / "out.hdf")
    assert find_synapses(tmp_path / "out.hdf").used.origin == "stored with the prediction"


def test_networks_that_a_training_ruined_stay_as_they_were(lab, tuned, tmp_path, caplog):
    ruinous = QUICK.model_copy(update={"steps": 4, "learning_rate": 0.3})
    finetune(tuned, lab.volume, lab.labels, tmp_path / "run", settings=ruinous)
    before, after = weights(tuned), weights(tmp_path / "run")
    assert all((after[name] == before[name]).all() for name in before)
    assert "2 of 2 networks became no better" in caplog.text


def test_a_single_network_that_stays_as_it_was_is_not_repeated(lab, tuned, tmp_path):
    model = load_model(tuned)
    one = Model(model.net.networks[0], model.card.model_copy(update={"members": 1}))
    save_model(tmp_path / "one.safetensors", one)
    ruinous = QUICK.model_copy(update={"steps": 4, "learning_rate": 0.3})
    finetune(tmp_path / "one.safetensors", lab.volume, lab.labels, tmp_path / "run", settings=ruinous)
    assert load_card(tmp_path / "run").members == 1
    before, after = weights(tmp_path / "one.safetensors"), weights(tmp_path / "run")
    assert all((after[name] == before[name]).all() for name in before)


def test_the_calibration_allows_for_labels_that_are_richer_in_cleft_than_the_volume(lab, tuned, tmp_path, monkeypatch):
    shutil.copytree(tuned, tmp_path / "run")
    shifts = []
    for weight in (1.0, 5.0):
        monkeypatch.setattr("cleftnet.training.fine_tuning_job.background_weight", lambda *_, weight=weight: weight)
        finetune(lab.base, lab.volume, lab.labels, tmp_path / "run", settings=QUICK, resume=True)
        shifts.append(load_card(tmp_path / "run").calibration.shift)
    assert shifts[1] - shifts[0] == pytest.approx(np.log(5))


def test_the_card_tells_the_origin_and_the_scores_of_the_base(lab, tuned):
    card = load_card(tuned)
    assert card.provenance["base"]["model"] == str(lab.base)
    assert card.provenance["base"]["provenance"]["recipe"]["net"]["widths"] == [2, 4]
    assert card.provenance["terms"] == "for tests only"
    assert card.provenance["data"]["volume"].endswith("lab.hdf/volumes/raw")
    assert card.scores["base_f1"] < card.scores["f1"]
    recipe = load_card(tuned / "members/0").provenance["recipe"]
    assert recipe["loss"]["form"] == "as_printed"  # as the base was trained


def test_a_killed_fine_tuning_is_resumed_exactly(lab, tuned, tmp_path):
    out = tmp_path / "run"
    code = f"""
        import torch
        torch.set_num_threads({torch.get_num_threads()})
        from cleftnet.training.fine_tuning import finetune
        from cleftnet.training.fine_tuning_job import FineTuneSettings
        settings = FineTuneSettings(**{QUICK.model_dump()})
        finetune({str(lab.base)!r}, {str(lab.volume)!r}, {str(lab.labels)!r}, {str(out)!r}, settings=settings)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=os.environ)
    states = out / "members/1/states"
    while process.poll() is None and not (states.is_dir() and list(states.glob("step-*"))):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "members/0/finished").exists()
    assert not (out / "best.safetensors").exists()
    finetune(lab.base, lab.volume, lab.labels, out, settings=QUICK, resume=True)
    mine, theirs = weights(out), weights(tuned)
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    assert load_card(out).synapses == load_card(tuned).synapses


def test_resuming_with_other_labels_or_settings_is_refused(lab, tuned):
    with pytest.raises(InputError, match="begun with other settings"):
        finetune(lab.base, lab.volume, lab.labels, tuned, settings=QUICK.changed(seed=1), resume=True)
    with pytest.raises(InputError, match="begun with other labels"):
        finetune(lab.base, lab.volume, lab.volume, tuned, settings=QUICK, resume=True)


def test_an_output_that_exists_is_refused(lab, tuned):
    with pytest.raises(InputError, match="exists already"):
        finetune(lab.base, lab.volume, lab.labels, tuned, settings=QUICK)


def test_the_run_of_a_recipe_is_never_resumed_as_a_fine_tuning(lab, tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(InputError, match="training from a recipe"):
        finetune(lab.base, lab.volume, lab.labels, tmp_path, settings=QUICK, resume=True)


def test_the_command_line_tells_the_time_and_writes_nothing_on_a_dry_run(lab, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["finetune", str(lab.base), str(lab.volume), str(lab.labels), "--out", "run", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "minutes" in out
    assert list(tmp_path.iterdir()) == []


def test_the_terms_of_a_released_model_are_those_of_its_page():
    from cleftnet.training.base_model import terms_of

    assert "CC BY-NC-SA 3.0" in terms_of("vnc-l3", load_card("vnc-l3"))
    kept = load_card("vnc-l3").model_copy(update={"provenance": {"terms": "as the base"}})
    path = Path(cleftnet.__file__).parent / "models/weights/vnc-l3.safetensors"
    assert terms_of(path, kept).startswith("Trained on")  # the page wins for the file itself


def test_networks_lose_their_tissue_outputs_and_nothing_else():
    from cleftnet.training.base_model import without_tissue

    released = load_model("vnc-l3")
    net = released.net.networks[0]
    raw = torch.rand(1, 1, *net.spec.patch)
    with torch.inference_mode():
        assert torch.equal(without_tissue(net, released.card).net.eval()(raw), net(raw))


def test_folds_hold_every_label_once_and_as_many_clefts(lab, tmp_path):
    raw, labels = open_volume(lab.volume), open_volume(lab.labels, default=LABELS)
    folds = LabelFolds.of(raw, labels, (4, 32, 32), 3)
    assert (len(folds), folds.clefts) == (3, 8)
    seen = np.zeros(labels.shape, int)
    for files in folds.write(tmp_path):
        for path in files.validate_on:
            part = open_volume(path, default=LABELS)
            box = part.box.shift([round(o / s) for o, s in zip(part.offset_nm, SIZE_NM, strict=True)])
            seen[box.slices] += is_labelled(part.read())
    assert (seen == is_labelled(labels.read())).all()


def test_far_windows_become_regions_of_their_own(tmp_path):
    ids = np.full((8, 320, 320), INVALID, np.uint64)
    ids[2:6, 4:20, 4:20], ids[3, 8:12, 8:12] = 0, 1
    ids[2:6, 300:316, 300:316], ids[3, 304:308, 304:308] = 0, 2
    raw = Volume(np.zeros(ids.shape, np.uint8), SIZE_NM)
    folds = LabelFolds.of(raw, Volume(ids, SIZE_NM), (8, 64, 64), 2)
    assert [region.ids.shape for region in folds.regions] == [(8, 64, 64), (8, 64, 64)]
    files = folds.write(tmp_path)
    assert [(len(fold.train), len(fold.validate_on)) for fold in files] == [(1, 1), (1, 1)]


def test_one_synapse_is_too_few(tmp_path):
    ids = np.zeros((4, 40, 40), np.uint64)
    ids[1, 4:9, 4:9] = 1
    with pytest.raises(InputError, match="holds 1 synapse; fine-tuning learns from some"):
        LabelFolds.of(Volume(np.zeros(ids.shape, np.uint8), SIZE_NM), Volume(ids, SIZE_NM), (4, 32, 32), 2)


def test_a_review_is_what_finetune_learns_from(lab, tmp_path):
    """The folder of an applied review stands for its labels."""
    folder = tmp_path / "corrected"
    folder.mkdir()
    (folder / "corrected.hdf").symlink_to(lab.labels)
    finetune(lab.base, lab.volume, folder, tmp_path / "run", settings=QUICK.changed(steps=1))
    about = json.loads((tmp_path / "run/finetune.json").read_text())
    assert about["settings"]["steps"] == 1
