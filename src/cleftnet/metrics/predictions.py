"""What the voxels of a prediction mean: a probability, a mask, or cleft ids, and which of them count as predicted."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from cleftnet.errors import InputError, nearest
from cleftnet.metrics.voxels import UINT8_PROBABILITY, Mask, ScoreHistogram
from cleftnet.volumes import Array, Volume, is_cleft, is_labelled

DEFAULT_THRESHOLD = 0.5  # sane, since probabilities leave the network corrected for its class weights (SPEC §3)


class PredictionKind(StrEnum):
    """What one voxel of a prediction says."""

    PROBABILITY = "probability"  # of being cleft: uint8 0 to 255, or float 0 to 1
    MASK = "mask"  # anything but zero is cleft
    LABELS = "labels"  # the id of its cleft, background 0


def kind_of(prediction: Volume, kind: str | None = None) -> PredictionKind:
    """Tell what a prediction holds from its type: uint8 and floats are probabilities, bool a mask, other integers ids.

    Args:
        prediction: The volume.
        kind: What the user says it is, which goes first.

    Raises:
        InputError: when `kind` is unknown or does not fit the type.

    Example:
        >>> kind_of(Volume(np.zeros((1, 1, 1), np.uint32)))
        <PredictionKind.LABELS: 'labels'>
    """
    dtype = prediction.dtype
    if kind is None:
        if dtype == np.uint8 or dtype.kind == "f":
            return PredictionKind.PROBABILITY
        return PredictionKind.MASK if dtype.kind == "b" else PredictionKind.LABELS
    if kind not in list(PredictionKind):
        raise InputError(f"'{kind}' is no kind of prediction; {nearest(kind, list(PredictionKind))}")
    if kind == PredictionKind.PROBABILITY and dtype != np.uint8 and dtype.kind != "f":
        raise InputError(f"{prediction.address} holds {dtype}; a probability is uint8 (0 to 255) or float (0 to 1)")
    if kind == PredictionKind.LABELS and dtype.kind not in "iu":
        raise InputError(f"{prediction.address} holds {dtype}; cleft ids are integers")
    return PredictionKind(kind)


def choose_threshold(prediction: Volume, kind: PredictionKind, threshold: float | None = None) -> float | None:
    """Return the threshold asked for, else the one stored with the prediction, else 0.5; None for masks and labels.

    Raises:
        InputError: when it lies outside 0 to 1, or is given for a mask or labels.

    Example:
        >>> choose_threshold(Volume(np.zeros((1, 1, 1), np.uint8), threshold=0.7), PredictionKind.PROBABILITY)
        0.7
    """
    if kind is not PredictionKind.PROBABILITY:
        if threshold is not None:
            raise InputError(f"{prediction.address} is a {kind.value} volume, which takes no threshold; leave it out")
        return None
    if threshold is None:
        threshold = DEFAULT_THRESHOLD if prediction.threshold is None else prediction.threshold
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold:g} is no probability; expected 0 to 1")
    return threshold


def predicted_mask(values: Array, threshold: float | None = None) -> Mask:
    """Return the voxels that count as predicted cleft.

    Args:
        values: Probabilities when a threshold is given: uint8 (v means v/255) or float; otherwise a mask or house ids.
        threshold: Voxels of at least this probability are predicted. It is rounded to the type of the probabilities, so that
            0.7 includes a voxel in which float32 0.7 was stored, and 0.2 a voxel of 51 in uint8.

    Example:
        >>> predicted_mask(np.array([50, 51, 52], np.uint8), 0.2).tolist()
        [False, True, True]
    """
    if threshold is None:
        return values if values.dtype == np.bool_ else is_cleft(values)
    if values.dtype == np.uint8:
        return np.asarray(values >= int(np.searchsorted(UINT8_PROBABILITY, threshold)))
    return np.asarray(values >= values.dtype.type(threshold))


def require_labelled(prediction: Volume, ids: Array, valid: Mask) -> None:
    """Refuse predicted ids that are CREMI's *invalid* where the truth is labelled.

    Raises:
        InputError: when there are such voxels: the challenge would count them as clefts.
    """
    if ids.dtype == np.bool_:
        return
    unlabelled = int(np.count_nonzero(~is_labelled(ids) & valid))
    if unlabelled:
        raise InputError(
            f"{prediction.address} marks {unlabelled} voxels invalid or outside where the truth is labelled (the challenge "
            f"would count them as clefts); a prediction must say cleft or background everywhere"
        )


def require_probability(prediction: Volume, histogram: ScoreHistogram) -> None:
    """Refuse uint8 values of nothing but 0 and 1: a mask that would be read as probabilities of at most 1/255.

    Raises:
        InputError: when that is so.
    """
    if prediction.dtype != np.uint8:
        return
    used = np.flatnonzero(histogram.positives + histogram.negatives)
    if used.size and used[-1] == 1:
        raise InputError(
            f"{prediction.address} is uint8 and holds nothing above 1 here: as a probability that is at most 1/255; if 1 "
            f"means cleft, say that it is a mask (kind 'mask'), and if it really is a probability, kind 'probability'"
        )
