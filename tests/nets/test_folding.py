import pytest
import torch
from torch import nn

from cleftnet.nets.attention import FeatureAugmentor
from cleftnet.nets.folding import FoldedAugmentor, fold
from cleftnet.nets.zoo import ZOO, build

AUGMENTED = [name for name, row in ZOO.items() if row.bottom == "fa"]


def lightly_trained(name, **changes):
    """A network whose biases, norms and queries are not what they start with: a fold that ignores one of them shows."""
    torch.manual_seed(0)
    net = build(name, **{"widths": (4, 6, 8), "patch": (4, 16, 16)} | changes)
    for path, parameter in net.named_parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
        if path.endswith("query"):
            parameter.data *= 100
    net(torch.rand(2, 1, *net.spec.patch))  # running statistics of the norms
    return net.eval()


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("max_keys", [None, 16])
def test_a_folded_network_gives_the_same_output_to_float_rounding(name, max_keys):
    net, x = lightly_trained(name, max_keys=max_keys), torch.rand(2, 1, 4, 16, 16)
    expected = net(x)
    assert ((fold(net)(x) - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("channels", [{}, {"key_channels": 3, "value_channels": 7}, {"scale": 0.5}], ids=str)
def test_a_folded_augmentor_is_the_augmentor_in_float64(channels):
    torch.manual_seed(0)
    fa = FeatureAugmentor(4, (2, 8, 8), (1, 4, 4), **channels).double()
    fa.query.data *= 100
    x = torch.randn(2, 4, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(FoldedAugmentor(fa).double()(x), fa(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTED)
def test_folding_leaves_no_augmentor_and_no_batch_norm(name):
    left = {type(module) for module in fold(lightly_trained(name)).modules()}
    assert not left & {FeatureAugmentor, nn.BatchNorm3d}
    assert FoldedAugmentor in left


def test_folding_leaves_the_network_itself_alone():
    net = lightly_trained("cleftnet").train()
    before = {path: weight.clone() for path, weight in net.state_dict().items()}
    folded = fold(net)
    assert net.training
    assert not folded.training
    assert all(torch.equal(before[path], weight) for path, weight in net.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())


def test_the_key_bias_has_no_say():
    net = lightly_trained("cleftnet")
    x, before = torch.rand(1, 1, 4, 16, 16), fold(net)
    net.bottom.key.bias.data += 5
    torch.testing.assert_close(fold(net)(x), before(x), rtol=0, atol=0)
