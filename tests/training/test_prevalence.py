"""How much richer in cleft labels are than the volume they lie in, by what a model predicts."""

import numpy as np
import pytest

from cleftnet.metrics.calibration import Calibration
from cleftnet.training.prevalence import SAMPLES, background_weight, sampled_logits
from cleftnet.volumes import Volume


def logits_of(probability, voxels=1000):
    return np.full(voxels, np.log(probability / (1 - probability)), np.float32)


def test_the_weight_is_the_ratio_of_the_odds_in_labels_and_volume():
    weight = background_weight([logits_of(0.2)], [np.ones(1000, bool)], Calibration(), [logits_of(0.01)])
    assert weight == pytest.approx((0.2 / 0.8) / (0.01 / 0.99), rel=1e-3)


def test_unlabeled_voxels_of_a_region_do_not_count():
    region, known = np.concatenate([logits_of(0.2), logits_of(0.9)]), np.repeat([True, False], 1000)
    assert background_weight([region], [known], Calibration(), [logits_of(0.2)]) == pytest.approx(1)


def test_a_model_that_sees_nothing_leaves_everything_as_it_is_or_is_bounded():
    nothing, everything = np.full(10, -np.inf), np.full(10, np.inf)
    known = [np.ones(10, bool)]
    assert background_weight([nothing], known, Calibration(), [nothing]) == 1
    assert background_weight([everything], known, Calibration(), [logits_of(0.01)]) == 100


def test_the_sample_is_drawn_from_the_whole_volume_by_all_networks(monkeypatch):
    seen = []

    def whole_logits(net, raw, overlap):
        seen.append((net, raw.offset_nm, raw.shape))
        return np.zeros((1, *raw.shape), np.float32)

    monkeypatch.setattr("cleftnet.training.prevalence.whole_logits", whole_logits)
    volume = Volume(np.zeros((9, 64, 96), np.uint8), (1.0, 1.0, 1.0))
    found = sampled_logits(["a", "b"], volume, (4, 16, 16), seed=0)
    assert len(found) == SAMPLES
    assert {shape for _, _, shape in seen} == {(4, 16, 16)}
    assert [net for net, _, _ in seen[:4]] == ["a", "b", "a", "b"]
    starts = np.array([place for _, place, _ in seen])
    assert (starts.max(0) - starts.min(0) >= (5, 30, 50)).all()
    assert (starts.max(0) <= (5, 48, 80)).all()
