"""Runs a training in one process or several, on CPUs or GPUs, with the same result up to rounding.

Lightning Fabric starts the processes and averages their gradients (DDP). Two more things depend on the whole batch: the
statistics of batch norm (this module), and the class shares in the losses (`losses.ClassCounts`). Clusters preempt a job
by SIGTERM; all processes agree at which step they stop.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from pydantic import Field
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from cleftnet.errors import InputError, TrainingInterrupted
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.prediction import best_device
from cleftnet.progress import same_display
from cleftnet.settings import Settings

T = TypeVar("T")

EARLY = "SIGTERM ended the training before its first step"
Precision = Literal[32, "bf16-mixed", "16-mixed"]
WAIT = timedelta(hours=6)  # processes wait for the first one, which validates alone


class HardwareSettings(Settings):
    """Processes and devices of a training; the batch is split over the processes, so these do not change the result.

    Attributes:
        accelerator: `cpu`, `cuda`, or `auto`, which uses GPUs where there are any.
        devices: Number of GPUs, or of processes on CPUs, on each machine; `auto` uses all GPUs.
        nodes: Number of machines.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    nodes: int = Field(1, ge=1)


def make_fabric(hardware: HardwareSettings, precision: Precision = 32) -> Fabric:
    """Return the Fabric of a training, which starts the processes unless `torchrun` or `srun` has started them.

    Raises:
        InputError: when the machine has no such devices, or they do not support the precision.

    Example:
        >>> make_fabric(HardwareSettings(accelerator="cpu")).world_size
        1
    """
    processes, started = number_of_processes(hardware), _started_from_outside()
    if started not in (None, processes):
        raise InputError(
            f"{started} processes were started, but {_in_words(hardware)} are {processes}; set hardware.devices (of each "
            f"machine) and hardware.nodes to what torchrun or srun starts"
        )
    if _accelerator(hardware) == "cpu" and precision != 32:
        raise InputError(
            f"training.precision {precision} is for GPUs: on CPUs its gradients are wrong (docs/log.md); set "
            f"training.precision=32"
        )
    ddp = DDPStrategy(start_method="spawn" if started is None else "popen", timeout=WAIT)
    try:
        return Fabric(
            accelerator=_accelerator(hardware),
            devices=processes // hardware.nodes,
            num_nodes=hardware.nodes,
            strategy=ddp if processes > 1 else "auto",
            precision=precision,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"cannot train on {_in_words(hardware)}: {' '.join(str(error).split())}") from None


def _accelerator(hardware: HardwareSettings) -> str:
    """Return the accelerator, with `auto` resolved for this machine."""
    return hardware.accelerator if hardware.accelerator != "auto" else best_device().type


def number_of_processes(hardware: HardwareSettings) -> int:
    """Return the number of processes of a training, on all machines together."""
    gpus = torch.cuda.device_count() if _accelerator(hardware) == "cuda" else 0
    return (max(1, gpus) if hardware.devices == "auto" else hardware.devices) * hardware.nodes


