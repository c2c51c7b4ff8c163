"""The benchmark of fine-tuning, rehearsed on a synthetic volume with tiny networks."""

import json

import numpy as np
import pytest

from benchmarks import finetune
from benchmarks.finetune import Experiment, Tissue, corrected, curve
from cleftnet.geometry import Box
from cleftnet.synthetic import SyntheticSettings, synthetic_volume
from cleftnet.training.recipe import Recipe
from cleftnet.volumes import INVALID, Volume, write_cremi

SIZE_NM = (40.0, 4.0, 4.0)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    tissue = SyntheticSettings(synapses_per_um3=40, cell_size_nm=200, cleft_darkness=2.0)
    made = synthetic_volume((8, 192, 192), seed=0, settings=tissue)
    raw, ids = np.asarray(made.raw.read()), np.asarray(made.labels.read())
    write_cremi(tmp_path / "A.hdf", raw=Volume(raw, SIZE_NM), clefts=Volume(ids, SIZE_NM))
    monkeypatch.setattr(finetune, "FOREST_CELL_VOX", (4, 32, 32))
    monkeypatch.setattr(finetune, "ForestSettings", lambda: ForestSettings(trees=2, voxels=1000, sigmas_nm=(10.0,)))
    from cleftnet.comparison.forest import ForestSettings

    recipe = Recipe(
        net={"name": "cleftnet-no-fa", "patch": (4, 32, 32), "widths": (2, 4)},
        data={"train": [{"raw": "replaced"}]},
        training={"steps": 2, "batch": 2, "validate_every": 2, "validation_overlap": 0.0},
    )
    halves = (Box((0, 0, 0), (8, 96, 96)), Box((0, 0, 96), (8, 96, 192)))
    parts = Tissue(str(tmp_path / "A.hdf"), Box((0, 96, 0), (8, 192, 96)), Box((0, 96, 96), (8, 192, 192)), halves)
    return Experiment(tmp_path / "out", parts, recipe, steps=2)


@pytest.mark.slow
def test_every_method_is_scored_once_and_a_second_call_computes_nothing(experiment, monkeypatch):
    rows = curve(experiment, finetune.METHODS, [2], 1)
    assert [row["name"] for row in rows] == ["base", "fine-tuned, 2", "scratch, 2", "forest, 2"]
    assert all(row["true"] > 0 and 0 <= row["f1"] <= row["best_f1"] + 1e-9 for row in rows)
    files = sorted(path.name for path in experiment.out.glob("*.json"))
    assert files == sorted(
        [f"{m}-2-{draw}.json" for m in ("fine-tuned", "scratch", "forest") for draw in (0, 1)]
        + ["base-0-0.json", "base-0-1.json"]
    )
    one = json.loads((experiment.out / "forest-2-0.json").read_text())
    assert set(one) == {
        *("method", "synapses", "draw", "auc", "f1", "best_f1", "object_f1", "true", "found", "matched", "steps"),
        "test",
    }
    monkeypatch.setattr(Experiment, "_predict", lambda *_: 1 / 0)
    assert curve(experiment, finetune.METHODS, [2], 1) == rows


def test_the_base_is_trained_as_the_released_networks_were_without_other_tissue():
    recipe = finetune.released_recipe()
    assert (recipe.net.tissue_classes, recipe.net.pixel_unshuffle, recipe.training.steps) == (0, 4, 1000)


def test_corrected_labels_hold_the_drawn_synapses_and_their_surroundings():
    ids = np.zeros((2, 100, 300), np.uint64)
    ids[0, 40:44, 40:44], ids[0, 40:44, 200:204], ids[0, 40:44, 60:64] = 1, 2, 3
    labels, part = Volume(ids, (50.0, 10.0, 10.0)), Box((0, 0, 0), (2, 100, 150))
    listed = np.zeros(part.shape, np.uint64)
    listed[0, 42:46, 42:46], listed[1, 90:94, 10:14], listed[1, 90:94, 130:134] = 1, 2, 3  # right, wrong, wrong
    made = corrected(labels, part, listed, 1, draw=0)
    (kept,) = np.setdiff1d(np.unique(made), [0, INVALID])
    assert kept in (1, 3)
    assert (made[ids == kept] == kept).all()
    assert (made[(ids != 0) & (ids != kept)] == INVALID).all()
    assert (made[:, :, 150:] == INVALID).all()
    background = [(made[:, :, :150][listed == one] == 0).all() for one in (2, 3)]
    assert sum(background) == 1, "half of the false detections were looked at"
    undecided = [(made[:, :, :150][listed == one] == INVALID).all() for one in (2, 3)]
    assert sum(undecided) == 1
    every = corrected(labels, part, listed, 2, draw=0)
    assert set(np.unique(every)) == {0, 1, 3, INVALID}
    assert (every[:, :, :150][listed > 1] == 0).all()
