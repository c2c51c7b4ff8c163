"""Writes a prediction as a file for the CREMI challenge, and checks the file by reading it back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
import numpy.typing as npt

from cleftnet.datasets.validation import Finding, check_cremi
from cleftnet.errors import InputError
from cleftnet.files import replacing
from cleftnet.geometry import slabs
from cleftnet.metrics.clefts import CONNECTIVITY
from cleftnet.metrics.predictions import (
    PredictionKind,
    check_labelled,
    check_probability,
    choose_threshold,
    kind_of,
    predicted_mask,
)
from cleftnet.metrics.voxels import ScoreHistogram
from cleftnet.progress import bar
from cleftnet.volumes import PREDICTION, Address, Volume, expand, open_volume, write_cremi

CHALLENGE_SHAPE = (125, 1250, 1250)  # the shape of A+, B+ and C+
LARGEST_VOX = 2**29  # components are labeled in memory, about 5 bytes a voxel; 2.7 times a challenge volume
ENDINGS = (".hdf", ".h5", ".hdf5")


def write_submission(
    prediction: Volume | Address,
    out: Address,
    *,
    threshold: float | None = None,
    kind: str | None = None,
    one_id: bool = False,
    raw: Volume | Address | None = None,
    overwrite: bool = False,
) -> list[Finding]:
    """Write a prediction as a CREMI challenge file, and read it back to check it.

    Clefts of a probability or a mask are its 26-connected components, labeled in memory (about 5 bytes a voxel). The challenge
    scores voxels and not ids, so `one_id` scores the same and holds one slab in memory. Cleft ids of a prediction are kept.

    Args:
        prediction: A volume or its address: probability, mask or cleft ids, with its voxel size.
        out: The file to make (`.hdf`); it appears when it has passed the check.
        threshold: Voxels of at least this probability are cleft; when None, the threshold stored with the prediction, or 0.5.
        kind: What the prediction holds ("probability", "mask", "labels"), where its type does not tell.
        one_id: Give all clefts the id 1.
        raw: The raw volume predicted from; the file is checked to lie on its grid.
        overwrite: Whether a file already there may be replaced.

    Returns:
        The findings of the check, none of them an error.

    Raises:
        InputError: when the prediction cannot be used, the check finds an error (nothing is written then), or `out` exists.

    Example:
        >>> import tempfile
        >>> probability = np.zeros((2, 4, 4), np.uint8)
        >>> probability[0, 1:3, 1:3] = 200
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     findings = write_submission(Volume(probability, (40, 4, 4)), f"{folder}/A+.hdf")
        >>> print(findings[-1])
        warning: the volume is 2×4×4 voxels; the challenge's are 125×1250×1250
    """
    path = Path(expand(out))
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: the challenge takes HDF5 files; choose a name that ends in {', '.join(ENDINGS)}")
    predicted = prediction if isinstance(prediction, Volume) else open_volume(prediction, default=PREDICTION)
    around = raw if raw is None or isinstance(raw, Volume) else open_volume(raw)
    with replacing(path, overwrite) as temporary:
        ids = _ids(predicted, threshold, kind, one_id)
        with bar("writing") as progress:
            write_cremi(temporary, clefts=ids, progress=progress)
        with bar("reading back") as progress:
            findings = check_cremi(temporary, submission=True, raw=around, progress=progress)
        errors = [finding.text for finding in findings if finding.verdict == "error"]
        if errors:
            raise InputError(f"{predicted.address} makes no valid submission: {'; '.join(errors)}")
    return [*findings, _check_shape(predicted)]


def _check_shape(prediction: Volume) -> Finding:
    shape, wanted = ("×".join(map(str, sides)) for sides in (prediction.shape, CHALLENGE_SHAPE))
    if prediction.shape == CHALLENGE_SHAPE:
        return Finding("ok", f"the volume is {shape} voxels, as the challenge's")
    return Finding("warning", f"the volume is {shape} voxels; the challenge's are {wanted}")


def _ids(prediction: Volume, threshold: float | None, kind: str | None, one_id: bool) -> Volume:
    """Return the prediction as cleft ids with background 0."""
    meant = kind_of(prediction, kind)
    chosen = choose_threshold(prediction, meant, threshold)
    if meant is PredictionKind.LABELS and not one_id:
        return prediction
    if meant is PredictionKind.PROBABILITY:
        _require_probabilities(prediction, said=kind is not None)
    mask = replace(prediction, store=_Predicted(prediction, chosen, meant), threshold=None)
    return mask if one_id else _components(mask)


def _require_probabilities(prediction: Volume, said: bool) -> None:
    """Refuse logits, and masks that would be taken for probabilities of at most 1/255, by the extremes of every slab.

    Raises:
        InputError: when that is so.
    """
    parts = (prediction[slab] for slab in slabs(prediction.box))
    extremes = np.array([extreme for part in parts for extreme in (part.min(), part.max())], prediction.dtype)
    histogram = ScoreHistogram.of(extremes, np.zeros(extremes.shape, np.bool_))
    if not said:
        check_probability(prediction, histogram)


@dataclass(frozen=True)
class _Predicted:
    """The store of a predicted mask, computed as it is read: 1 where a voxel is cleft."""

    prediction: Volume
    threshold: float | None
    kind: PredictionKind

    @property
    def shape(self) -> tuple[int, ...]:
        return self.prediction.shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> npt.NDArray[np.uint8]:
        values = np.asarray(self.prediction.store[index])
        if self.kind is PredictionKind.LABELS:
            check_labelled(self.prediction, values, np.ones(values.shape, np.bool_))
        mask = values != 0 if self.kind is PredictionKind.MASK else predicted_mask(values, self.threshold)
        return mask.view(np.uint8)


def _components(mask: Volume) -> Volume:
    """Number the components of a mask.

    Raises:
        InputError: when the mask is too large to be numbered in one piece.
    """
    if mask.box.voxels > LARGEST_VOX:
        raise InputError(
            f"{mask.address} has {mask.box.voxels:,} voxels; clefts are numbered in up to {LARGEST_VOX:,} (about 5 bytes "
            f"each): give all clefts one id (one_id=True), which scores the same, or cleft ids of your own"
        )
    whole = np.empty(mask.shape, np.uint8)
    for slab in slabs(mask.box):
        whole[slab.slices] = mask[slab]
    return replace(mask, store=cc3d.connected_components(whole, connectivity=CONNECTIVITY))
