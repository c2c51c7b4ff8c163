"""Prediction of a large volume: against MONAI's sliding windows, with more workers, and what overlap is worth."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import GIB, Measurement, Ratio, machine, measure, write_rows
from cleftnet.blockwise import ExecutionSettings
from cleftnet.geometry import Box, IntZYX, slabs
from cleftnet.metrics.evaluation import evaluate
from cleftnet.models.checkpoint import Model, ModelCard, load_model, save_model
from cleftnet.nets.folding import fold
from cleftnet.nets.memory import keep_freed_memory
from cleftnet.nets.zoo import build
from cleftnet.prediction import PredictionSettings, best_device, predict, to_uint8
from cleftnet.volumes import ArraySpec, create_volumes, intensity, open_volume


def make_volume(source: str | None, shape: IntZYX, out: Path) -> None:
    """Write a volume of this shape as Zarr: tissue repeated by mirroring, or noise."""
    tissue = (
        open_volume(source).read() if source else np.random.default_rng(0).integers(0, 256, (20, 256, 256), np.uint8)
    )
    with create_volumes(out) as new:
        raw = new.create(ArraySpec("volumes/raw", shape, np.uint8, voxel_size_nm=(50.0, 4.6, 4.6)))
        for slab in slabs(Box.of(shape), chunk=(16, 128, 128)):
            raw[slab.slices] = tissue[np.ix_(*map(mirrored, slab.start, slab.stop, tissue.shape))]


def mirrored(start: int, stop: int, side: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return indices that run up and down again: 0, 1, ..., side - 1, side - 1, ..., 1, 0, 0, ..."""
    place = np.arange(start, stop) % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)


def prepared(threads: int, *arguments: Any) -> tuple[Any, ...]:
    torch.set_num_threads(threads)
    return arguments


def ours(model: Path, raw: Path, out: Path, how: PredictionSettings, execution: ExecutionSettings) -> tuple[int, int]:
    """Predict with cleftnet; return the largest worker's peak memory in bytes, and a checksum."""
    keep_freed_memory()  # as the command line does
    probability = predict(model, raw, out, settings=how, execution=execution, overwrite=True)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return workers, sum(int(probability[slab].sum(dtype=np.int64)) for slab in slabs(probability.box))


def monais(model: Path, raw: Path, out: Path, overlap: float, folded: bool, batch: int) -> int:
    """Predict with MONAI, raw and logits in memory (on a GPU in its memory, and in bf16); return a checksum."""
    from monai.inferers import sliding_window_inference

    device = best_device()
    loaded = load_model(model, device)
    net = fold(loaded.net).channels_last() if folded else loaded.net
    volume = open_volume(raw)
    x = torch.from_numpy(intensity(volume.read()))[None, None]
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    with torch.inference_mode(), bf16:
        logits = sliding_window_inference(
            x, net.spec.patch, batch, net, overlap=overlap, mode="gaussian", sw_device=device, device=device
        )
    assert isinstance(logits, torch.Tensor)
    with create_volumes(out, overwrite=True) as new:
        stored = new.create(ArraySpec("volumes/probability", volume.shape, np.uint8, voxel_size_nm=volume.voxel_size))
        total = 0
        for slab in slabs(volume.box):
            values = to_uint8(loaded.probability(logits[(0, slice(None), *slab.slices)].float().cpu().numpy()))
            stored[slab.slices] = values
            total += int(values.sum(dtype=np.int64))
    return total


def row(name: str, voxels: int, found: Measurement, first: Measurement | None, more: str = "") -> dict[str, Any]:
    """Print a measurement, and return it with speed and memory as ratios to the first of its table."""
    speed, peak = voxels / found.seconds / 1e6, found.peak_bytes / GIB
    against = (
        ""
        if first is None
        else f"  {first.seconds / found.seconds:.2f}× speed, {peak * GIB / first.peak_bytes:.2f}× memory"
    )
    print(f"{name:34s}{found.seconds:9.1f} s{speed:10.4f} Mvoxel/s{peak:8.2f} GiB{more}{against}", flush=True)
    first = first or found
    return {
        "name": name,
        "seconds": found.seconds,
        "peak_gib": peak,
        "speed": first.seconds / found.seconds,
        "memory": found.peak_bytes / first.peak_bytes,
    }


@dataclass(frozen=True)
class Windows:
    """How both sides cut and compute a volume.

    Attributes:
        overlap: Share of a tile that neighbors share.
        threads: Threads of each side.
        batch: Windows that MONAI runs together.
    """

    overlap: float = 0.5
    threads: int = 1
    batch: int = 1


def against_monai(model: Path, raw: Path, folder: Path, how: Windows, *, variants: bool = False) -> Iterator[Ratio]:
    """Predict a Zarr volume with cleftnet and with MONAI; variants are MONAI with our folded network, and bf16."""

    def with_monai(folded: bool) -> Measurement:
        arguments = (model, raw, folder / "m.zarr", how.overlap, folded, how.batch)
        return measure(prepared_monai, monais, how.threads, *arguments)

    def with_cleftnet(**settings: Any) -> Measurement:
        inference = PredictionSettings(overlap=how.overlap, **settings)
        arguments = (model, raw, folder / "o.zarr", inference, ExecutionSettings())
        return measure(prepared, ours, how.threads, *arguments)

    theirs, mine = with_monai(folded=False), with_cleftnet()
    yield Ratio("prediction", "MONAI's sliding windows", mine, theirs)
    if variants:
        yield Ratio("prediction", "MONAI with our folded network", mine, with_monai(folded=True))
        yield Ratio("prediction in bf16", "MONAI in float32", with_cleftnet(precision="bf16"), theirs)


def prepared_monai(threads: int, *arguments: Any) -> tuple[Any, ...]:
    import monai.inferers  # noqa: F401 - its import is not timed

    return prepared(threads, *arguments)


