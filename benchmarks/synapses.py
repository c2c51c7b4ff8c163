"""Synapses of a large prediction: cleftnet in blocks against cc3d and `scipy.ndimage` on the whole volume."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from scipy import ndimage

from benchmarks.measure import GIB, Ratio, machine, measure, write_rows
from benchmarks.metrics import SHARE, VOXEL_SIZE_NM, clefts
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.volumes import LABELS, PREDICTION, Volume, open_volume, write_volume

Table = np.ndarray[Any, np.dtype[np.float64]]  # columns: voxels, centroid, box, mean, maximum and sum of probability


def write_prediction(shape: tuple[int, int, int], everywhere: bool, path: Path) -> None:
    """Write plates of random probabilities over a low background, or cleft everywhere."""
    rng = np.random.default_rng(0)
    mask = np.ones(shape, np.bool_) if everywhere else clefts(shape, SHARE, rng)
    for z in range(shape[0]):  # in sections, to need little more than the mask
        mask.view(np.uint8)[z] = np.where(mask[z], rng.integers(128, 256, shape[1:]), rng.integers(0, 60, shape[1:]))
    write_volume(Volume(mask.view(np.uint8), VOXEL_SIZE_NM, threshold=0.5), path, default=PREDICTION[0])


def paths(prediction: Path, out: Path) -> tuple[Path, Path]:
    return prediction, out


def with_scipy(prediction: Path, out: Path) -> Table:
    """Find synapses in memory: components, one statistic at a time, then write the labels."""
    volume = open_volume(prediction, default=PREDICTION)
    values = volume.read()
    labels, number = cc3d.connected_components((values >= 128).view(np.uint8), connectivity=26, return_N=True)
    ids = np.arange(1, number + 1)
    voxels = ndimage.sum_labels(values >= 128, labels, ids)
    center = np.array(ndimage.center_of_mass(labels > 0, labels, ids))
    boxes = np.array([[[p.start, p.stop] for p in box] for box in ndimage.find_objects(labels)]).reshape(-1, 6)
    statistics = [f(values, labels, ids) / 255 for f in (ndimage.mean, ndimage.maximum, ndimage.sum_labels)]
    write_volume(Volume(labels.astype(np.uint64), volume.voxel_size), f"{out}/labels.zarr", default=LABELS[0])
    return np.column_stack([voxels, center, boxes, *statistics])


def with_cleftnet(prediction: Path, out: Path) -> Table:
    """Find synapses with cleftnet, which also measures area, extent and normal."""
    table = find_synapses(prediction, out, settings=SynapseSettings(hole_nm=0)).table
    names = [
        "z",
        "y",
        "x",
        "z_start",
        "z_stop",
        "y_start",
        "y_stop",
        "x_start",
        "x_stop",
        "mean_probability",
        "max_probability",
        "sum_probability",
    ]
    voxels = table["volume_nm3"] / np.prod(VOXEL_SIZE_NM)
    return np.column_stack([voxels, *(table[name] for name in names)])


def compare(shape: tuple[int, int, int], *, everywhere: bool = False) -> Ratio:
    """Find the synapses of a Zarr volume in both ways."""
    with tempfile.TemporaryDirectory() as name:
        prediction = Path(name, "prediction.zarr")
        write_prediction(shape, everywhere, prediction)
        theirs, ours = (
            measure(paths, run, prediction, Path(name, run.__name__)) for run in (with_scipy, with_cleftnet)
        )
    found = f"{len(ours.result)} synapses"
    return Ratio(found, "whole-volume cc3d and SciPy", ours, theirs, _agree(ours.result, theirs.result))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks synapses", description=__doc__)
    parser.add_argument("--shape", default="512,1024,1024", help="z,y,x voxels of 40×4×4 nm")
    parser.add_argument("--everywhere", action="store_true", help="cleft everywhere, the worst case for memory")
    parser.add_argument("--json", type=Path, help="file for the rows, for tools.check_results")
    given = parser.parse_args(arguments)
    z, y, x = (int(side) for side in given.shape.split(","))
    print(machine("numpy", "scipy", "connected-components-3d", "tensorstore"))
    share = "all" if given.everywhere else f"{SHARE:.0%}"
    print(f"synapses of {z}×{y}×{x} voxels, {share} cleft, read from Zarr, labels written to Zarr", flush=True)
    ratio = compare((z, y, x), everywhere=given.everywhere)
    print(ratio)
    rows = zip(ratio.rows("cc3d + SciPy", "cleftnet"), (ratio.theirs, ratio.ours), strict=True)
    write_rows(given.json, [row | {"synapses": len(one.result)} for row, one in rows])
    print(f"peak memory: {ratio.theirs.peak_bytes / GIB:.2f} GiB, cleftnet {ratio.ours.peak_bytes / GIB:.2f} GiB")


def _agree(ours: Table, theirs: Table) -> bool:
    """Return whether both tables hold the same synapses, in any order and up to rounding."""
    if ours.shape != theirs.shape:
        return False
    first, second = (table[np.lexsort(np.round(table[:, :4].T, 5))] for table in (ours, theirs))
    return bool(np.allclose(first, second, rtol=1e-6, atol=1e-6))
