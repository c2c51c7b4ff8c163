"""Peak memory of every verb on a volume, on one 8 times and on one 64 times as large.

The verbs run in forked processes that have imported everything. What is printed is what a verb takes beyond that, and how many
bytes each voxel added. `--side 16` measures small volumes in seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml

from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.zoo import build
from cleftnet.volumes import PROBABILITY_NAME, Volume, write_cremi, write_volume
from tools.fuzzing.samples import COMPARISON, RECIPE, SIZE_NM
from tools.warm import import_ahead, start_command

SCALES = (1, 8, 64)  # times the voxels of the smallest volume
MIB = 2**20
_BLOCK = ("--block", "16,64,64")
VERBS: dict[str, tuple[str, ...]] = {
    "info": ("info", "a.hdf"),
    "check": ("check", "a.hdf"),
    "convert": ("convert", "a.hdf", "out.zarr", "--chunk", "16,64,64"),
    "convert --pyramid": ("convert", "a.hdf", "out.zarr", "--chunk", "16,64,64", "--pyramid"),
    "train": ("train", "recipe.yaml", "--out", "run"),
    "compare": ("compare", "tables.yaml", "--out", "tables", "--rows", "cleftnet"),
    "predict": ("predict", "model.safetensors", "a.hdf", "out.zarr", *_BLOCK),
    "synapses": ("synapses", "pred.zarr", "found", "--threshold", "0.5", *_BLOCK),
    "synapses --tune": ("synapses", "pred.zarr", "found", "--tune", "a.hdf", *_BLOCK),
    "review": ("review", "seen", "looks", "--raw", "a.hdf"),
    "evaluate": ("evaluate", "pred.zarr", "a.hdf"),
    "submit": ("submit", "pred.zarr", "out.hdf"),
    "submit --one-id": ("submit", "pred.zarr", "out.hdf", "--one-id"),
    "finetune": ("finetune", "model.safetensors", "a.hdf", "a.hdf", "--out", "run", "--steps", "1", "--folds", "2"),
    "export": ("export", "model.safetensors", "model.pt2"),
    "report": ("report", "trained", "--out", "report.html"),
    "view": ("view", "a.hdf", "pred.zarr", "seen", "--no-open"),
    "view truth=": ("view", "a.hdf", "seen", "truth=a.hdf", "--no-open"),
}
_BEFORE = {  # what makes the inputs of some verbs
    "review": ("synapses", "pred.zarr", "seen", "--threshold", "0.5"),
    "report": ("train", "recipe.yaml", "--out", "trained"),
    "view": ("synapses", "pred.zarr", "seen", "--threshold", "0.5"),
}
_STARTED_S = 600  # most seconds until a viewer is served


@dataclasses.dataclass(frozen=True)
class VerbMemory:
    """Peak memory of a verb at each of `SCALES`, in bytes beyond the imported program, and the voxels of each volume."""

    verb: str
    peak_bytes: tuple[int, ...]
    voxels: tuple[int, ...]

    @property
    def bytes_per_voxel(self) -> float:
        """Bytes that each voxel added from the second volume to the third."""
        return (self.peak_bytes[2] - self.peak_bytes[1]) / (self.voxels[2] - self.voxels[1])


def shape_of(side: int, scale: int) -> tuple[int, int, int]:
    """Return the sides z y x of a volume."""
    by = round(scale ** (1 / 3))
    return side * by, 4 * side * by, 4 * side * by


def make_volume(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write raw and labels of small clefts on a grid, their prediction, a model and recipes."""
    draw = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint64)
    z, y, x = (np.arange(side) for side in shape)
    cell = (z[:, None, None] // 8 * 4096 + y[:, None] // 32 * 64 + x // 32 + 1).astype(np.uint64)
    inside = (z[:, None, None] % 8 < 3) & (y[:, None] % 32 < 12) & (x % 32 < 12)
    labels[inside] = np.broadcast_to(cell, shape)[inside]
    raw = draw.integers(100, 200, shape, np.uint8)
    write_cremi(folder / "a.hdf", raw=Volume(raw, SIZE_NM), clefts=Volume(labels, SIZE_NM))
    probability = np.where(labels > 0, 220, 10).astype(np.uint8)
    write_volume(Volume(probability, SIZE_NM), folder / "pred.zarr", default=PROBABILITY_NAME)
    torch.manual_seed(0)
    net = build("cleftnet", widths=(2, 4), patch=(8, 64, 64), max_keys=32).eval()
    save_model(folder / "model.safetensors", Model(net, ModelCard(spec=net.spec, voxel_size_nm=SIZE_NM)))
    half = f"0:{shape[0]},0:{shape[1]}"
    data = {
        "train": [{"raw": "a.hdf", "roi": f"{half},0:{shape[2] // 2}"}],
        "validate": [{"raw": "a.hdf", "roi": f"{half},{shape[2] // 2}:{shape[2]}"}],
    }
    training = RECIPE["training"] | {"steps": 1, "validate_every": 1}
    recipe = {**RECIPE, "data": data, "training": training, "net": {**RECIPE["net"], "patch": [8, 32, 32]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "tables.yaml").write_text(yaml.safe_dump(COMPARISON | {"base": recipe}))


def measure_verbs(side: int, verbs: dict[str, tuple[str, ...]] = VERBS) -> Iterator[VerbMemory]:
    """Measure verbs at each scale.

    Args:
        side: Sections of the smallest volume, whose other sides are four times as long.
        verbs: The commands, by what they are called.

    Raises:
        RuntimeError: when a verb fails.
    """
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folders = {scale: Path(name, str(scale)) for scale in SCALES}
        for scale, folder in folders.items():
            folder.mkdir()
            import_ahead(lambda scale=scale, folder=folder: _prepare(folder, shape_of(side, scale), verbs), folder)
        base = _peak((), Path(name))
        voxels = tuple(int(np.prod(shape_of(side, scale))) for scale in SCALES)
        for verb, command in verbs.items():
            peaks = tuple(max(0, _peak(command, folders[scale]) - base) for scale in SCALES)
            yield VerbMemory(verb, peaks, voxels)


def _prepare(folder: Path, shape: tuple[int, int, int], verbs: dict[str, tuple[str, ...]]) -> None:
    """Make the inputs; in the first folder, run all verbs, so that their modules are imported."""
    make_volume(folder, shape)
    for command in dict.fromkeys(_BEFORE[name.split()[0]] for name in verbs if name.split()[0] in _BEFORE):
        _call(command)
    if folder.name == str(SCALES[0]):
        before = set(folder.iterdir())
        for command in verbs.values():
            _call(command)
            _remove_new(folder, before)


def _call(command: tuple[str, ...]) -> None:
    from cleftnet.cli import main

    if command[0] == "view":  # serves until it is interrupted
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        main(list(command))
    except SystemExit as done:
        if done.code:
            raise RuntimeError(f"cleftnet {' '.join(command)} ended with code {done.code}") from done


def _remove_new(folder: Path, before: set[Path]) -> None:
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _peak(command: tuple[str, ...], folder: Path) -> int:
    """Return the peak memory of a command in bytes; of the imported program alone, for no command."""
    before = set(folder.iterdir())
    place = folder.parent if command else folder
    said, printed = place / "said", place / "printed"
    printed.write_text("")  # the address of the viewer before would be taken for that of this one
    process = start_command(command or ("--help",), folder, printed, said, _heed_interrupts)
    if command[:1] == ("view",):
        _interrupt_when_served(process, printed)
    _, status, used = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"cleftnet {' '.join(command)} failed: {said.read_text()}")
    _remove_new(folder, before)
    return used.ru_maxrss * 1024


def _heed_interrupts() -> None:
    """Let Ctrl-C interrupt this process, which a shell may have started in the background, where it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_when_served(process: int, printed: Path) -> None:
    """Press Ctrl-C for a viewer as soon as it has printed its address, or has not for too long."""
    end = time.monotonic() + _STARTED_S
    running = os.pidfd_open(process)
    while "http://" not in printed.read_text() and time.monotonic() < end:
        if select.select([running], [], [], 0.1)[0]:
            break
    os.close(running)
    os.kill(process, signal.SIGINT)  # a process that has ended takes it until it is waited for


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--side", type=int, default=32, help="sections of the smallest volume (default: 32)")
    parser.add_argument("--verbs", help="only these, separated by commas (default: all)")
    given = parser.parse_args(arguments)
    chosen = VERBS if given.verbs is None else {name: VERBS[name] for name in given.verbs.split(",")}
    shapes = ["×".join(map(str, shape_of(given.side, scale))) for scale in SCALES]
    print(f"peak memory beyond the imported program, MiB, for volumes of {', '.join(shapes)} voxels")
    print(f"{'verb':18s} {'1':>8s} {'8':>8s} {'64':>8s}  bytes per added voxel")
    for found in measure_verbs(given.side, chosen):
        peaks = " ".join(f"{peak / MIB:8.0f}" for peak in found.peak_bytes)
        print(f"{found.verb:18s} {peaks}  {found.bytes_per_voxel:.1f}", flush=True)
