"""The CREMI score of a full-sized volume: ours against SciPy as the challenge uses it, and against plain `edt`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import edt
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from benchmarks.measure import GIB, Measurement, machine, measure
from cleftnet.metrics.distances import cremi_score

Mask = npt.NDArray[np.bool_]
Scores = tuple[float, float, int, int]  # ADGT and ADF in nm, far false positives and negatives in voxels

VOXEL_SIZE_NM = (40.0, 4.0, 4.0)
SHARE = 0.01


def clefts(shape: Sequence[int], share: float, rng: np.random.Generator) -> Mask:
    """Return a mask in which plates, 60 nm thick and of 100 to 300 nm radius, fill a share of the voxels."""
    size, mask, count = np.array(VOXEL_SIZE_NM), np.zeros(tuple(shape), np.bool_), 0
    while count < share * mask.size:
        center, radius, normal = rng.uniform(0, shape), rng.uniform(100, 300), rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        reach = np.ceil(radius / size).astype(int) + 1
        low, high = np.maximum(0, center - reach).astype(int), np.minimum(shape, center + reach + 1).astype(int)
        z, y, x = (
            ((np.arange(a, b) - c) * v).reshape([-1 if axis == n else 1 for n in range(3)])
            for axis, (a, b, c, v) in enumerate(zip(low, high, center, size, strict=True))
        )
        plate = (np.abs(z * normal[0] + y * normal[1] + x * normal[2]) <= 30) & (z * z + y * y + x * x <= radius**2)
        part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        count += int(np.count_nonzero(plate & ~part))
        part |= plate
    return mask


def prediction_and_truth(shape: tuple[int, int, int]) -> tuple[Mask, Mask]:
    """Return a truth with 1 % clefts, and a shifted prediction that misses some and adds others."""
    rng = np.random.default_rng(0)
    true = clefts(shape, SHARE, rng)
    predicted = np.roll(true, (1, 4, -5), axis=(0, 1, 2))
    predicted[:, : shape[1] // 3] &= clefts(shape, SHARE, rng)[:, : shape[1] // 3]
    return predicted | clefts(shape, SHARE / 5, rng), true


def with_scipy(predicted: Mask, true: Mask) -> Scores:
    """Compute the score as the challenge does: a float64 distance transform of each mask, read at the voxels of the other."""
    to_truth = distance_transform_edt(~true, sampling=VOXEL_SIZE_NM)[predicted]
    to_prediction = distance_transform_edt(~predicted, sampling=VOXEL_SIZE_NM)[true]
    return _scores(to_truth, to_prediction)


def with_edt(predicted: Mask, true: Mask) -> Scores:
    """Compute the score with the `edt` package (float32, all cores)."""
    to_truth = edt.edt(~true, anisotropy=VOXEL_SIZE_NM, parallel=0)[predicted]
    to_prediction = edt.edt(~predicted, anisotropy=VOXEL_SIZE_NM, parallel=0)[true]
    return _scores(to_truth.astype(np.float64), to_prediction.astype(np.float64))


def with_cleftnet(predicted: Mask, true: Mask) -> Scores:
    found = cremi_score(predicted, true, VOXEL_SIZE_NM)
    return found.adgt or 0.0, found.adf or 0.0, found.fp_far, found.fn_far


def _scores(to_truth: npt.NDArray[np.float64], to_prediction: npt.NDArray[np.float64]) -> Scores:
    far = (int(np.count_nonzero(distances > 200)) for distances in (to_truth, to_prediction))
    return float(to_truth.mean()), float(to_prediction.mean()), next(far), next(far)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks metrics", description=__doc__)
    parser.add_argument("--shape", default="125,1250,1250", help="z,y,x voxels of 40×4×4 nm (default: a CREMI volume)")
    z, y, x = (int(side) for side in parser.parse_args(arguments).shape.split(","))
    print(machine("numpy", "scipy", "edt"))
    print(f"CREMI score of {z}×{y}×{x} voxels, {SHARE:.0%} clefts")
    print(f"{'':10s}{'time s':>8s}{'peak GiB':>10s}{'ADGT nm':>16s}{'ADF nm':>16s}{'fp far':>9s}{'fn far':>9s}")
    sides = {"SciPy": with_scipy, "edt": with_edt, "cleftnet": with_cleftnet}
    measured: dict[str, Measurement] = {}
    for name, run in sides.items():
        found = measured[name] = measure(prediction_and_truth, run, (z, y, x))
        adgt, adf, fp_far, fn_far = found.result
        row = (
            f"{name:10s}{found.seconds:8.1f}{found.peak_bytes / GIB:10.2f}{adgt:16.9f}{adf:16.9f}{fp_far:9d}{fn_far:9d}"
        )
        print(row, flush=True)
    ours = measured["cleftnet"]
    for name in ("SciPy", "edt"):
        theirs = measured[name]
        difference = max(abs(a - b) for a, b in zip(ours.result, theirs.result, strict=True))
        same = "the same" if math.isclose(difference, 0, abs_tol=1e-6) else "different"
        faster, memory = theirs.seconds / ours.seconds, ours.peak_bytes / theirs.peak_bytes
        print(
            f"against {name}: {faster:.1f} times as fast, {memory:.2f} of the memory, "
            f"{same} numbers (to {difference:.1g})"
        )
