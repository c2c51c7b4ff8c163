"""Scores of a full-sized volume: CREMI score, AUC and whole clefts, each against a plain way with a named library."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cc3d
import edt
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from benchmarks.measure import Ratio, machine, measure
from cleftnet.geometry import Block, Box
from cleftnet.metrics.cleft_tally import ObjectTally
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.distances import cremi_score
from cleftnet.metrics.evaluation import evaluate
from cleftnet.metrics.predictions import PairVoxels
from cleftnet.metrics.voxels import ScoreHistogram

Mask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.uint64]
Counts = tuple[int, int, int]  # true, predicted and matched clefts
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
    """Compute the score with cleftnet."""
    found = cremi_score(predicted, true, VOXEL_SIZE_NM)
    return found.adgt or 0.0, found.adf or 0.0, found.fp_far, found.fn_far


def _scores(to_truth: npt.NDArray[np.float64], to_prediction: npt.NDArray[np.float64]) -> Scores:
    far = (int(np.count_nonzero(distances > 200)) for distances in (to_truth, to_prediction))
    return float(to_truth.mean()), float(to_prediction.mean()), next(far), next(far)


def probability_and_truth(shape: tuple[int, int, int]) -> tuple[Probability, Ids]:
    """Return random probabilities, uint8, high in the prediction and low elsewhere, and the ids of the true clefts."""
    predicted, true = prediction_and_truth(shape)
    rng = np.random.default_rng(1)
    probability = rng.integers(0, 128, shape, np.uint8)
    probability[predicted] += np.uint8(128)
    return probability, cc3d.connected_components(true.view(np.uint8), connectivity=26).astype(np.uint64)


def auc_with_sklearn(probability: Probability, ids: Ids) -> float:
    """Compute the AUC by sorting all voxels."""
    return float(roc_auc_score((ids > 0).ravel(), probability.ravel()))


def auc_with_cleftnet(probability: Probability, ids: Ids) -> float:
    """Compute the AUC with cleftnet."""
    return ScoreHistogram.of(probability, ids > 0).auc or 0.0


def clefts_with_scipy(probability: Probability, ids: Ids) -> Counts:
    """Match components with true clefts by the voxels they share, all pairs in one dense table."""
    found, number = cc3d.connected_components((probability >= 128).view(np.uint8), connectivity=26, return_N=True)
    true = np.unique(ids[ids > 0])
    both = (found > 0) & (ids > 0)
    pairs, counts = np.unique(np.stack([found[both], np.searchsorted(true, ids[both])]), axis=1, return_counts=True)
    shared = np.zeros((number, true.size), np.int64)
    shared[pairs[0].astype(int) - 1, pairs[1].astype(int)] = counts
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return true.size, number, int(np.count_nonzero(shared[rows, columns]))


def clefts_with_cleftnet(probability: Probability, ids: Ids) -> Counts:
    """Match whole clefts with cleftnet, which also ranks them and counts splits, merges and sizes."""
    box, true = Box.of(ids.shape), ids > 0
    tally = ObjectTally(box)
    part = PairVoxels(probability, true, np.ones_like(true), Instances.of_labels(ids), outside=False)
    tally.add(part, probability >= 128, Block(box, box), is_probability=True)
    found = tally.scores(VOXEL_SIZE_NM, None, 255)
    return found.true, found.predicted, found.matched


def plainly(probability: Probability, ids: Ids) -> tuple[Scores, float, Counts]:
    """Compute all three the plain way, as a script of one's own would."""
    scores = with_scipy(probability >= 128, ids > 0)
    return scores, auc_with_sklearn(probability, ids), clefts_with_scipy(probability, ids)


def evaluated(probability: Probability, ids: Ids) -> tuple[Scores, float, Counts]:
    """Compute all three by `cleftnet.evaluate`, with everything else that it reports."""
    found = evaluate(probability, ids, voxel_size_nm=VOXEL_SIZE_NM, threshold=128 / 255)
    d, o = found.scores.distances, found.objects
    return (d.adgt or 0.0, d.adf or 0.0, d.fp_far, d.fn_far), found.auc or 0.0, (o.true, o.predicted, o.matched)


class Part(NamedTuple):
    """A score, its input, our way, and others."""

    what: str
    make_input: Callable[..., tuple[Any, ...]]
    ours: Callable[..., Any]
    others: dict[str, Callable[..., Any]]


PARTS = {
    "cremi": Part("CREMI score", prediction_and_truth, with_cleftnet, {"SciPy": with_scipy, "edt": with_edt}),
    "auc": Part("AUC", probability_and_truth, auc_with_cleftnet, {"scikit-learn": auc_with_sklearn}),
    "clefts": Part(
        "whole clefts", probability_and_truth, clefts_with_cleftnet, {"cc3d, NumPy and SciPy": clefts_with_scipy}
    ),
    "all": Part("evaluate, all scores", probability_and_truth, evaluated, {"the plain ways": plainly}),
}


def compare(name: str, shape: tuple[int, int, int], peers: int | None = None) -> Iterator[Ratio]:
    """Measure a part of `PARTS` against its peers, or only the first ones."""
    part = PARTS[name]
    ours = measure(part.make_input, part.ours, shape)
    for peer, run in itertools.islice(part.others.items(), peers):
        theirs = measure(part.make_input, run, shape)
        same = np.allclose(_numbers(ours.result), _numbers(theirs.result), rtol=1e-9, atol=1e-6)
        yield Ratio(part.what, peer, ours, theirs, bool(same))


def _numbers(result: Any) -> list[float]:
    return [float(result)] if np.isscalar(result) else [number for part in result for number in _numbers(part)]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks metrics", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all of them", default=[]
    )
    parser.add_argument("--shape", default="125,1250,1250", help="z,y,x voxels of 40×4×4 nm (default: a CREMI volume)")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    z, y, x = (int(side) for side in given.shape.split(","))
    print(machine("numpy", "scipy", "edt", "scikit-learn", "connected-components-3d"))
    print(f"scores of {z}×{y}×{x} voxels, {SHARE:.0%} clefts")
    for name in given.parts or PARTS:
        for ratio in compare(name, (z, y, x)):
            print(ratio, flush=True)
