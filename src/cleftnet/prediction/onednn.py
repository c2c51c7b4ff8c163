"""Convolutions of one patch through oneDNN on the CPU, which PyTorch keeps for larger inputs.

PyTorch 2.13 takes oneDNN for a single float32 sample only when channels × depth × height exceed 20,480. Patches of this
field are long in x and stay below; PyTorch's own loops, which they get, reach a tenth of the speed (docs/log.md). The result
is the same but for rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def through_onednn(net: nn.Module) -> Iterator[None]:
    """Send a network's 3-D convolutions in float32 on the CPU through oneDNN while the body runs; all others go as ever.

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
            del module.forward  # the class's own comes back


def _is_plain(module: nn.Conv3d) -> bool:
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # untyped in torch
    return there and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _convolve(module: nn.Conv3d, x: Tensor) -> Tensor:
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return nn.Conv3d.forward(module, x)
    assert not isinstance(module.padding, str)
    return torch.mkldnn_convolution(
        x, module.weight, module.bias, module.padding, module.stride, module.dilation, module.groups
    )
