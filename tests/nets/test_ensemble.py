"""An ensemble is the mean of its members, whatever is done with it: prediction, files, another patch."""

import numpy as np
import pytest
import torch

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, load_model, save_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.folding import fold
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.zoo import build
from cleftnet.prediction import whole_logits
from cleftnet.training.initial_weights import start_from
from cleftnet.volumes import Volume

TINY = {"widths": (2, 4), "patch": (4, 16, 16)}


def trained(number, name="cleftnet"):
    """A network with its own weights and batch-norm statistics."""
    torch.manual_seed(number)
    net = build(name, **TINY)
    for _ in range(3):
        net(torch.rand(2, 1, 4, 16, 16))
    return net.eval()


@pytest.fixture
def ensemble():
    return Ensemble([trained(number) for number in range(3)]).eval()


@pytest.fixture
def raw():
    return Volume(np.random.default_rng(0).integers(0, 255, (6, 40, 24), np.uint8), (40, 4, 4))


def test_a_prediction_is_the_mean_of_the_predictions_of_the_members(ensemble, raw):
    apart = [whole_logits(member, raw) for member in ensemble.networks]
    assert np.allclose(whole_logits(ensemble, raw), np.mean(apart, axis=0), atol=1e-5)


def test_an_ensemble_is_one_file_and_comes_back_from_it(ensemble, raw, tmp_path):
    save_model(tmp_path / "three.safetensors", Model(ensemble, ModelCard(spec=ensemble.spec, members=3)))
    loaded = load_model(tmp_path / "three.safetensors")
    assert loaded.card.members == 3
    assert np.array_equal(whole_logits(loaded.net, raw), whole_logits(ensemble.channels_last(), raw))


def test_folding_and_another_patch_apply_to_every_member(ensemble):
    x, larger = torch.rand(1, 1, 4, 16, 16), torch.rand(1, 1, 4, 24, 24)
    assert torch.allclose(fold(ensemble)(x), ensemble(x), atol=1e-5)
    resized = resize_network(ensemble, (4, 24, 24))
    apart = [resize_network(member, (4, 24, 24))(larger) for member in ensemble.networks]
    assert torch.allclose(resized(larger), sum(apart) / 3, atol=1e-6)


def test_a_file_with_fewer_members_than_its_card_says_is_refused(ensemble, tmp_path):
    save_model(tmp_path / "two.safetensors", Model(ensemble, ModelCard(spec=ensemble.spec, members=4)))
    with pytest.raises(InputError, match="card and weights do not fit"):
        load_model(tmp_path / "two.safetensors")


def test_a_training_starts_from_the_first_member(ensemble, tmp_path):
    save_model(tmp_path / "three.safetensors", Model(ensemble, ModelCard(spec=ensemble.spec, members=3)))
    net = build("cleftnet", **TINY)
    start_from(net, tmp_path / "three.safetensors")
    assert torch.equal(net.head.weight, ensemble.networks[0].head.weight)


@pytest.mark.parametrize("members", [1, 2], ids=["one", "two kinds"])
def test_one_network_or_networks_of_two_kinds_are_no_ensemble(members):
    with pytest.raises(InputError, match="two networks or more"):
        Ensemble([trained(0), trained(1, "resunet")][:members])
