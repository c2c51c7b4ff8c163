"""Interpolation and means along axes against PyTorch's own kernels, which a GPU does not use."""

import pytest
import torch
import torch.nn.functional as functional

from cleftnet.nets.axes import _along_axes, interpolate, interpolation_matrix, mean_over_cells
from cleftnet.nets.zoo import build

SIZES = [
    ((2, 3, 4), (4, 6, 8)),
    ((1, 4, 4), (8, 9, 33)),
    ((3, 5, 7), (3, 11, 7)),
    ((1, 1, 1), (4, 5, 6)),
    ((2, 1, 3), (2, 4, 3)),
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_both_ways_to_interpolate_give_values_and_gradients_of_pytorch(old, new, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *old, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(2, 3, *new, dtype=torch.float64)
    theirs = functional.interpolate(x, size=new, mode="trilinear", align_corners=False)
    (gradient,) = torch.autograd.grad((theirs * weights).sum(), x)
    for ours in (interpolate(x, new), _along_axes(x, new, interpolation_matrix)):  # on a CPU, on a GPU
        assert torch.allclose(ours, theirs, atol=1e-6)
        (found,) = torch.autograd.grad((ours * weights).sum(), x)
        assert torch.allclose(found, gradient, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [((4, 6, 8), (2, 3, 8)), ((8, 9, 33), (1, 3, 11)), ((3, 3, 3), (3, 3, 3))])
def test_means_over_cells_of_one_size_are_those_of_pytorch(old, new):
    x = torch.randn(2, 3, *old)
    assert torch.allclose(mean_over_cells(x, new), functional.adaptive_avg_pool3d(x, new), atol=1e-6)


def test_a_last_cell_that_is_smaller_is_the_mean_of_its_own_voxels():
    x = torch.arange(5.0).view(1, 1, 1, 1, 5)
    assert mean_over_cells(x, (1, 1, 2)).flatten().tolist() == pytest.approx([1.0, 3.5])


def test_the_first_convolution_of_a_network_returns_channels_last():
    """Else a GPU normalizes the largest features of all in a layout for which its kernels take seven times as long."""
    layouts = []
    net = build("resunet", widths=(4, 8), patch=(2, 8, 8)).channels_last()
    first = net.encoder[0][0][0]
    first.register_forward_hook(lambda *_: layouts.append(_[2].is_contiguous(memory_format=torch.channels_last_3d)))
    net(torch.rand(2, 1, 2, 8, 8))
    assert layouts == [True]


def test_an_export_keeps_any_batch_size_where_keys_are_means():
    net = build("cleftnet", widths=(4, 8), patch=(2, 8, 8), max_keys=16).eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(net, (torch.rand(2, 1, 2, 8, 8),), dynamic_shapes=(batch,))
    x = torch.rand(3, 1, 2, 8, 8)
    torch.testing.assert_close(exported.module()(x), net(x))
