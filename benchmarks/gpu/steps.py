"""A training step of a network on random patches: to time it, or to let the GPU choose its kernels beforehand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.session import Session
from cleftnet.nets.kernels import fast_kernels
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.training.distributed import HardwareSettings, make_fabric
from cleftnet.training.loop import learn
from cleftnet.training.losses import LossSettings
from cleftnet.training.schedule import TrainingSettings, initial_state

GIB = 2**30


def training_step(session: Session, net: NetSpec, batch: int) -> Callable[[], object]:
    """Return a function that takes one step: forward, loss, backward, optimizer."""
    device = session.device
    settings = TrainingSettings(steps=1, batch=batch, precision="bf16-mixed" if device.type == "cuda" else 32)
    fabric = make_fabric(HardwareSettings(accelerator=device.type), settings.precision)
    torch.manual_seed(0)
    state = initial_state(Network(net).channels_last().to(device).train(), settings)
    model, optimizer = fabric.setup(state.net, state.optimizer)
    raw = torch.rand(batch, 1, *net.patch, device=device)
    classes = (torch.rand(batch, *net.patch, device=device) < 0.01).to(torch.uint8)
    parts = [(raw, classes, classes * 0.76, torch.full_like(classes, 255))]  # the last: no other tissue is known
    return lambda: learn(fabric, model, optimizer, parts, LossSettings(), None, net.tissue_classes)


def timed(session: Session, do: Callable[[], object]) -> dict[str, Any]:
    """Return the median seconds of a function after two calls, and the largest memory of the GPU during them."""
    cuda, seconds = session.device.type == "cuda", []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with fast_kernels(session.device):
        for _ in range(2 + session.sizes.steps):
            start = time.perf_counter()
            do()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    peak = round(torch.cuda.max_memory_allocated() / GIB, 2) if cuda else None
    return {"seconds": statistics.median(seconds[2:]), "first_seconds": seconds[0], "peak_gib": peak}
