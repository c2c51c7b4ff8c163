"""Runs the convolutions of single patches through oneDNN on the CPU, which PyTorch reserves for larger inputs.

PyTorch 2.13 uses oneDNN for a single float32 sample only if channels × depth × height exceed 20,480. Patches of electron
microscopy are long in x and stay below, and PyTorch's own loops reach a tenth of the speed (docs/log.md). The results differ
by rounding only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def through_onednn(net: nn.Module) -> Iterator[None]:
    """Run the 3-D float32 convolutions of a network on the CPU through oneDNN while the body runs; others are unchanged.

    Example:
        >>> net, x = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1)), torch.rand(1, 1, 4, 16, 16)
        >>> expected = net(x)
        >>> with torch.inference_mode(), through_onednn(net):
        ...     bool(torch.allclose(net(x), expected, atol=1e-6))
        True
    """
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv3d) and _is_plain(module)]
    for module in convolutions:
        module.forward = functools.partial(_convolve, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in convolutions:
            del module.forward  # restores the method of the class


def _is_plain(module: nn.Conv3d) -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # untyped in torch
    return available and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _convolve(module: nn.Conv3d, x: Tensor) -> Tensor:
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return nn.Conv3d.forward(module, x)
    assert not isinstance(module.padding, str)
    return torch.mkldnn_convolution(
        x, module.weight, module.bias, module.padding, module.stride, module.dilation, module.groups
    )
