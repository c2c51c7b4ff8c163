import shutil
from pathlib import Path

import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.training.dry_run import estimate_training
from cleftnet.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = [
    "net.patch=[8,32,32]",
    "net.widths=[4,8]",
    "net.max_keys=64",
    "training.batch=2",
    "training.loaders=0",
    "training.precision=32",
]


@pytest.fixture
def cremi(cremi_file, tmp_path, monkeypatch):
    """Three synthetic volumes under the names that the CREMI files are downloaded by."""
    (tmp_path / "cremi").mkdir()
    for sample in "ABC":
        shutil.copy(cremi_file, tmp_path / "cremi" / f"sample_{sample}_20160501.hdf")
    monkeypatch.setenv("CLEFTNET_DATA", str(tmp_path))
    return tmp_path


def parts(z):
    """The three volumes, cut down to what the synthetic ones hold."""
    volumes = (f"{{raw: $CLEFTNET_DATA/cremi/sample_{s}_20160501.hdf, roi: '{z},0:96,0:96'}}" for s in "ABC")
    return f"[{', '.join(volumes)}]"


@pytest.mark.parametrize("name", ["cremi.yaml", "cremi-modern.yaml"])
def test_the_cremi_recipes_take_a_step_on_data_of_their_layout_and_write_nothing(name, cremi, monkeypatch):
    monkeypatch.chdir(cremi)
    before = sorted(cremi.rglob("*"))
    changes = [*TINY, f"data.train={parts('0:8')}", f"data.validate={parts('8:16')}"]
    found = estimate_training(RECIPES / name, changes=changes)
    assert sorted(cremi.rglob("*")) == before
    assert found.steps == load_recipe(RECIPES / name).training.steps
    assert found.seconds >= found.steps * found.step_seconds
    assert found.bytes > 2**20
    assert found.patches == 2


def test_minutes_that_end_a_training_before_its_steps_are_told(cremi):
    changes = [*TINY, f"data.train={parts('0:8')}", f"data.validate={parts('8:16')}", "training.minutes=5"]
    assert dict(estimate_training(RECIPES / "cremi.yaml", changes=changes).rows())["total"].endswith(
        ", ended after 5 minutes"
    )


@pytest.mark.parametrize("name", ["cremi.yaml", "cremi-modern.yaml"])
def test_the_cremi_recipes_learn_from_slices_0_to_99_and_validate_on_100_to_124(name):
    data = load_recipe(RECIPES / name).data
    assert [str(Box.parse(v.roi)) for v in data.train] == ["0:100,0:1250,0:1250"] * 3
    assert [str(Box.parse(v.roi)) for v in data.validate_on] == ["100:125,0:1250,0:1250"] * 3
    assert [v.raw[-len("A_20160501.hdf")] for v in data.train] == list("ABC")


def test_the_papers_recipe_is_the_papers():
    recipe = load_recipe(RECIPES / "cremi.yaml")
    training, net = recipe.training, recipe.net
    assert (training.steps, training.batch, training.optimizer, training.learning_rate) == (10**6, 16, "adam", 1e-3)
    assert (training.schedule, training.validate_every, training.ema, training.precision) == ("constant", 100, 0, 32)
    assert (recipe.sampling.min_cleft_voxels, recipe.sampling.reject_probability) == (200, 0.95)
    assert (recipe.augment.rotate, recipe.augment.flip, recipe.augment.grayscale) == (0.5, 0.5, 0.2)
    assert (net.patch, net.widths, net.max_keys) == ((8, 256, 256), (32, 64, 96, 128, 160), None)
    assert (recipe.loss.boundary_weight, recipe.loss.coherence_weight) == (0.5, 0.2)


def test_a_step_that_cannot_fit_into_memory_is_refused_before_it_is_taken(cremi):
    with pytest.raises(InputError, match=r"a step of 10000000 patches needs about .* GiB"):
        estimate_training(RECIPES / "cremi.yaml", changes=[*TINY, "training.batch=10000000"])


def test_an_estimate_takes_the_share_of_one_process(cremi):
    changes = [*TINY, f"data.train={parts('0:8')}", f"data.validate={parts('8:16')}", "hardware.accelerator=cpu"]
    changes += ["training.batch=8", "training.accumulate=2", "hardware.devices=2"]
    found = estimate_training(RECIPES / "cremi.yaml", changes=changes)
    assert (found.patches, found.processes) == (2, 2)
