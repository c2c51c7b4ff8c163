"""Makes a review set from the results of `find_synapses`: selects candidates and keeps their voxels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from cleftnet.blockwise import ExecutionSettings
from cleftnet.errors import InputError
from cleftnet.files import refuse_existing, replacing
from cleftnet.geometry import Box
from cleftnet.metrics.predictions import PredictionKind
from cleftnet.metrics.voxels import Integers, Mask
from cleftnet.review.review_set import (
    ABOUT,
    CANDIDATES,
    DECISIONS,
    MASKS,
    ReviewInputs,
    ReviewSet,
    open_review,
    same_keys,
)
from cleftnet.review.selection import BOUNDS, COLUMNS, KEYS, ReviewSettings, select
from cleftnet.synapses import Synapses, SynapseSettings, find_synapses
from cleftnet.synapses.finding import FOUND_IN, LABEL_FORMATS
from cleftnet.synapses.judging import RAW_ADDRESS
from cleftnet.synapses.rules import stored_point
from cleftnet.synapses.table import TABLE_FORMATS, read_synapse_table
from cleftnet.volumes import (
    LABELS,
    PREDICTION,
    Address,
    Volume,
    as_volume,
    open_volume,
    place,
    sampled_checksums,
)

DECIMALS = {"weight": 6, "z_nm": 2, "y_nm": 2, "x_nm": 2, "score": 5, "max_probability": 5, "volume_nm3": 1}


def make_review(
    synapses: str | Path,
    out: str | Path,
    *,
    prediction: Volume | Address | None = None,
    raw: Volume | Address | None = None,
    settings: ReviewSettings = ReviewSettings(),  # noqa: B008 - it is frozen
    execution: ExecutionSettings = ExecutionSettings(),  # noqa: B008 - so is this
    overwrite: bool = False,
) -> ReviewSet:
    """Select synapses to look at, and places where one was probably missed.

    The components of the prediction are found once more, at the same operating point but of any score and down to a smaller
    size. Those that are no synapse yet may be missed ones. The folder gets `candidates.csv`, `masks.npz` (their voxels),
    `review.json` (what it was made from) and an empty `decisions.jsonl`. The same input and seed give the same candidates.

    Args:
        synapses: The folder that `find_synapses` or `cleftnet synapses` wrote.
        out: Folder to make.
        prediction: The prediction that the synapses were found in; None opens the address stored with their labels.
        raw: Gray values; None takes the address stored with the labels, if any.
        settings: Numbers of candidates, and the seed.
        execution: The size of the blocks, and which processes compute them.
        overwrite: Whether an existing review is replaced, its decisions included.

    Raises:
        InputError: when the folder holds no synapses, they do not fit the prediction, or `out` exists.
        UnfinishedError: when blocks failed or the workers were lost, and the input is not the cause.
    """
    target = Path(out)
    refuse_existing(target, overwrite)
    labels, table = _read(Path(synapses))
    given = prediction if prediction is not None else labels.provenance.get(FOUND_IN)
    if given is None:
        raise InputError(f"{labels.address} stores no address of its prediction; give it: prediction=...")
    whole = as_volume(given, voxel_size_nm=labels.voxel_size_nm, default=PREDICTION)
    predicted = whole.crop(place(whole, labels, labels.box).prediction_box)
    if raw is None:
        raw = labels.provenance.get(RAW_ADDRESS)
    gray = None if raw is None else as_volume(raw, voxel_size_nm=labels.voxel_size_nm)
    work = target.with_name(f"{target.name}.unfinished")
    how = _of_any_size(labels, settings, gray)
    found = find_synapses(predicted, work, settings=how, execution=execution, overwrite=True)
    ids = _synapse_ids(found.table, table, whole)
    chosen = select(found.table, ids, settings, classified=bool(found.used.point.classifiers))
    inputs = _inputs(labels, predicted, gray, settings, ids)
    with replacing(target, overwrite) as folder:
        folder.mkdir()
        _write_table(chosen[list(COLUMNS)], folder / CANDIDATES)
        np.savez_compressed(folder / MASKS, **cast(Any, _masks(chosen, found)))
        (folder / ABOUT).write_text(inputs.model_dump_json(indent=1) + "\n")
        (folder / DECISIONS).touch()
    shutil.rmtree(work)
    return open_review(target)


def _read(folder: Path) -> tuple[Volume, pd.DataFrame]:
    """Open the labels and read the table of a folder of synapses."""
    labels = next((path for end in LABEL_FORMATS if (path := folder / f"labels.{end}").exists()), None)
    table = next((path for end in TABLE_FORMATS if (path := folder / f"synapses.{end}").exists()), None)
    if labels is None or table is None:
        raise InputError(f"{folder} holds no synapses; expected a folder that find_synapses (cleftnet synapses) wrote")
    volume = open_volume(labels, default=LABELS)
    if stored_point(volume.provenance, volume.address) is None:
        raise InputError(f"{volume.address} does not say how its synapses were found; run cleftnet synapses again")
    rows = read_synapse_table(table, KEYS)
    if len(rows) and not all(is_numeric_dtype(rows[name]) and np.isfinite(rows[name]).all() for name in KEYS):
        raise InputError(
            f"{table} cannot be read (not every id, bound and volume is a number); run cleftnet synapses again"
        )
    return volume, rows


def _of_any_size(labels: Volume, settings: ReviewSettings, raw: Volume | None) -> SynapseSettings:
    """Return settings that find every component that could be a synapse, and give it the same score."""
    point = stored_point(labels.provenance, labels.address)
    assert point is not None, "checked when the labels were opened"
    kind = str(labels.provenance["kind"])
    smallest = min(settings.smallest_nm3, point.min_size_nm3)
    if kind == PredictionKind.PROBABILITY:
        everything = point.changed(min_size_nm3=smallest, min_score=0.0, seed_threshold=0.0)
        return SynapseSettings(point=everything, kind=kind, raw=raw)
    return SynapseSettings(gap=point.gap, hole_nm=point.hole_nm, min_size_nm3=smallest, kind=kind)


def _synapse_ids(components: pd.DataFrame, synapses: pd.DataFrame, prediction: Volume) -> Integers:
    """Return the synapse that each component is, or 0; every synapse must be one of the components."""
    ids = dict(zip(same_keys(synapses), synapses["synapse_id"].tolist(), strict=True))
    found = np.array([ids.get(key, 0) for key in same_keys(components)], np.int64)
    if missing := sorted(set(ids.values()) - set(found.tolist())):
        raise InputError(
            f"synapse {missing[0]} is not in {prediction.address}; give the prediction that the synapses were found in: "
            f"prediction=..."
        )
    return found


def _inputs(
    labels: Volume, prediction: Volume, raw: Volume | None, settings: ReviewSettings, ids: Integers
) -> ReviewInputs:
    """Return what `review.json` says."""
    point = stored_point(labels.provenance, labels.address)
    assert point is not None, "checked when the labels were opened"
    source = prediction.source
    if source is None:
        raise InputError("the prediction lies in memory, and a review opens it again; give the address of a file")
    return ReviewInputs(
        settings=settings,
        labels=labels.identity(),
        prediction=source,
        raw=None if raw is None else raw.source,
        kind=str(labels.provenance["kind"]),
        point=point,
        synapses=int((ids > 0).sum()),
        left_out=int((ids == 0).sum()),
        shape=labels.shape,
        voxel_size_nm=labels.voxel_size_nm,
        offset_nm=labels.offset_nm,
        checksums={"labels": _checksums(labels), "prediction": _checksums(prediction)},
    )


def _checksums(volume: Volume) -> tuple[int | None, ...]:
    """Return checksums of a sample of the voxels, all of which can be read: a repaired chunk would make decisions invalid."""
    sums = sampled_checksums(volume)
    if None in sums:
        raise InputError(f"some voxels of {volume.address} cannot be read; the file is damaged: make or fetch it again")
    return sums


def _masks(chosen: pd.DataFrame, found: Synapses) -> dict[str, Mask]:
    """Return the voxels of each candidate in its bounding box, bool z y x, by its id."""
    masks = {}
    for row in chosen.to_dict("records"):
        z0, y0, x0, z1, y1, x1 = (int(row[name]) for name in BOUNDS)
        masks[str(row["id"])] = found.labels[Box((z0, y0, x0), (z1, y1, x1))] == row["component"]
    return masks


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the candidates as CSV, rounded."""
    text = {
        name: [f"{v:.{DECIMALS[name]}f}" for v in table[name]] if name in DECIMALS else table[name] for name in table
    }
    with path.open(
        "w", newline="", encoding="ascii"
    ) as file:  # pandas would send it to a path that reads like an address
        pd.DataFrame(text).to_csv(file, index=False, lineterminator="\n")