def _started_from_outside() -> int | None:
    """Return the number of processes that torchrun or srun started; None when neither did."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", 1)) if SLURMEnvironment.detect() else None


def _in_words(hardware: HardwareSettings) -> str:
    return f"accelerator {hardware.accelerator}, {hardware.devices} devices, {hardware.nodes} nodes"


def launch(fabric: Fabric, function: Callable[..., T], *arguments: Any) -> T:
    """Run `function(fabric, *arguments)` in every process and return the result of the first process.

    SIGTERM is passed on to the processes that this one started.

    Raises:
        InputError: when a process raised one.
        TrainingInterrupted: when SIGTERM arrived before the processes handled it.
    """
    packed: Any = functools.partial(_packed, same_display())
    with _passing_on_sigterm() as termination:
        try:
            return cast(_Parcel[T], fabric.launch(packed, function, *arguments)).content
        except ProcessExitedException:
            if termination.received:
                raise TrainingInterrupted(EARLY) from None
            raise
        except ProcessRaisedException as error:  # carries the traceback of the other process as text
            found = re.search(r"^cleftnet\.errors\.InputError: (.*)", str(error), re.MULTILINE)
            if found is None:
                raise
            raise InputError(found[1]) from error


class _Parcel(Generic[T]):
    """Wraps a result that leaves another process, so that Fabric does not search it for tensors."""

    def __init__(self, content: T) -> None:
        self.content = content


def _packed(set_up: Callable[[], None], fabric: Fabric, function: Callable[..., T], *arguments: Any) -> _Parcel[T]:
    set_up()
    if multiprocessing.parent_process() is not None:  # started by `launch`, for this training alone
        keep_freed_memory()
    result = function(fabric, *arguments)
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        fabric.barrier()
        torch.distributed.destroy_process_group()  # else threads that still listen may abort the process at exit
    return _Parcel(result)


class WorkInterrupted(Exception):  # noqa: N818 (an interruption, not an error)
    """Raised by SIGTERM in the middle of work that may be left, such as a validation."""


class Termination:
    """Records whether this process received SIGTERM."""

    def __init__(self) -> None:
        self.received = False
        self.interrupts = False

    def notice(self) -> None:
        """Record SIGTERM, and end the work that it may interrupt.

        Raises:
            WorkInterrupted: within `interrupting`.
        """
        self.received = True
        if self.interrupts:
            raise WorkInterrupted

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let SIGTERM end the body by `WorkInterrupted`; the body must leave nothing half-done.

        Raises:
            WorkInterrupted: when SIGTERM comes in the body, or came before it.
        """
        self.interrupts = True
        try:
            if self.received:
                raise WorkInterrupted
            yield
        finally:
            self.interrupts = False

    def requested(self, fabric: Fabric) -> bool:
        """Return whether any process received SIGTERM; the result is the same in all processes."""
        if fabric.world_size == 1:
            return self.received
        return bool(fabric.all_reduce(torch.tensor(float(self.received), device=fabric.device), reduce_op="sum"))


@contextmanager
def noticing_sigterm() -> Iterator[Termination]:
    """Record SIGTERM instead of ending the process, while the body runs."""
    termination = Termination()
    with _handling_sigterm(lambda *_: termination.notice()):
        yield termination


@contextmanager
def _passing_on_sigterm() -> Iterator[Termination]:
    """Pass SIGTERM on to the processes that this one started, while the body runs; without any, end the training."""
    termination = Termination()

    def pass_on(*_: object) -> None:
        termination.received = True
        started = [process.pid for process in multiprocessing.active_children()]
        if not started:
            raise TrainingInterrupted(EARLY)
        for number in started:
            os.kill(cast(int, number), signal.SIGTERM)

    with _handling_sigterm(pass_on):
        yield termination


@contextmanager
def _handling_sigterm(handler: Callable[..., None]) -> Iterator[None]:
    """Handle SIGTERM while the body runs; Python handles signals only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def synchronize_batch_norm(net: nn.Module, fabric: Fabric) -> None:
    """Make batch norm use statistics over all processes; a single process needs no change."""
    if fabric.world_size == 1:
        return
    if fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # untyped in torch
        return
    for module in net.modules():
        if type(module) is nn.BatchNorm3d:
            module.__class__ = SynchronizedBatchNorm  # same parameters and buffers; PyTorch's own is for GPUs only


class SynchronizedBatchNorm(nn.BatchNorm3d):
    """Batch norm over the batch of all processes, for CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, `b c z y x`."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        voxels = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        mean = _sum(x.sum((0, 2, 3, 4))) / voxels
        centered = x - mean.view(1, -1, 1, 1, 1)
        variance = _sum(centered.square().sum((0, 2, 3, 4))) / voxels
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            weight = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum  # None: a plain mean
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance * voxels / max(1, voxels - 1), weight)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(1, -1, 1, 1, 1), centered, scale.view(1, -1, 1, 1, 1))


def _sum(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; gradients pass through it."""
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]  # untyped in torch


class _Sum(torch.autograd.Function):
    """Sum over all processes whose gradient is the sum of their gradients (docs/decisions/0003-libraries.md)."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def keep_random_state(fabric: Fabric) -> AbstractContextManager[None]:
    """Restore the global random state of PyTorch after the body."""
    return torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else [])


def by_the_first(fabric: Fabric, do: Callable[[], T]) -> T:
    """Call a function in the first process only; all processes return its result or raise its `InputError`."""
    outcome: T | InputError | None = None
    if fabric.is_global_zero:
        try:
            outcome = do()
        except InputError as error:  # raised after the broadcast, for which the other processes wait
            outcome = error
    outcome = fabric.broadcast(outcome)
    if isinstance(outcome, InputError):
        raise outcome
    return cast(T, outcome)
