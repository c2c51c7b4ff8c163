"""Trainings on a GPU: every precision with clipping and averaging, and resume."""

import csv

import pytest

import cleftnet
from cleftnet.training.recipe import Recipe
from cleftnet.volumes import write_cremi

pytestmark = pytest.mark.gpu


def recipe(folder, accelerator, steps, precision=32):
    file = folder / "volume.hdf"
    if not file.exists():
        synthetic = cleftnet.synthetic_volume((16, 96, 96), seed=0)
        write_cremi(file, raw=synthetic.raw, clefts=synthetic.labels)
    return Recipe(
        net={"name": "cleftnet", "patch": (8, 32, 32), "widths": (4, 8)},
        data={
            "train": [{"raw": str(file), "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": str(file), "roi": "0:16,64:96,0:96"}],
        },
        sampling={"min_cleft_voxels": 20},
        training={
            "steps": steps,
            "batch": 4,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "ema": 0.9,
            "precision": precision,
            "validate_every": 100,
            "save_every": 2,
        },
        hardware={"accelerator": accelerator},
    )


def losses(run):
    with (run / "losses.csv").open() as file:
        return [float(row["loss_total"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("precision", [32, "bf16-mixed", "16-mixed"])
def test_a_training_in_every_precision_gives_a_usable_model(precision, device, tmp_path):
    if device.type == "cpu" and precision != 32:
        pytest.skip("refused on CPUs")
    run = cleftnet.train(recipe(tmp_path, device.type, 3, precision), tmp_path / "run")
    assert run.scores.threshold is not None
    assert len(losses(run.directory)) == 3


def test_a_resumed_training_goes_on_as_if_it_had_not_been_interrupted(device, tmp_path, record_property):
    """Up to rounding, which some kernels of a GPU do differently in every run."""
    whole = cleftnet.train(recipe(tmp_path, device.type, 4), tmp_path / "whole")
    cleftnet.train(recipe(tmp_path, device.type, 2), tmp_path / "parts")
    parts = cleftnet.train(recipe(tmp_path, device.type, 4), tmp_path / "parts", resume=True)
    expected, found = losses(whole.directory), losses(parts.directory)
    record_property(
        "largest relative distance of a loss", max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    )
    assert found == pytest.approx(expected, rel=1e-2)
