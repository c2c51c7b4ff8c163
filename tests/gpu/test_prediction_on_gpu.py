"""Prediction on a GPU against the CPU, in batches against one by one, and by two processes on one GPU."""

import numpy as np
import pytest
import torch

from cleftnet.blockwise import ExecutionSettings
from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, predict, tiles
from cleftnet.volumes import Volume

pytestmark = pytest.mark.gpu
FLOAT32, BF16 = 1e-3, 3e-2  # allowed distance of a probability


@pytest.fixture(scope="module")
def raw():
    return Volume(np.random.default_rng(0).integers(0, 256, (12, 70, 61), np.uint8), (40, 4, 4))


def predicted(device, raw, out=None, execution=None, **how):
    torch.manual_seed(0)
    net = build("cleftnet", widths=(8, 16), patch=(8, 32, 32)).eval().to(device)
    model = Model(net, ModelCard(spec=net.spec))
    settings = PredictionSettings(dtype="float32", **how)
    return predict(model, raw, out, settings=settings, execution=execution or ExecutionSettings()).read()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", FLOAT32), ("bf16", BF16)])
def test_a_gpu_predicts_what_the_cpu_predicts(precision, tolerance, device, raw, record_property):
    found = predicted(device, raw, precision=precision)
    distance = np.abs(found - predicted("cpu", raw, precision="float32")).max()
    record_property("largest distance of a probability", float(distance))
    assert distance < tolerance


def test_batches_on_a_gpu_give_what_single_tiles_give(device, raw, monkeypatch, record_property):
    monkeypatch.setattr(tiles.TileNetwork, "batch", 16)
    batches = predicted(device, raw, precision="float32")
    monkeypatch.setattr(tiles.TileNetwork, "batch", 1)
    distance = np.abs(batches - predicted(device, raw, precision="float32")).max()
    record_property("largest distance of a probability", float(distance))
    assert distance < FLOAT32


def test_two_processes_on_one_gpu_predict_what_one_predicts(gpu, raw, tmp_path):
    two = predicted(gpu, raw, tmp_path / "two.zarr", ExecutionSettings(workers=2, block=(16, 64, 64)))
    assert np.abs(two - predicted(gpu, raw)).max() < BF16
