"""The commands that are disturbed, their tiny inputs, and which of their files must be equal afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import yaml

from cleftnet.geometry import Box
from cleftnet.volumes import (
    PROBABILITY_NAME,
    ArraySpec,
    LayoutSettings,
    Volume,
    create_volumes,
    list_arrays,
    open_volume,
    write_cremi,
    write_volume,
)
from tools.fuzzing.samples import COMPARISON, RECIPE

SHAPE, SIZE_NM = (32, 128, 256), (40.0, 4.0, 4.0)
FILE = "sample_A+_20160601.hdf"  # of CREMI; no checksum of it is known


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: The verb that it shows, and the option that makes the difference to another job.
        arguments: The words after `cleftnet`.
        results: Patterns of the files that must be equal, byte for byte; what it prints must be equal as well.
        reads: Files that it reads, of a volume with the array inside.
        before: Commands that make its inputs.
        finished: Counts what is finished in its folder, a number that no disturbance may lower.
        times: Regular expression of the times in its results, which are not compared.
        grows: Whether its output is a folder that is filled step by step, such as a run directory, instead of appearing whole.
    """

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    reads: tuple[str, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()
    finished: Callable[[Path], int] = lambda _folder: 0
    times: bytes | None = None
    grows: bool = False

    @property
    def volumes(self) -> tuple[str, ...]:
        """The arrays that it reads."""
        return tuple(name for name in self.reads if "/" in name)

    @property
    def on_zarr(self) -> Job:
        """The same command on the same voxels in Zarr instead of HDF5."""

        def other(word: str) -> str:
            return ZARR.get(word, word)

        reads = tuple(name.replace(".hdf/", ".zarr/") for name in self.reads)
        before = tuple(tuple(map(other, words)) for words in self.before)
        return replace(self, arguments=tuple(map(other, self.arguments)), reads=tuple(map(other, reads)), before=before)


def blocks(folder: Path) -> int:
    """Count the blocks in journals; those of a complete output are gone with its journal."""
    if any(folder.glob("out.zarr")) or any(folder.glob("found/synapses.csv")):
        return 10**9
    return sum(journal.read_bytes().count(b"\n") for journal in folder.rglob("blocks.txt"))


def steps(folder: Path) -> int:
    """Return the newest saved step of a training."""
    numbers = [int(found[1]) for path in folder.rglob("step-*") if (found := re.match(r"step-(\d+)", path.name))]
    return max(numbers, default=0)


def cells(folder: Path) -> int:
    """Count the finished cells of a comparison."""
    return len(list(folder.rglob("cell.json")))


def received(folder: Path) -> int:
    """Return how many bytes of a download are on disk."""
    return sum(path.stat().st_size for path in folder.glob("data/*") if FILE in path.name and path.suffix != ".etag")


ZARR = {
    "small.hdf": "small.zarr", "big.hdf": "big.zarr", "bigpred.hdf": "bigpred.zarr",
    "recipe.yaml": "recipe-zarr.yaml", "tables.yaml": "tables-zarr.yaml",
}  # fmt: skip
_BLOCKS = ("--block", "16,64,128")
_RAW, _LABELS, _PREDICTION = "big.hdf/volumes/raw", "big.hdf/volumes/labels/clefts", "bigpred.hdf/volumes/probability"
_FOUND = "found/labels.zarr/volumes/labels/clefts"
_LABELLED = ("small.hdf/volumes/raw", "small.hdf/volumes/labels/clefts")
_PREDICT = ("predict", "model.safetensors", "big.hdf", "out.zarr", *_BLOCKS)
JOBS = {
    job.name: job
    for job in (
        Job(
            "train", ("train", "recipe.yaml", "--out", "new", "--resume", "--set", "training.steps=12"),
            ("new/best.safetensors", "new/last.safetensors"), ("recipe.yaml", *_LABELLED), finished=steps, grows=True,
        ),
        Job(
            "finetune", ("finetune", "small.safetensors", "small.hdf", "small.hdf", "--out", "new", "--resume", "--steps",
                         "4", "--folds", "2"),
            ("new/best.safetensors",), ("small.safetensors", *_LABELLED), grows=True,
        ),
        Job("predict", _PREDICT, ("out.zarr/**/*",), ("model.safetensors", _RAW), finished=blocks),
        Job(
            "predict --workers 2", (*_PREDICT, "--workers", "2"), ("out.zarr/**/*",), ("model.safetensors", _RAW),
            finished=blocks,
        ),
        Job(
            "synapses", ("synapses", "bigpred.hdf", "found", "--threshold", "0.5", *_BLOCKS), ("found/**/*",),
            (_PREDICTION,), finished=blocks,
        ),
        Job("evaluate", ("evaluate", "bigpred.hdf", "big.hdf", "--json"), (), (_PREDICTION, _LABELS)),
        Job(
            "convert", ("convert", "big.hdf", "out.zarr", "--chunk", "4,32,32", "--pyramid"), ("out.zarr/**/*",), (_RAW,),
        ),
        Job(
            "compare", ("compare", "tables.yaml", "--out", "new"),
            ("new/cells/*/*/run/best.safetensors", "new/tables.md"), ("tables.yaml", *_LABELLED), finished=cells,
            times=rb"(?<=\d,\d{3} \| )(?:[\d.]+|-)", grows=True,
        ),
        Job(
            "download", ("download", "cremi", "--sample", "A+", "--dest", "data", "--mirror", "URL"), (f"data/{FILE}",),
            finished=received,
        ),
        Job(
            "review", ("review", "found", "looks", "--raw", "big.hdf"), ("looks/**/*",), (_RAW, _PREDICTION, _FOUND),
            before=(("synapses", "bigpred.hdf", "found", "--threshold", "0.5"),),
        ),
    )
}  # fmt: skip


def make_inputs(folder: Path) -> None:
    """Make volumes, their predictions, models and recipes."""
    import torch

    from cleftnet.models.checkpoint import Model, ModelCard, save_model
    from cleftnet.nets.zoo import build

    draw = np.random.default_rng(0)
    for name, shape in (("small", (8, 40, 48)), ("big", SHAPE)):
        labels = np.zeros(shape, np.uint64)
        z, y, x = shape
        for number, left in enumerate(range(4, x - 16, 24), start=1):
            labels[2 : z - 2, 6 : y // 2, left : left + 14] = number
        raw = draw.integers(100, 200, shape, np.uint8) - (labels > 0).astype(np.uint8) * np.uint8(60)
        probability = np.where(labels > 0, 220, 10).astype(np.uint8) + draw.integers(0, 30, shape, np.uint8)
        write_cremi(folder / f"{name}.hdf", raw=Volume(raw, SIZE_NM), clefts=Volume(labels, SIZE_NM))
        write_volume(Volume(probability, SIZE_NM), folder / f"{name}pred.hdf", default=PROBABILITY_NAME)
    write_cremi(folder / FILE, raw=Volume(draw.integers(0, 256, (8, 256, 256), np.uint8), SIZE_NM))
    torch.manual_seed(0)
    for name, patch in (("small", (2, 16, 16)), ("model", (8, 64, 64))):
        net = build("cleftnet", widths=(2, 4), patch=patch, max_keys=32).eval()
        save_model(folder / f"{name}.safetensors", Model(net, ModelCard(spec=net.spec, voxel_size_nm=SIZE_NM)))
    recipe = {**RECIPE, "data": {
        "train": [{"raw": "small.hdf", "roi": "0:8,0:40,0:24"}],
        "validate": [{"raw": "small.hdf", "roi": "0:8,0:40,24:48"}],
    }}  # fmt: skip
    for name, content in (("recipe", recipe), ("tables", COMPARISON | {"base": recipe})):
        text = yaml.safe_dump(content)
        (folder / f"{name}.yaml").write_text(text)
        (folder / f"{name}-zarr.yaml").write_text(text.replace(".hdf", ".zarr"))
    _copy_to_zarr(folder)


def _copy_to_zarr(folder: Path) -> None:
    """Copy the arrays of every volume to a Zarr of several chunks."""
    for name in ("small", "big", "bigpred"):
        with create_volumes(folder / f"{name}.zarr", layout=LayoutSettings(chunk=(4, 32, 32))) as new:
            for inside in list_arrays(folder / f"{name}.hdf"):
                array = inside.split(".hdf/")[1]
                volume = open_volume(inside)
                spec = ArraySpec(array, volume.shape, volume.dtype, voxel_size_nm=SIZE_NM)
                new.create(spec)[Box.of(volume.shape).slices] = volume.read()


def rehearse(inputs: Path, jobs: list[Job], url: str) -> None:
    """Run every job once, so that all of its modules are imported; `url` is the server for downloads."""
    from cleftnet.cli import main

    for job in jobs:
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(inputs, name, dirs_exist_ok=True)
            os.chdir(name)
            for command in (*job.before, job.arguments):
                with contextlib.suppress(SystemExit):  # a failure comes again when it runs undisturbed
                    main([url if word == "URL" else word for word in command])


class _Slow(BaseHTTPRequestHandler):
    """Sends one file, or the rest of it, in small pieces."""

    content = b""

    def do_GET(self) -> None:
        """Answer with the file from the byte that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - first))
        self.send_header("ETag", '"1"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        for at in range(first, len(self.content), 2**15):
            self.wfile.write(self.content[at : at + 2**15])
            time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve until the client is gone, which is what happens to a killed one."""
        try:
            super().handle()
        except ConnectionError:
            return


@contextmanager
def serving() -> Iterator[str]:
    """Serve `_Slow.content` on this machine; yield the address of its folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/data"
        finally:
            server.shutdown()
            thread.join()


def serve_content(path: Path) -> None:
    """Serve this file from now on."""
    _Slow.content = path.read_bytes()
