"""What counts as a synapse in one prediction: the operating point stored with it, changed by what the caller gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, InstanceOf, ValidationError, model_validator

from cleftnet.errors import InputError
from cleftnet.metrics.predictions import PredictionKind, choose_threshold
from cleftnet.models.operating_point import MAX_GAP, Length, OperatingPoint, Probability
from cleftnet.settings import Settings
from cleftnet.volumes import Address, Volume

log = logging.getLogger(__name__)

REACH_NM = 60.0  # past the membrane and its density, but short of the next neurite but one
DEFAULT_SIZE_NM3 = 2e5  # a cleft of 100 × 100 × 20 nm; all whole clefts of vnc-l3 are larger
STORED = "synapses"  # key of the operating point in the provenance of a prediction
FITTED_FOR = ("threshold", "gap", "hole_nm")  # decide what a component is

Gap = Annotated[int, Field(ge=0, le=MAX_GAP)]


class SynapseSettings(Settings):
    """What counts as a synapse, and which neurons are looked for at each.

    None takes the value of the operating point: the one stored with the prediction, else `DEFAULTS` in `docs/synapses.md`.

    Attributes:
        threshold: Voxels of at least this probability are cleft.
        seed_threshold: Hysteresis: leaves out synapses without a voxel of at least this probability; 0 leaves out none.
        gap: Fills runs of at most so many sections without cleft, between two cleft voxels of one column (same y and x).
        hole_nm: Fills holes within a section, background that cleft encloses, up to this width along y and x; 0 fills none.
        min_size_nm3: Leaves out synapses of a smaller volume.
        min_score: Leaves out synapses of a lower score.
        point: Operating point that is used instead of the one stored with the prediction, such as `tune(...).point`.
        raw: Gray values that the prediction was made from, for a classifier that asks for them; None opens the volume whose
            address is stored with the prediction.
        kind: What the prediction holds ("probability", "mask", "labels"), where its type does not show it.
        segmentation: Ids of neurons, 0 for none, which cover the prediction; the table then names the neurons that meet at
            each synapse.
        reach_nm: How far from a synapse contact with neurons is counted; at least one voxel along each axis.
    """

    threshold: Probability | None = None
    seed_threshold: Probability | None = None
    gap: Gap | None = None
    hole_nm: Length | None = None
    min_size_nm3: Length | None = None
    min_score: Probability | None = None
    point: OperatingPoint | None = None
    raw: InstanceOf[Volume] | Address | InstanceOf[np.ndarray] | None = Field(None, exclude=True)
    kind: str | None = None
    segmentation: InstanceOf[Volume] | Address | InstanceOf[np.ndarray] | None = Field(None, exclude=True)
    reach_nm: Length = Field(REACH_NM, exclude=True)

    @model_validator(mode="after")
    def _seeds_are_higher(self) -> Self:
        check_seeds(self.threshold, self.seed_threshold)
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The values of the operating point that the caller chose."""
        names = (*FITTED_FOR, "seed_threshold", "min_size_nm3", "min_score")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class UsedPoint:
    """The operating point that is used for a prediction, and where it comes from.

    Attributes:
        point: The operating point.
        origin: Such as "stored with the prediction".
    """

    point: OperatingPoint
    origin: str

    @classmethod
    def of(cls, prediction: Volume, kind: PredictionKind, settings: SynapseSettings) -> UsedPoint:
        """Take the operating point of the settings, the one stored with the prediction, or the default; then change it.

        A classifier belongs to the components it was fitted on. Where the caller changes threshold, gap or holes, it is left
        out, and the default size decides in its place.

        Raises:
            InputError: when the stored operating point is damaged, or a value does not fit the prediction.
        """
        base = cls._base(prediction, kind, settings)
        if not settings.given:
            return base
        point, changed = base.point, {**settings.given}
        fitted = all(getattr(point, name) == changed.get(name, getattr(point, name)) for name in FITTED_FOR)
        if point.classifiers and not fitted:
            log.info(
                "the classifier was fitted for another threshold, gap or hole width: scores are mean probabilities"
            )
            changed = {"classifiers": (), "min_score": 0.0, "min_size_nm3": DEFAULT_SIZE_NM3} | changed
        if "seed_threshold" not in changed and point.seed_threshold < changed.get("threshold", 0.0):
            changed["seed_threshold"] = 0.0  # every synapse would have such a voxel
        point = point.changed(**changed)
        check_seeds(point.threshold, point.seed_threshold)
        names = ", ".join(f"{name}={value:g}" for name, value in settings.given.items())
        return cls(point, f"{base.origin}, changed by {names}")

    @classmethod
    def _base(cls, prediction: Volume, kind: PredictionKind, settings: SynapseSettings) -> UsedPoint:
        threshold = choose_threshold(prediction, kind, settings.threshold)
        if threshold is None:  # a mask or labels, which somebody decided on
            return cls(OperatingPoint(threshold=1.0), "default for masks and labels")
        if settings.point is not None:
            return cls(settings.point, "given")
        stored = stored_point(prediction.provenance, prediction.address)
        if stored is not None:
            return cls(stored, "stored with the prediction")
        return cls(OperatingPoint(threshold=threshold, min_size_nm3=DEFAULT_SIZE_NM3), "default")


def stored_point(provenance: Mapping[str, Any], address: str) -> OperatingPoint | None:
    """Return the operating point that is stored with a prediction, or None.

    Args:
        provenance: Provenance of the prediction.
        address: Address of the prediction, for messages.

    Raises:
        InputError: when it is damaged.
    """
    if STORED not in provenance:
        return None
    try:
        return OperatingPoint.model_validate(provenance[STORED])
    except (ValidationError, InputError) as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(error, ValidationError) else error
        raise InputError(
            f"{address}: the operating point stored with the prediction is damaged ({reason}); predict again, or give another "
            f"one: point=..."
        ) from None


def describe_point(provenance: Mapping[str, Any]) -> str | None:
    """Return the operating point stored with a prediction in one line; None where there is none.

    Example:
        >>> describe_point({"synapses": {"threshold": 0.4}})
        'threshold 0.4, gap 0, holes 100 nm, smallest size 0 nm³, scores are mean probabilities'
    """
    try:
        point = stored_point(provenance, "the prediction")
    except InputError as error:
        return str(error)
    return None if point is None else point.describe()


def check_seeds(threshold: float | None, seed_threshold: float | None) -> None:
    """Raise `InputError` when the threshold of seeds lies below that of the other voxels: every synapse would have one."""
    if threshold is not None and seed_threshold and seed_threshold < threshold:
        raise InputError(
            f"seed_threshold={seed_threshold:g} is below threshold={threshold:g}, so that every synapse would pass; choose a "
            f"higher one, or 0 for no seeds"
        )
