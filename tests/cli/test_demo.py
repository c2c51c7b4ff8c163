"""The demo on a smaller volume with hardly any training: what it does with each part, and what it leaves."""

import json

import numpy as np
import pytest

from cleftnet.cli import demo
from cleftnet.errors import InputError
from cleftnet.training.recipe import Recipe, dump
from cleftnet.volumes import LABELS, open_volume


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished demo of two steps; y 224:336 of 16×336×128 voxels is held out."""
    honest = demo.demo_recipe

    def small(volume, seed):
        recipe = dump(honest(volume, seed))
        recipe["net"] |= {"patch": [8, 32, 32], "widths": [4, 8]}
        recipe["training"] |= {"steps": 2, "batch": 1, "validate_every": 2, "validation_overlap": 0}
        return Recipe(**recipe)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SHAPE": (16, 336, 128),
            "TRAIN": (0, 128),
            "VALIDATE": (128, 224),
            "HELD_OUT": (224, 336),
            "demo_recipe": small,
        }.items():
            patch.setattr(demo, name, value)
        return demo.run_demo(tmp_path_factory.mktemp("demo") / "out")


def test_the_held_out_part_alone_is_predicted_and_scored(done):
    prediction = open_volume(done.directory / "prediction.hdf/volumes/probability")
    assert prediction.shape == (16, 112, 128)
    assert prediction.offset_nm == (0, 224 * 4, 0)
    assert json.loads((done.directory / "scores.json").read_text())["voxels_scored"] == prediction.box.voxels


def test_true_synapses_are_counted_in_the_held_out_part(done):
    labels = open_volume(done.directory / "volume.hdf", default=LABELS)[:, 224:336]
    assert done.true_synapses == len(set(np.unique(labels).tolist()) - {0, 2**64 - 1}) > 0


def test_everything_is_left_in_the_folder(done):
    for name in ("volume.hdf", "run/best.safetensors", "synapses/synapses.csv", "synapses/labels.zarr", "report.html"):
        assert (done.directory / name).exists()
    assert done.page == done.directory / "report.html"


def test_an_earlier_demo_is_not_overwritten(done):
    with pytest.raises(InputError, match="exists already"):
        demo.run_demo(done.directory)
