"""Lets a GPU try its convolution kernels and keep the fastest, while a training or a prediction runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fast_kernels(device: torch.device, *, exact: bool = False) -> Iterator[None]:
    """Measure the kernels of cuDNN at the first input of every size, and use the fastest, while the body runs.

    PyTorch otherwise takes one by a rule that suits images better than volumes. On a CPU nothing changes.

    Args:
        device: Device that the network runs on.
        exact: Compute float32 convolutions in float32. Otherwise PyTorch's default holds: TF32, which keeps 10 bits of the
            factors and is several times faster.
    """
    if device.type != "cuda":
        yield
        return
    ours = torch.backends.cudnn
    tf32 = ours.allow_tf32 and not exact
    with ours.flags(enabled=True, benchmark=True, deterministic=ours.deterministic, allow_tf32=tf32):
        yield
