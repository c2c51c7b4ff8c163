"""Estimates how much richer in cleft labels are than the volume that they lie in.

Somebody who labels synapses labels what is around them, so that labels hold a larger share of cleft than the volume. A
calibration and a threshold that fit the labels would then find too much in the volume. What the labels do not tell, the base
model does: it calls some share of the labeled tissue cleft, and some share of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cleftnet.geometry import Box, IntZYX
from cleftnet.metrics.calibration import Calibration
from cleftnet.metrics.voxels import Mask
from cleftnet.nets.skeleton import Network
from cleftnet.prediction import whole_logits
from cleftnet.volumes import Array, Volume

SAMPLES = 32  # patches of the volume
MOST = 100.0  # a base that sees nothing does not decide alone


def background_weight(
    logits: Sequence[Array], labelled: Sequence[Mask], calibration: Calibration, sample: Sequence[Array]
) -> float:
    """Return the odds of cleft in the labels as a multiple of those in the volume, both as a model predicts them.

    Args:
        logits: Segmentation logits of the labeled regions.
        labelled: Which of their voxels are labeled.
        calibration: Calibration of the model.
        sample: Segmentation logits of tissue drawn at random from the volume.

    Returns:
        The weight, between 1/100 and 100: above 1 where labels are crowded with synapses.

    Example:
        >>> crowded, volume = np.array([3.0, -3.0]), np.array([3.0, -3.0, -3.0, -3.0])
        >>> round(background_weight([crowded], [np.ones(2, bool)], Calibration(), [volume]), 2)
        2.65
    """
    inside = [calibration.probability(part[known]) for part, known in zip(logits, labelled, strict=True)]
    here, there = _odds(inside), _odds([calibration.probability(part) for part in sample])
    return float(np.clip(here / there, 1 / MOST, MOST)) if here > 0 and there > 0 else 1.0


def sampled_logits(networks: Sequence[Network], volume: Volume, patch: IntZYX, seed: int) -> list[Array]:
    """Predict patches at random places of a volume, with one network after the other.

    Args:
        networks: Networks of an ensemble.
        volume: Gray values as the networks see them, at least as large as the patch.
        patch: Patch size in voxels, z y x.
        seed: Seed of the places.
    """
    rng = np.random.default_rng(seed)
    free = [n - side + 1 for n, side in zip(volume.shape, patch, strict=True)]
    places = rng.integers(0, free, (SAMPLES, 3))
    return [
        whole_logits(networks[number % len(networks)], volume.crop(Box.at(place.tolist(), patch)), overlap=0.0)[0]
        for number, place in enumerate(places)
    ]


def _odds(probabilities: Sequence[Array]) -> float:
    mean = float(np.mean(np.concatenate([part.ravel() for part in probabilities]), dtype=np.float64))
    return mean / (1 - mean) if mean < 1 else 1 / np.finfo(np.float64).eps
