import pytest
import torch
from torch import nn

from cleftnet.nets.zoo import build
from cleftnet.prediction.onednn import through_onednn


def test_a_network_gives_the_same_logits_up_to_rounding_and_its_layers_are_restored():
    torch.manual_seed(0)
    net, x = build("cleftnet", widths=(4, 8), patch=(4, 16, 16)).eval(), torch.rand(1, 1, 4, 16, 16)
    with torch.inference_mode():
        expected = net(x)
        with through_onednn(net):
            found = net(x)
        again = net(x)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(again, expected)
    assert not any("forward" in vars(module) for module in net.modules())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_single_patches_really_go_through_onednn():
    conv, x = nn.Conv3d(8, 8, 3, padding=1), torch.rand(1, 8, 2, 8, 8)
    called = []
    with torch.inference_mode(), through_onednn(conv), torch.profiler.profile() as profile:
        conv(x)
    called = [event.key for event in profile.key_averages()]
    assert any("mkldnn_convolution" in name for name in called)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(threads):
    torch.manual_seed(0)
    net, x = build("resunet", widths=(8, 16), patch=(8, 64, 64)).eval(), torch.rand(1, 1, 8, 64, 64)
    before = torch.get_num_threads()
    try:
        with torch.inference_mode(), through_onednn(net):
            torch.set_num_threads(3 - threads)
            expected = net(x)
            torch.set_num_threads(threads)
            assert torch.equal(net(x), expected)
    finally:
        torch.set_num_threads(before)
