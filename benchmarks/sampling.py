"""Training patches per second on one core, from memory and HDF5, stage by stage."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cc3d
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.measure import GIB, Measurement, machine, measure
from benchmarks.metrics import SHARE, VOXEL_SIZE_NM, clefts
from cleftnet.geometry import IntZYX
from cleftnet.patches.augment import AugmentSettings, augment
from cleftnet.patches.index import CleftIndex
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.patch import Patch
from cleftnet.patches.sampling import PatchSampler, SamplingSettings
from cleftnet.patches.target_volume import CACHE, target_volume
from cleftnet.volumes import LABELS, Volume, open_volume, write_cremi

PATCH: IntZYX = (8, 256, 256)
GOAL = 40  # patches per second and core, with all of the paper's augmentations

NONE = {"rotate": 0.0, "flip": 0.0, "grayscale": 0.0}
PAPER = AugmentSettings()
EM = AugmentSettings(misalign=0.2, elastic=0.2, grayscale_sections=0.2, blur=0.1, noise=0.2, missing=0.05)
CHANGES = [*NONE, "misalign", "elastic", "grayscale_sections", "blur", "noise", "missing"]


def make_file(path: Path, shape: IntZYX) -> None:
    """Write a file of CREMI's layout: raw repeats one tile of smooth noise, labels are plates."""
    rng = np.random.default_rng(0)
    tile = gaussian_filter(rng.standard_normal((8, 256, 256)), (0, 1.5, 1.5), mode="wrap")
    tile = np.clip(128 + 100 * tile / tile.std() / 3, 0, 255).astype(np.uint8)
    times = [-(-side // t) for side, t in zip(shape, tile.shape, strict=True)]
    raw = np.tile(tile, times)[: shape[0], : shape[1], : shape[2]]
    ids = cc3d.connected_components(clefts(shape, SHARE, rng), out_dtype=np.uint64)
    write_cremi(path, Volume(raw, VOXEL_SIZE_NM), Volume(ids, VOXEL_SIZE_NM))


def open_labels(path: Path) -> tuple[Volume]:
    return (open_volume(path, default=LABELS),)


def open_targets(path: Path) -> tuple[Volume]:
    """Return the targets, cached by an earlier run."""
    return (targets(*open_labels(path)),)


def targets_and_patch(path: Path, patch: IntZYX) -> tuple[Volume, IntZYX]:
    return *open_targets(path), patch


def targets(labels: Volume) -> Volume:
    return target_volume(labels, in_memory_voxels=0)


def index(target: Volume, patch: IntZYX) -> float:
    return CleftIndex.of(target, patch, SamplingSettings().min_cleft_voxels).share


def sampler(path: Path, patch: IntZYX, augmentation: AugmentSettings, *, in_memory: bool) -> PatchSampler:
    source = LabelledVolume(open_volume(path), *open_targets(path))
    settings = SamplingSettings(raw_in_memory_gib=100 if in_memory else 0)
    return PatchSampler([source], patch, length=2**31, seed=0, settings=settings, augmentation=augmentation)


def seconds_each(make: Callable[[int], object], seconds: float) -> float:
    """Return the mean CPU time of one call, over as many calls as fit into `seconds`, after three to warm up.

    Core time is what a busy machine leaves as it is. Waiting for a disk is not in it; the file was written a moment ago
    and is read from the system's memory.
    """
    for i in range(3):
        make(i)
    made, start = 0, time.process_time()
    while (passed := time.process_time() - start) < seconds:
        make(3 + made)
        made += 1
    return passed / made


def print_once(path: Path, patch: IntZYX) -> None:
    """Print the time and memory of each step done once for a volume, in its own process."""
    runs: list[tuple[str, Measurement]] = [
        ("targets computed and kept", measure(open_labels, targets, path)),
        ("targets found again", measure(open_labels, targets, path)),
        ("index of clefts", measure(targets_and_patch, index, path, patch)),
    ]
    print(
        f"\nonce a volume{'':24s}{'time s':>10s}{'peak GiB':>10s}   "
        "(all cores for the distances; peaks count mapped pages)"
    )
    for name, found in runs:
        print(f"{name:37s}{found.seconds:10.2f}{found.peak_bytes / GIB:10.2f}", flush=True)
    print(f"{'places with enough clefts':37s}{runs[-1][1].result:10.1%}")


def print_stages(patches: PatchSampler, seconds: float) -> None:
    """Print the additional time of each change alone, at probability 1."""
    print(f"\nstage by stage, raw in memory{'':8s}{'ms a patch':>10s}")

    def rng(i: int) -> np.random.Generator:
        return np.random.default_rng([0, i])

    draw = seconds_each(lambda i: patches.draw(rng(i)), seconds)
    print(f"{'draw a place':37s}{1e3 * draw:10.2f}")
    places = [patches.draw(rng(i)) for i in range(64)]

    def make(settings: AugmentSettings, i: int) -> Patch:
        volume, box = places[i % len(places)]
        return augment(volume.patch, box, settings, rng(i))

    unchanged = partial(make, AugmentSettings(**NONE))
    plain, patch = seconds_each(unchanged, seconds), unchanged(0)
    print(f"{'read and scale':37s}{1e3 * plain:10.2f}")
    for name in CHANGES:
        taken = seconds_each(partial(make, AugmentSettings(**NONE | {name: 1.0})), seconds) - plain
        print(f"{name + ', always':37s}{1e3 * taken:10.2f}", flush=True)
    print(f"{'classes and distance':37s}{1e3 * seconds_each(lambda _: (patch.classes, patch.distance), seconds):10.2f}")


def print_rates(path: Path, patch: IntZYX, seconds: float) -> None:
    print(f"\npatches a second, one core{'':11s}{'in memory':>10s}{'HDF5':>10s}")
    for name, settings in {
        "no change": AugmentSettings(**NONE),
        "the paper's": PAPER,
        "the paper's, quarter turns": AugmentSettings(rotation="quarter"),
        "the paper's and EM": EM,
    }.items():
        rates = [
            1 / seconds_each(sampler(path, patch, settings, in_memory=m).__getitem__, seconds) for m in (True, False)
        ]
        reached = f"   goal {GOAL}: {rates[0] / GOAL:.1f} times" if settings is PAPER else ""
        print(f"{name:37s}{rates[0]:10.1f}{rates[1]:10.1f}{reached}", flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sampling", description=__doc__)
    parser.add_argument("--shape", default="125,1250,1250", help="z,y,x voxels of 40×4×4 nm (default: a CREMI volume)")
    parser.add_argument("--patch", default=",".join(map(str, PATCH)), help="z,y,x voxels (default: the paper's)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds to spend on each number")
    parser.add_argument(
        "--small", action="store_true", help="use 16×300×300 voxels and time hardly anything (for tests)"
    )
    given = parser.parse_args(arguments)
    z, y, x = (int(side) for side in ("16,300,300" if given.small else given.shape).split(","))
    d, h, w = (int(side) for side in given.patch.split(","))
    seconds = 0.02 if given.small else given.seconds
    torch.set_num_threads(1)
    print(machine("numpy", "scipy", "h5py", "edt"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sample.hdf")
        os.environ[CACHE] = folder
        make_file(path, (z, y, x))
        print(
            f"patches of {d}×{h}×{w} from {z}×{y}×{x} voxels, {SHARE:.0%} clefts, "
            f"{path.stat().st_size / GIB:.2g} GiB of HDF5"
        )
        print_once(path, (d, h, w))
        print_stages(sampler(path, (d, h, w), PAPER, in_memory=True), seconds)
        print_rates(path, (d, h, w), seconds)
