"""Runs the work on Dask workers: on processes of this machine, or on those of a running scheduler.

Each worker receives the work once, as a plugin, which Dask also sends to workers that join later or restart. Only a few more
blocks than there are workers are submitted at a time, so that the scheduler never holds a list of a billion blocks.
"""

# distributed has types on few of its functions:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, Worker, as_completed, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from cleftnet.blockwise.work import (
    ExecutionSettings,
    Finish,
    Outcome,
    Todo,
    UnfinishedError,
    Work,
    attempt,
    ignore_progress,
)
from cleftnet.errors import InputError
from cleftnet.geometry import Block

AHEAD = 2  # blocks that a worker holds at a time: it computes one while it reads or writes the other
CONNECT_S = 30

Environment = Mapping[str, str]


def on_cluster(
    work: Work, todo: Todo, execution: ExecutionSettings, finish: Finish, environments: Sequence[Environment] = ()
) -> None:
    """Compute the blocks on Dask workers; a worker that dies is replaced, and other workers compute its blocks.

    Args:
        work: The three steps for a block.
        todo: The blocks and their numbers.
        execution: The workers.
        finish: Called with the outcome of every block; whatever it raises ends the map.
        environments: Environment variables of the workers on this machine, assigned in turn.

    Raises:
        InputError: when no scheduler answers.
        UnfinishedError: when the scheduler is lost.
    """
    with _client(execution, environments) as client:
        plugin = _WorkPlugin(work, f"cleftnet-{uuid.uuid4().hex[:12]}")
        client.register_plugin(plugin, name=plugin.name)
        try:
            _submit_all(client, plugin.name, todo, execution, finish)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(plugin.name)


class _WorkPlugin(WorkerPlugin):
    """Carries the work to a worker, and limits how many blocks run there at a time."""

    def __init__(self, work: Work, name: str) -> None:
        self.work, self.name = work, name

    def setup(self, worker: Worker) -> None:
        self.work.start(worker.state.nthreads)
        self.slots, self.computing = threading.Semaphore(AHEAD), threading.Lock()

    def do(self, block: Block, tries: int) -> None:
        with self.slots:
            data = attempt(tries, self.work.read, block)
            with self.computing:
                result = attempt(tries, self.work.compute, block, data, ignore_progress)
            del data
            attempt(tries, self.work.write, block, result)


def _do(name: str, block: Block, tries: int) -> None:
    """Run one block; the worker calls this."""
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, _WorkPlugin)
    plugin.do(block, tries)


def _submit_all(client: Client, name: str, todo: Todo, execution: ExecutionSettings, finish: Finish) -> None:
    waiting = iter(todo)
    out: dict[Future[None], tuple[int, Block]] = {}
    done = as_completed(loop=client.loop)

    def submit_more() -> None:
        free = AHEAD * max(1, len(client.nthreads())) - len(out)
        for index, block in (item for _, item in zip(range(free), waiting, strict=False)):
            future = client.submit(_do, name, block, execution.tries, key=f"{name}-{index}", pure=False)
            out[future] = (index, block)
            done.add(future)

    submit_more()
    for future in done:
        index, block = out.pop(future)
        if future.status not in ("finished", "error"):
            raise UnfinishedError(
                f"the Dask scheduler was lost (block {block.write} was {future.status}); finished blocks are kept: "
                f"run the same command again"
            )
        error = future.exception() if future.status == "error" else None
        future.release()
        finish(Outcome(index, block, error))
        submit_more()


@contextmanager
def _client(execution: ExecutionSettings, environments: Sequence[Environment]) -> Iterator[Client]:
    with ExitStack() as stack:
        address: Any = execution.scheduler
        if address is None:
            # a block whose worker dies is tried as often as a step that fails
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": execution.tries - 1}))
            address = stack.enter_context(_cluster(execution.workers, environments))
        in_file = str(address).endswith(".json")
        where = {"scheduler_file": address} if in_file else {"address": address}
        try:
            if in_file and not Path(address).exists():  # Dask would wait for it forever
                raise FileNotFoundError("there is no such file")
            client = Client(**where, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {execution.scheduler} ({error}); start one with `dask scheduler` and give its "
                f"address, such as scheduler='tcp://10.0.0.1:8786', or its file"
            ) from None
        try:
            yield client
        finally:
            client.close(timeout=2)


def _cluster(workers: int, environments: Sequence[Environment]) -> SpecCluster:
    """Start worker processes that share the cores of this machine; they end with this process, however it ends."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    threads = max(1, cores // workers)
    common = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    options = {"nthreads": threads, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL}
    own: Sequence[Environment] = environments or [{}]
    spec = {n: {"cls": Nanny, "options": {**options, "env": {**common, **own[n % len(own)]}}} for n in range(workers)}
    # any free ports, since another program may use Dask's own
    ports = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": {**ports, "dashboard": False}}
    return SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.CRITICAL)
