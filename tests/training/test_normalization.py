"""Normalization of gray values belongs to the model: training, validation and prediction see the same."""

import numpy as np
import pytest
import yaml

from cleftnet.models.checkpoint import load_model
from cleftnet.prediction import PredictionSettings, predict, to_uint8, whole_logits
from cleftnet.training.data import as_seen, open_data, open_region
from cleftnet.training.recipe import load_recipe
from cleftnet.training.runs import train
from cleftnet.volumes import NormalizationSettings, Volume, write_cremi, write_volume


@pytest.fixture
def narrow(synthetic, tmp_path):
    """A recipe on a uint16 volume that uses 3 % of its range."""
    write_cremi(tmp_path / "labels.hdf", clefts=synthetic.labels)
    raw = Volume(synthetic.raw.read().astype(np.uint16) * 8 + 20000, synthetic.raw.voxel_size)
    write_volume(raw, tmp_path / "raw.zarr")
    volume = {"raw": str(tmp_path / "raw.zarr"), "labels": str(tmp_path / "labels.hdf"), "roi": "0:16,0:64,0:64"}
    content = {
        "net": {"name": "unet3d", "widths": [2, 4], "patch": [4, 32, 32]},
        "data": {"train": [volume], "validate": [volume], "normalize": {"percentiles": [1, 99]}},
        "sampling": {"min_cleft_voxels": 1},
        "training": {"steps": 2, "batch": 2, "validate_every": 2},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    return load_recipe(tmp_path / "recipe.yaml")


def test_patches_span_the_range_where_the_volume_does_not(narrow):
    raw, *_ = open_data(narrow).patches[0]
    assert raw.min() < 0.2
    assert raw.max() > 0.8
    plain = narrow.changed(data=narrow.data.changed(normalize=None))
    raw, *_ = open_data(plain).patches[0]
    assert raw.max() - raw.min() < 0.04


def test_a_trained_model_normalizes_what_it_predicts_as_its_validation_did(narrow, tmp_path):
    model = load_model(train(narrow, tmp_path / "run").best)
    assert model.card.normalize == NormalizationSettings(percentiles=(1, 99))
    (volume,) = narrow.data.validate_on
    region = open_region(volume)
    found = predict(model, region.raw, settings=PredictionSettings(overlap=narrow.training.validation_overlap))
    validated = whole_logits(model.net, as_seen(region, narrow).raw, overlap=narrow.training.validation_overlap)
    assert np.abs(found.read().astype(int) - to_uint8(model.probability(validated))).max() <= 1
    assert found.provenance["gray_percentiles"] == [1, 99]


def test_the_papers_recipes_take_the_whole_range():
    assert load_recipe("cremi").data.normalize is None
