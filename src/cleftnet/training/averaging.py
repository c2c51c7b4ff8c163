"""Averages the weights of a training over its steps, and measures batch-norm statistics that belong to the average."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn

from cleftnet.nets.skeleton import Network

BATCHES = 32  # the last ones of a training, on which batch-norm statistics are measured


def averaged_model(net: Network, decay: float) -> AveragedModel:
    """Return the exponential moving average of a network's weights, before the first step.

    After n updates with weights w₁ … wₙ it holds Σ decayⁿ⁻ⁱ wᵢ / Σ decayⁿ⁻ⁱ. Without the divisor the first weights would
    weigh decayⁿ⁻¹: 61 % after 500 steps at 0.999. Kingma & Ba (2015, section 3) correct the moments of Adam in the same way.

    Args:
        net: The network on its device.
        decay: 0 to below 1; with 0 the average equals the last weights.
    """
    return AveragedModel(net, multi_avg_fn=_unbiased(decay), use_buffers=False)


def _unbiased(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return the update of an average that is unbiased from the first step on."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        weight = (1 - decay) / (1 - decay ** (int(updates) + 1))
        torch._foreach_lerp_(list(averaged), list(current), weight)

    return update


def measure_statistics(net: Network, batches: Iterable[Tensor]) -> None:
    """Measure the batch-norm statistics of a network anew, as means over batches.

    The running statistics of a training belong to its own weights, and averages of them to no network at all, so an average
    of weights needs statistics of its own (Izmailov et al. 2018, section 3.3).

    Args:
        net: The network, changed in place; it stays on its device and in its mode.
        batches: Raw `b 1 z y x`; several processes hand over the parts of the same batches.
    """
    device = next(net.parameters()).device
    update_bn((raw.to(device).contiguous(memory_format=torch.channels_last_3d) for raw in batches), net)
