"""The way of a notebook: arrays in, results in memory, nothing written and nothing printed."""

import logging

import numpy as np
import pandas as pd
import torch

import cleftnet
from cleftnet.models.checkpoint import save_model


def test_from_an_array_to_synapses_and_scores_in_memory(model, synthetic, tmp_path, monkeypatch, capfd, caplog):
    save_model(tmp_path / "model.safetensors", model)
    raw, truth = np.asarray(synthetic.raw), np.asarray(synthetic.labels)
    threads = torch.get_num_threads()
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    caplog.set_level(logging.WARNING)

    probability = cleftnet.predict(tmp_path / "model.safetensors", raw, voxel_size_nm=(40, 4, 4))
    threshold = np.quantile(probability, 0.9) / 255  # the model is untrained: a tenth of the voxels
    found = cleftnet.find_synapses(probability, settings=cleftnet.SynapseSettings(threshold=threshold))
    scores = cleftnet.evaluate(probability, truth, voxel_size_nm=(40, 4, 4))

    assert isinstance(probability, cleftnet.Volume)
    assert (probability.shape, probability.voxel_size_nm) == (raw.shape, (40, 4, 4))
    assert isinstance(found.table, pd.DataFrame)
    assert {"synapse_id", "z_nm", "y_nm", "x_nm", "volume_nm3", "score"} <= set(found.table.columns)
    assert found.table["synapse_id"].tolist() == np.unique(found.labels)[1:].tolist()  # but for the background
    assert 0 <= scores.auc <= 1
    assert list(empty.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
