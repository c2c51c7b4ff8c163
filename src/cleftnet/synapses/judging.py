"""Chooses the classifier whose features can be measured in a prediction, and scores components with it."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import FloatZYX
from cleftnet.models.operating_point import ObjectClassifier, OperatingPoint
from cleftnet.synapses.appearance import PlacedRaw, window_vox
from cleftnet.synapses.blocks import Surroundings
from cleftnet.synapses.features import FEATURES, RAW_FEATURES, object_features
from cleftnet.synapses.merging import SynapseSums
from cleftnet.synapses.rules import UsedPoint
from cleftnet.volumes import Address, Array, Volume

log = logging.getLogger(__name__)

RAW_ADDRESS = "raw"  # key of raw's address in the provenance of a prediction


def judged(
    used: UsedPoint, prediction: Volume, raw: Volume | Address | Array | None
) -> tuple[UsedPoint, Surroundings | None]:
    """Choose the classifier, and open raw where it asks for it.

    Args:
        used: The operating point; its first classifier whose features can be measured is kept.
        prediction: The prediction.
        raw: Gray values that the prediction was made from; None opens the volume whose address is stored with it.

    Returns:
        The operating point with one classifier at most, and what it needs to see; None without a classifier.

    Raises:
        InputError: when a classifier asks for a feature that this version does not know, raw that was given does not fit, or no
            classifier can do without raw.
    """
    classifiers = used.point.classifiers
    if not classifiers:
        return used, None
    for classifier in classifiers:
        _check_features(classifier, prediction)
    window = window_vox(prediction.voxel_size_nm)
    source = raw
    if raw is None and needs_raw(classifiers[0]):
        source = stored_raw(prediction)
    chosen = next((one for one in classifiers if source is not None or not needs_raw(one)), None)
    if chosen is None:
        raise InputError(f"the classifier of {prediction.address} looks at raw, which is not at hand; give it: raw=...")
    point = used.point.changed(classifiers=(chosen,))
    placed = PlacedRaw.of(source, prediction) if needs_raw(chosen) and source is not None else None
    return replace(used, point=point), Surroundings(window, placed)


def needs_raw(classifier: ObjectClassifier) -> bool:
    """Return whether a classifier looks at gray values."""
    return not RAW_FEATURES.keys().isdisjoint(classifier.features)


def scored(sums: SynapseSums, table: pd.DataFrame, point: OperatingPoint, voxel_size_nm: FloatZYX) -> pd.DataFrame:
    """Return a table with the score of the classifier; the mean probability stays where there is none.

    Args:
        sums: Sums over the voxels of the components.
        table: Their table.
        point: Operating point with one classifier at most.
        voxel_size_nm: Voxel size z y x.
    """
    if not point.classifiers:
        return table
    # rounded, so that the last bits of a sum over blocks decide nothing
    return table.assign(
        score=np.round(point.classifiers[0].probability(object_features(sums, table, voxel_size_nm)), 9)
    )


def _check_features(classifier: ObjectClassifier, prediction: Volume) -> None:
    unknown = [name for name in classifier.features if name not in FEATURES]
    if unknown:
        raise InputError(
            f"the classifier of {prediction.address} asks for '{unknown[0]}', which this version of cleftnet does not measure "
            f"({nearest(unknown[0], list(FEATURES))}); update cleftnet, or tune the model again"
        )


def stored_raw(prediction: Volume) -> Volume | None:
    """Return the volume that a prediction was made from; None, with a message, where it cannot be opened."""
    address = prediction.provenance.get(RAW_ADDRESS)
    if address is None:
        log.info(
            f"{prediction.address} stores no address of raw, so synapses are judged without it; give raw=... to use it"
        )
        return None
    try:
        return PlacedRaw.of(str(address), prediction).raw
    except InputError as error:
        log.warning(f"synapses are judged without raw, which raw=... can give: {error}")
        return None
