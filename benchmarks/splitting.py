"""Splitting touching clefts: connected components against watersheds of the predicted distance."""

from __future__ import annotations

import argparse
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cleftnet.metrics.clefts import Instances, components
from cleftnet.metrics.matching import pair_by_overlap
from cleftnet.metrics.predictions import PredictionKind
from cleftnet.synapses import SynapseSettings
from cleftnet.synapses.segmentation import Segmenter
from cleftnet.volumes import DISTANCE_NAME, LABELS, PROBABILITY_NAME, intensity, is_labelled, open_volume, place

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]
Heights = npt.NDArray[np.floating]

NEIGHBORS = [o for o in itertools.product((-1, 0, 1), repeat=3) if any(o)]
LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9)  # markers: where the distance exceeds one of these
DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.3)  # markers: maxima with a drop of one of these around them


def watershed(height: Heights, markers: Labels, mask: Mask) -> Labels:
    """Flood from markers inside a mask, highest first, over 26 neighbors; regions without a marker become clefts too."""
    found, order = markers.copy(), itertools.count()
    heap = [
        (-height[place], next(order), place) for place in zip(*map(np.ndarray.tolist, np.nonzero(markers)), strict=True)
    ]
    heapq.heapify(heap)
    while heap:
        _, _, (z, y, x) = heapq.heappop(heap)
        for dz, dy, dx in NEIGHBORS:
            near = (z + dz, y + dy, x + dx)
            if (
                min(near) >= 0
                and all(n < side for n, side in zip(near, mask.shape, strict=True))
                and mask[near]
                and not found[near]
            ):
                found[near] = found[z, y, x]
                heapq.heappush(heap, (-height[near], next(order), near))
    rest, _ = components(mask & (found == 0))
    return np.where(rest > 0, rest.astype(np.int64) + found.max(), found)


def maxima(height: Heights, depth: float) -> Mask:
    """Return the maxima from which the height drops by at least `depth` before it reaches a higher one."""
    lowered = height - depth
    while True:  # morphological reconstruction by dilation
        grown = np.minimum(ndimage.maximum_filter(lowered, size=3), height)
        if np.array_equal(grown, lowered):
            return np.asarray(height - lowered > depth - 1e-6)
        lowered = grown


def ways(distance: Heights, mask: Mask) -> Iterator[tuple[str, Labels]]:
    """Yield the name and result of each way to split a mask into clefts."""
    yield "components", components(mask)[0]
    for level in LEVELS:
        yield f"watershed, distance > {level}", watershed(distance, _markers((distance > level) & mask), mask)
    for depth in DEPTHS:
        yield (
            f"watershed, maxima of depth {depth}",
            watershed(distance, _markers(maxima(np.where(mask, distance, -1), depth) & mask), mask),
        )


def _markers(mask: Mask) -> Labels:
    return components(mask)[0].astype(np.int64)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks splitting", description=__doc__)
    parser.add_argument("prediction", help="prediction with a distance, written by cleftnet predict")
    parser.add_argument("truth", help="labels")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.4, 0.3, 0.2, 0.1])
    parser.add_argument("--min-size", type=float, default=5e5, help="nm³")
    given = parser.parse_args(arguments)
    probability, distance = (open_volume(f"{given.prediction}/{name}") for name in (PROBABILITY_NAME, DISTANCE_NAME))
    truth = open_volume(given.truth, default=LABELS)
    met = place(probability, truth)
    labels = truth[met.truth_box]
    heights, true = intensity(distance[met.prediction_box]), Instances.of_labels(labels)
    print(f"{len(true)} true clefts; predicted ones of {given.min_size:g} nm³ and more")
    print(f"{'threshold':>9s} {'':32s}{'predicted':>10s}{'matched':>8s}{'F1':>7s}{'splits':>7s}{'merges':>7s}")
    for threshold in given.thresholds:
        segmenter = Segmenter.of(SynapseSettings(), PredictionKind.PROBABILITY, threshold, met.voxel_size_nm)
        mask = segmenter.mask(probability[met.prediction_box])
        for name, found in ways(heights, mask):
            voxels = np.bincount(found.ravel())
            small = voxels * float(np.prod(met.voxel_size_nm)) < given.min_size * (1 - 1e-9)
            kept = Instances.of_labels(np.where(small[found], 0, found), is_labelled(labels))
            s = pair_by_overlap(kept, true).scores
            print(
                f"{threshold:9.2f} {name:32s}{s.predicted:10d}{s.matched:8d}{s.f1 or 0:7.3f}{s.splits:7d}{s.merges:7d}",
                flush=True,
            )
