"""Where a training runs: one process or several, on CPUs or GPUs, with the same result but for rounding.

Lightning Fabric starts the processes and averages their gradients (DDP). Two things of a batch would still differ from one
process and are mended: batch norm takes its statistics over all processes (here), and the shares in the losses are counted
over all of them (`losses.ClassCounts`). A SIGTERM, which is how clusters preempt a job, is noticed and agreed upon here too.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from cleftnet.errors import InputError
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.prediction import best_device
from cleftnet.progress import same_display
from cleftnet.settings import Settings

T = TypeVar("T")

Precision = Literal[32, "bf16-mixed", "16-mixed"]
SIGTERM_EXIT = 143  # 128 + 15, as shells count
WAIT = timedelta(hours=6)  # how long processes wait for the first one, which validates alone


class HardwareSettings(Settings):
    """Where a training runs; the batch is cut into equal parts for the processes, so that none of this changes the result.

    Attributes:
        accelerator: `auto` takes GPUs where there are any.
        devices: GPUs, or processes on CPUs, of each machine; `auto` takes all GPUs.
        nodes: Machines.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    nodes: int = Field(1, ge=1)


def make_fabric(hardware: HardwareSettings, precision: Precision = 32) -> Fabric:
    """Return the Fabric that a training runs on.

    Processes are started by us on one machine; under `torchrun` or `srun`, which several machines need, by them.

    Raises:
        InputError: when the machine has no such devices, or the precision is not for them.

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
            f"training.precision {precision} is for GPUs: on CPUs its gradients are wrong (docs/log.md); add "
            f"--set training.precision=32"
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
    """The accelerator that `auto` means on this machine."""
    return hardware.accelerator if hardware.accelerator != "auto" else best_device().type


def number_of_processes(hardware: HardwareSettings) -> int:
    """Return how many processes a training has, on all machines together."""
    gpus = torch.cuda.device_count() if _accelerator(hardware) == "cuda" else 0
    return (max(1, gpus) if hardware.devices == "auto" else hardware.devices) * hardware.nodes


def _started_from_outside() -> int | None:
    """How many processes torchrun or srun started; None where neither did."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", 1)) if SLURMEnvironment.detect() else None


def _in_words(hardware: HardwareSettings) -> str:
    return f"accelerator {hardware.accelerator}, {hardware.devices} devices, {hardware.nodes} nodes"


def launch(fabric: Fabric, function: Callable[..., T], *arguments: Any) -> T:
    """Run `function(fabric, *arguments)` in every process and return what the first one returned.

    A SIGTERM is passed on to the processes that this one started.

    Raises:
        InputError: when a process raised one.
        SystemExit: with code 143 when a SIGTERM came before they could notice it.
    """
    packed: Any = functools.partial(_packed, same_display())
    with _passing_on_sigterm() as termination:
        try:
            return cast(_Parcel[T], fabric.launch(packed, function, *arguments)).content
        except ProcessExitedException:
            if termination.here:
                raise SystemExit(SIGTERM_EXIT) from None
            raise
        except ProcessRaisedException as error:  # carries the traceback of the other process as text
            found = re.search(r"^cleftnet\.errors\.InputError: (.*)", str(error), re.MULTILINE)
            if found is None:
                raise
            raise InputError(found[1]) from error


class _Parcel(Generic[T]):
    """A result on its way out of another process; Fabric would look for tensors in what it knows the inside of."""

    def __init__(self, content: T) -> None:
        self.content = content


def _packed(set_up: Callable[[], None], fabric: Fabric, function: Callable[..., T], *arguments: Any) -> _Parcel[T]:
    set_up()
    if multiprocessing.parent_process() is not None:  # started by `launch`, for this training alone
        keep_freed_memory()
    result = function(fabric, *arguments)
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        fabric.barrier()
        torch.distributed.destroy_process_group()  # or a process that ends while its threads still listen may abort
    return _Parcel(result)


class Termination:
    """Whether a SIGTERM asked this process, or any of the others, to end."""

    def __init__(self) -> None:
        self.here = False

    def requested(self, fabric: Fabric) -> bool:
        """Return the same answer in all processes."""
        if fabric.world_size == 1:
            return self.here
        return bool(fabric.all_reduce(torch.tensor(float(self.here), device=fabric.device), reduce_op="sum"))


@contextmanager
def noticing_sigterm() -> Iterator[Termination]:
    """Note a SIGTERM instead of dying of it, while the body runs."""
    termination = Termination()

    def notice(*_: object) -> None:
        termination.here = True

    with _handling_sigterm(notice):
        yield termination


@contextmanager
def _passing_on_sigterm() -> Iterator[Termination]:
    """Leave a SIGTERM to the processes that this one started, while the body runs; end where there are none."""
    termination = Termination()

    def pass_on(*_: object) -> None:
        termination.here = True
        started = [process.pid for process in multiprocessing.active_children()]
        if not started:
            raise SystemExit(SIGTERM_EXIT)
        for number in started:
            os.kill(cast(int, number), signal.SIGTERM)

    with _handling_sigterm(pass_on):
        yield termination


@contextmanager
def _handling_sigterm(handler: Callable[..., None]) -> Iterator[None]:
    """Handle SIGTERM while the body runs; signals can only be handled in a process's main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def synchronize_batch_norm(net: nn.Module, fabric: Fabric) -> None:
    """Make the batch norms of a network take their statistics over all processes; nothing to do where there is one."""
    if fabric.world_size == 1:
        return
    if fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # untyped in torch
        return
    for module in net.modules():
        if type(module) is nn.BatchNorm3d:
            module.__class__ = (
                SynchronizedBatchNorm  # PyTorch's own is for GPUs only; parameters and buffers are the same
            )


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
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * voxels / max(1, voxels - 1), self.momentum or 0.0)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(1, -1, 1, 1, 1), centered, scale.view(1, -1, 1, 1, 1))


def _sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with its gradient."""
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]  # untyped in torch


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

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


def by_the_first(fabric: Fabric, do: Callable[[], T]) -> T:
    """Do something in the first process only, such as writing files; all return its result, or raise its `InputError`."""
    outcome: T | InputError | None = None
    if fabric.is_global_zero:
        try:
            outcome = do()
        except InputError as error:  # the others would wait for a process that has gone
            outcome = error
    outcome = fabric.broadcast(outcome)
    if isinstance(outcome, InputError):
        raise outcome
    return cast(T, outcome)
