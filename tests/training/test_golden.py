"""Seeded trainings give the losses, weights and predictions that were recorded once.

The numbers are the result of `summary` at commit 547ef92 (AVX2, two threads), the last one before the packages were
rearranged. Other kernels change the rounding: with one thread or without AVX (`ATEN_CPU_CAPABILITY=default
ONEDNN_MAX_CPU_ISA=SSE41`), losses differed by at most 1.3e-6 and changes of weights by at most 1.0e-5, relative.
A change by 1 % of the learning rate moves the weights by 1e-2, and one of the smallest loss weight moves the loss by 2e-4.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import cleftnet
from cleftnet.prediction import whole_logits
from cleftnet.volumes import write_cremi

TOLERANCE = 1e-4  # relative
NETS = {"cleftnet": {"max_keys": 64}, "resunet": {}}


def summary(name: str, folder: Path) -> dict[str, list[float]]:
    """Train a tiny network for six steps, predict with it, and return numbers that depend on all that happened."""
    synthetic = cleftnet.synthetic_volume((16, 96, 96), seed=0)
    write_cremi(folder / "volume.hdf", raw=synthetic.raw, clefts=synthetic.labels)
    net = {"name": name, "patch": [8, 32, 32], "widths": [4, 8], **NETS[name]}
    recipe = {
        "seed": 1,
        "net": net,
        "data": {
            "train": [{"raw": str(folder / "volume.hdf"), "roi": "0:16,0:64,0:96"}],
            "validate": [{"raw": str(folder / "volume.hdf"), "roi": "0:16,64:96,0:96"}],
        },
        "sampling": {"min_cleft_voxels": 20},
        "training": {
            "steps": 6,
            "batch": 4,
            "learning_rate": 0.002,
            "schedule": "cosine",
            "warmup_steps": 2,
            "validate_every": 6,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = cleftnet.train(folder / "recipe.yaml", folder / "run")
    with (run.directory / "losses.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    torch.manual_seed(1)
    before = cleftnet.build(**net).state_dict()
    trained = cleftnet.load_model(run.directory / "last.safetensors").net
    after = trained.state_dict()
    kernels = [key for key in before if before[key].dim() > 1]
    logits = whole_logits(trained, synthetic.raw)
    return {
        "learning rate": [row["learning_rate"] for row in rows],
        **{key: [row[key] for row in rows] for key in rows[0] if key.startswith("loss_")},
        "mean of kernels": [float(torch.stack([after[key].mean() for key in kernels]).mean())],
        "mean change of kernels": [float((after[key] - before[key]).abs().mean()) for key in kernels],
        "mean, deviation and maximum of the logits": [
            float(f(head)) for head in logits for f in (np.mean, np.std, np.max)
        ],
    }


@pytest.mark.parametrize("name", NETS)
def test_a_seeded_training_gives_the_recorded_losses_weights_and_logits(name, tmp_path):
    result = summary(name, tmp_path)
    assert not any(result.pop("loss_tissue"))
    assert result.keys() == RECORDED[name].keys()
    for key, recorded in RECORDED[name].items():
        assert result[key] == pytest.approx(recorded, rel=TOLERANCE, abs=1e-9), key


RECORDED = {
    "cleftnet": {
        "learning rate": [0.0006666667, 0.001244017, 0.0015, 0.001, 0.0005, 0.0001339746],
        "loss_total": [0.1511783, 0.1326185, 0.129582, 0.1033091, 0.09605509, 0.09828354],
        "loss_segmentation": [0.01999, 0.02254182, 0.0367601, 0.02610504, 0.02200332, 0.02691395],
        "loss_boundary": [0.007240605, 0.007730967, 0.01123817, 0.006175045, 0.005585146, 0.005064731],
        "loss_coherence": [0.6378398, 0.5310557, 0.4360143, 0.3705826, 0.3562959, 0.3441861],
        "mean of kernels": [-0.005802068],
        "mean change of kernels": [
            0.003085559,
            0.003499241,
            0.003460045,
            0.002480539,
            0.002503556,
            0.00311205,
            0.003235328,
            0.003257611,
            0.003118908,
            0.003516438,
            0.00284345,
            0.003193733,
            0.004343985,
            0.003514471,
            0.002715977,
            0.002707848,
            0.003901654,
            0.003520319,
            0.00368643,
            0.003873851,
            0.003980377,
            0.004289382,
        ],
        "mean, deviation and maximum of the logits": [
            -0.2747433,
            0.03099147,
            -0.1285279,
            0.3393902,
            0.02403017,
            0.4069086,
        ],
    },
    "resunet": {
        "learning rate": [0.0006666667, 0.001244017, 0.0015, 0.001, 0.0005, 0.0001339746],
        "loss_total": [0.02203008, 0.02416373, 0.03647917, 0.021436, 0.0175029, 0.01911685],
        "loss_segmentation": [0.02203008, 0.02416373, 0.03647917, 0.021436, 0.0175029, 0.01911685],
        "loss_boundary": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "loss_coherence": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "mean of kernels": [0.01269694],
        "mean change of kernels": [
            0.002843745,
            0.002746749,
            0.003334973,
            0.002731884,
            0.002766573,
            0.002861135,
            0.002982372,
            0.002921944,
            0.003558808,
            0.003269051,
            0.002153255,
        ],
        "mean, deviation and maximum of the logits": [-0.4543132, 0.04571963, -0.2869456],
    },
}
