"""What the voxels of a prediction mean, which count as predicted cleft, and how they are read against a truth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import Box, FloatZYX, slabs
from cleftnet.metrics.clefts import Instances
from cleftnet.metrics.voxels import UINT8_PROBABILITY, Mask, ScoreHistogram
from cleftnet.volumes import (
    LABELS,
    OUTSIDE,
    PREDICTION,
    Address,
    Array,
    Volume,
    as_volume,
    is_cleft,
    is_labelled,
    place,
)
from cleftnet.volumes.alignment import Placement

DEFAULT_THRESHOLD = 0.5  # probabilities leave the network corrected for its class weights, docs/method.md, "Losses"


class PredictionKind(StrEnum):
    """What one voxel of a prediction means."""

    PROBABILITY = "probability"  # that the voxel is cleft: uint8 0 to 255, or float 0 to 1
    MASK = "mask"  # cleft where it is not 0
    LABELS = "labels"  # the id of its cleft, background 0


def kind_of(prediction: Volume, kind: str | None = None) -> PredictionKind:
    """Return what a prediction holds: by its type, uint8 and floats are probabilities, bool a mask, other integers ids.

    Args:
        prediction: The volume.
        kind: What the caller says that it holds; None goes by the type.

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
        raise InputError(f"kind='{kind}' is no kind of prediction; {nearest(kind, list(PredictionKind))}")
    if kind == PredictionKind.PROBABILITY and dtype != np.uint8 and dtype.kind != "f":
        raise InputError(f"{prediction.address} holds {dtype}; a probability is uint8 (0 to 255) or float (0 to 1)")
    if kind == PredictionKind.LABELS and dtype.kind not in "iu":
        raise InputError(f"{prediction.address} holds {dtype}; cleft ids are integers")
    return PredictionKind(kind)


def choose_threshold(prediction: Volume, kind: PredictionKind, threshold: float | None = None) -> float | None:
    """Return the threshold given, else the one stored with the prediction, else 0.5; None for masks and labels.

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
        raise InputError(f"threshold={threshold:g} is no probability; expected 0 to 1")
    return threshold


def predicted_mask(values: Array, threshold: float | None = None) -> Mask:
    """Return the voxels that count as predicted cleft.

    Args:
        values: Probabilities where a threshold is given, uint8 (v means v/255) or float; otherwise a mask or cleft ids.
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


def check_labelled(prediction: Volume, ids: Array, valid: Mask) -> None:
    """Check that no predicted id is CREMI's *invalid* where the truth is labeled.

    Raises:
        InputError: when there is one; the challenge would count it as a cleft.
    """
    if ids.dtype == np.bool_:
        return
    unusable = int(np.count_nonzero(~is_labelled(ids) & valid))
    if unusable:
        raise InputError(
            f"{prediction.address} marks {unusable} voxels invalid or outside where the truth is labeled (the challenge "
            f"would count them as clefts); a prediction must say cleft or background everywhere"
        )


def check_probability(prediction: Volume, histogram: ScoreHistogram) -> None:
    """Check that uint8 values are not just 0 and 1: that is a mask, which would be read as probabilities of at most 1/255.

    Raises:
        InputError: when they are.
    """
    if prediction.dtype != np.uint8:
        return
    used = np.flatnonzero(histogram.positives + histogram.negatives)
    if used.size and used[-1] == 1:
        raise InputError(
            f"{prediction.address} is uint8 and holds nothing above 1, as a probability at most 1/255; give kind='mask' "
            f"if 1 means cleft, or kind='probability' if it really is a probability"
        )


class PairVoxels(NamedTuple):
    """A part of a prediction and of its truth in memory.

    Attributes:
        values: The prediction, z y x.
        true: Voxels that are cleft.
        valid: Voxels that are labeled.
        true_ids: Cleft voxels with their ids.
        outside: Whether the truth marks any voxel as outside the labeled region, which the challenge takes for a cleft.
    """

    values: Array
    true: Mask
    valid: Mask
    true_ids: Instances
    outside: bool

    @property
    def true_clefts(self) -> Instances:
        """True clefts: by their ids, or the components of the mask where all cleft voxels share one id."""
        return self.true_ids.or_components(self.true)


@dataclass(frozen=True)
class PredictionPair:
    """A prediction laid over its truth: the region that both cover is read part by part.

    Attributes:
        prediction: The prediction.
        truth: The truth.
        kind: What the prediction holds.
        threshold: Voxels of at least this probability are predicted; None for a mask or labels.
        place: The region that both cover.
    """

    prediction: Volume
    truth: Volume
    kind: PredictionKind
    threshold: float | None
    place: Placement

    @classmethod
    def of(
        cls,
        prediction: Volume | Address | Array,
        truth: Volume | Address | Array,
        *,
        voxel_size_nm: FloatZYX | None = None,
        threshold: float | None = None,
        roi: Box | None = None,
        kind: str | None = None,
    ) -> PredictionPair:
        """Open both volumes and lay one over the other; see `evaluate` for the arguments.

        Raises:
            InputError: when a volume cannot be used, or the two do not fit each other.
        """
        predicted = as_volume(prediction, voxel_size_nm=voxel_size_nm, default=PREDICTION)
        true = as_volume(truth, voxel_size_nm=voxel_size_nm, default=LABELS)
        if true.dtype.kind not in "iub":
            raise InputError(
                f"truth {true.address} holds {true.dtype}; expected label ids or a mask: are the two swapped?"
            )
        chosen = kind_of(predicted, kind)
        threshold = choose_threshold(predicted, chosen, threshold)
        return cls(predicted, true, chosen, threshold, place(predicted, true, roi))

    @property
    def box(self) -> Box:
        """The region that both cover, counted from its own first voxel."""
        return Box.of(self.place.truth_box.shape)

    def predicted(self, values: Array) -> Mask:
        """Return which voxels of the prediction count as cleft."""
        return values != 0 if self.kind is PredictionKind.MASK else predicted_mask(values, self.threshold)

    def read(self, box: Box) -> PairVoxels:
        """Read a part of `box`; the truth slab by slab, since its ids take eight times the memory of its masks.

        Raises:
            InputError: when predicted ids are invalid where the truth is labeled.
        """
        values = self.prediction[box.shift(self.place.prediction_box.start)]
        true, valid = np.zeros(box.shape, np.bool_), np.zeros(box.shape, np.bool_)
        index, ids, outside = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], False
        for slab in slabs(box):
            labels = self.truth[slab.shift(self.place.truth_box.start)]
            labels = labels.view(np.uint8) if labels.dtype == np.bool_ else labels
            inside = slab.relative_to(box.start)
            cleft, labelled = is_cleft(labels), is_labelled(labels)
            valid[inside.slices], true[inside.slices] = labelled, cleft
            outside |= bool((labels[~labelled] == OUTSIDE).any())
            corner = zip(np.nonzero(cleft), inside.start, strict=True)
            index.append(np.ravel_multi_index([axis + first for axis, first in corner], box.shape))
            ids.append(labels[cleft].astype(np.uint64))
        if self.kind is PredictionKind.LABELS:
            check_labelled(self.prediction, values, valid)
        order = np.argsort(places := np.concatenate(index), kind="stable")  # slabs may be parts of sections
        return PairVoxels(values, true, valid, Instances(places[order], np.concatenate(ids)[order]), outside)
