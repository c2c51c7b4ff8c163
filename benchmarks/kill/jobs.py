"""The commands that are killed, their tiny inputs, and which of their files must be equal afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import yaml

from cleftnet.volumes import PROBABILITY_NAME, Volume, write_cremi, write_volume
from tools.fuzzing.samples import COMPARISON, RECIPE

SHAPE, SIZE_NM = (32, 128, 256), (40.0, 4.0, 4.0)
FILE = "sample_A+_20160601.hdf"  # of CREMI; no checksum of it is known


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        verb: The verb that it shows.
        arguments: The words after `cleftnet`.
        results: Patterns of the files that must be equal, byte for byte; what it prints must be equal as well.
        before: Commands that make its inputs.
        finished: Counts what is finished in its folder, a number that no kill may lower.
    """

    verb: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    finished: Callable[[Path], int] = lambda _folder: 0


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


_BLOCKS = ("--block", "16,64,128")
JOBS = {
    job.verb: job
    for job in (
        Job(
            "train", ("train", "recipe.yaml", "--out", "new", "--resume", "--set", "training.steps=12"),
            ("new/best.safetensors", "new/last.safetensors"), finished=steps,
        ),
        Job(
            "finetune", ("finetune", "small.safetensors", "small.hdf", "small.hdf", "--out", "new", "--resume", "--steps",
                         "4", "--folds", "2"),
            ("new/best.safetensors",),
        ),
        Job("predict", ("predict", "model.safetensors", "big.hdf", "out.zarr", *_BLOCKS), ("out.zarr/**/*",), finished=blocks),
        Job("synapses", ("synapses", "bigpred.hdf", "found", "--threshold", "0.5", *_BLOCKS), ("found/**/*",), finished=blocks),
        Job("evaluate", ("evaluate", "bigpred.hdf", "big.hdf", "--json"), ()),
        Job("convert", ("convert", "big.hdf", "out.zarr", "--chunk", "4,32,32", "--pyramid"), ("out.zarr/**/*",)),
        Job(
            "compare", ("compare", "tables.yaml", "--out", "new"),
            ("new/cells/*/*/run/best.safetensors", "new/tables.md"), finished=cells,
        ),
        Job(
            "download", ("download", "cremi", "--sample", "A+", "--dest", "data", "--mirror", "URL"), (f"data/{FILE}",),
            finished=received,
        ),
        Job(
            "review", ("review", "found", "looks", "--raw", "big.hdf"), ("looks/**/*",),
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
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "tables.yaml").write_text(yaml.safe_dump(COMPARISON | {"base": recipe}))


def rehearse(folder: Path, verbs: Sequence[str]) -> None:
    """Make the inputs, and call every verb once, so that all of its modules are imported."""
    from cleftnet.cli import main

    make_inputs(folder)
    for verb in verbs:
        if verb == "download":  # its server is not in this process
            continue
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(folder, name, dirs_exist_ok=True)
            os.chdir(name)
            for command in (*JOBS[verb].before, JOBS[verb].arguments):
                with contextlib.suppress(SystemExit):  # a failure comes again when it runs undisturbed
                    main(list(command))


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