def by_workers(model: Path, raw: Path, folder: Path, given: argparse.Namespace) -> None:
    how, voxels = PredictionSettings(overlap=given.overlap), open_volume(raw).box.voxels
    block = None if given.block is None else sides(given.block)
    print(f"\noverlap {given.overlap}; starting the workers, and their import of torch, is part of the time")
    first, sums, rows = None, set(), []
    for workers in given.workers:
        execution = ExecutionSettings(block=block, workers=workers)
        found = measure(prepared, ours, given.threads, model, raw, folder / "o.zarr", how, execution)
        peak, checksum = found.result
        sums.add(checksum)
        name = "this process" if not workers else f"{workers} worker{'s' * (workers > 1)}"
        rows.append(row(name, voxels, found, first, f", largest worker {peak / GIB:.2f} GiB" if workers else ""))
        first = first or found
    write_rows(given.json, rows)
    print("all predictions are the same" if len(sums) == 1 else "PREDICTIONS DIFFER")


def by_overlap(model: Path, given: argparse.Namespace) -> None:
    if not given.volume:
        print("overlap needs --volume with labels beside raw, and --model")
        return
    roi = None if given.roi is None else Box.parse(given.roi)
    print(f"\n{given.volume} {given.roi or ''}, scored with the labels in it at the model's threshold")
    print(f"{'overlap':>8s}{'seconds':>9s}{'AUC':>9s}{'F1':>8s}{'CREMI nm':>10s}{'ADGT':>8s}{'ADF':>7s}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for overlap in given.overlaps:
            start = time.perf_counter()
            found = predict(
                model,
                given.volume,
                Path(folder, f"{overlap}.zarr"),
                roi=roi,
                settings=PredictionSettings(overlap=overlap),
            )
            seconds = time.perf_counter() - start
            e = evaluate(found, given.volume)
            distances = e.scores.distances
            values = [(e.auc, 4), (e.f1, 3), (e.cremi_score, 1), (distances.adgt, 1), (distances.adf, 1)]
            scores = ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]
            auc, f1, score, adgt, adf = scores
            print(f"{overlap:8.2f}{seconds:9.1f}{auc:>9s}{f1:>8s}{score:>10s}{adgt:>8s}{adf:>7s}", flush=True)
            rows.append({"name": f"{overlap:g}", **e.scores.to_json(), "auc": e.auc})
    write_rows(given.json, rows)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def sides(text: str) -> IntZYX:
    z, y, x = numbers(text)
    return z, y, x


def some_model(folder: Path, patch: IntZYX, widths: tuple[int, ...], max_keys: int) -> Path:
    """Save an untrained CleftNet, which takes as long as a trained one."""
    torch.manual_seed(0)
    net = build("cleftnet", widths=widths, patch=patch, max_keys=max_keys)
    save_model(folder / "model.safetensors", Model(net, ModelCard(spec=net.spec)))
    return folder / "model.safetensors"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks prediction", description=__doc__)
    parts = ("monai", "workers", "overlap")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default: monai")
    parser.add_argument("--shape", type=sides, default=(32, 256, 256), help="shape of the volume (default: 32,256,256)")
    parser.add_argument("--volume", help="tissue to repeat by mirroring, and to score on (default: noise)")
    parser.add_argument("--model", help="run directory or checkpoint (default: untrained, widths 8-64, 512 keys)")
    parser.add_argument(
        "--patch", type=sides, default=(8, 96, 96), help="patch size of the untrained model (default: 8,96,96)"
    )
    parser.add_argument(
        "--widths", type=numbers, default=(8, 16, 32, 64), help="widths of the untrained model (default: 8,16,32,64)"
    )
    parser.add_argument(
        "--max-keys", type=int, default=512, help="number of keys of the untrained model (default: 512)"
    )
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=1, help="windows that MONAI runs together (default: 1)")
    parser.add_argument("--plain", action="store_true", help="part monai: leave out the variants")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], help="0 is this process (default: 0 1 2)")
    parser.add_argument("--block", help="block size (default: chosen by memory)")
    parser.add_argument("--roi", help="region that the part overlap predicts and scores")
    parser.add_argument(
        "--overlaps",
        type=float,
        nargs="*",
        default=[0.0, 0.25, 0.5, 0.75],
        help="overlaps that the part overlap compares",
    )
    parser.add_argument("--json", type=Path, help="file for the rows, for tools.check_results")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    chosen = given.parts or ["monai"]
    print(f"{machine('torch', 'monai')}; {best_device()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(given.model) if given.model else some_model(folder, given.patch, given.widths, given.max_keys)
        if {"monai", "workers"} & set(chosen):
            make_volume(given.volume, given.shape, folder / "raw.zarr")
            patch = "×".join(map(str, load_model(model).net.spec.patch))
            widths = "-".join(map(str, load_model(model).net.spec.widths))
            print(
                f"{'×'.join(map(str, given.shape))} voxels of {given.volume or 'noise'}, patch {patch}, widths {widths}"
            )
        if "monai" in chosen:
            how = Windows(given.overlap, given.threads, given.batch)
            print(f"\noverlap {how.overlap}, {how.threads} threads, windows of {how.batch} for MONAI")
            shape = "×".join(map(str, given.shape))
            for ratio in against_monai(model, folder / "raw.zarr", folder, how, variants=not given.plain):
                print(ratio, flush=True)
                if ratio.peer == "MONAI's sliding windows":
                    write_rows(given.json, ratio.rows(f"{shape}: MONAI", f"{shape}: cleftnet"))
        if "workers" in chosen:
            by_workers(model, folder / "raw.zarr", folder, given)
        if "overlap" in chosen:
            by_overlap(model, given)
