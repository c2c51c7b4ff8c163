"""Checks a file against the conventions of the CREMI challenge, and reports every finding with its severity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX, nm_to_voxels
from cleftnet.volumes import (
    CLEFT_ZERO,
    CLEFTS_NAME,
    CREMI_BACKGROUND,
    FILE_FORMAT,
    RAW_NAME,
    Address,
    CremiLabels,
    Hdf5Store,
    Progress,
    Volume,
    expand,
    label_statistics,
    read_lengths,
    reading_hdf5,
)

Verdict = Literal["ok", "warning", "error"]

CREMI_VOXEL_SIZE_NM: FloatZYX = (40.0, 4.0, 4.0)
_ORDER: tuple[Verdict, ...] = ("ok", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One result of a check: its severity, and a sentence that says what to do where it is not ok."""

    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text}"


def overall(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of several findings.

    Example:
        >>> overall([Finding("ok", "12 clefts"), Finding("warning", "no raw")])
        'warning'
    """
    return max((finding.verdict for finding in findings), key=_ORDER.index, default="ok")


@dataclass(frozen=True)
class _DatasetPlace:
    """The position of a dataset, by its attributes."""

    name: str
    shape: tuple[int, ...]
    resolution: FloatZYX | None
    offset_nm: FloatZYX


def check_cremi(
    path: Address, *, submission: bool = False, raw: Volume | None = None, progress: Progress | None = None
) -> list[Finding]:
    """Check a CREMI file against the conventions in docs/method.md, "Data", reading its labels once, slab by slab.

    Args:
        path: The HDF5 file.
        submission: Check it as a prediction to be sent to the challenge: labels must be there, all of them either cleft or
            background.
        raw: The raw volume that the labels belong to, where the file itself holds none.
        progress: Called with the number of label voxels read and of all label voxels.

    Returns:
        All findings, those that are ok included; `overall` gives the verdict on the file.

    Raises:
        InputError: when the file is not there or is not an HDF5 file.

    Example:
        >>> import tempfile
        >>> from cleftnet.volumes import write_cremi
        >>> labels = Volume(np.array([[[0, 7]]], np.uint64), (40, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_cremi(Path(folder, "A.hdf"), clefts=labels)
        ...     overall(check_cremi(Path(folder, "A.hdf"), submission=True))
        'ok'
    """
    file_path = Path(expand(path))
    with reading_hdf5(file_path) as file:
        findings = list(_check_format(file))
        raw_dataset, clefts_dataset = (_dataset(file, name) for name in (RAW_NAME, CLEFTS_NAME))
        findings += _check_presence(raw_dataset, clefts_dataset, submission)
        places = []
        for dataset, dtype in ((raw_dataset, np.uint8), (clefts_dataset, np.uint64)):
            if dataset is not None:
                findings += _check_dtype(dataset, np.dtype(dtype))
                found, place = _check_geometry(dataset)
                findings += found
                places.append(place)
        countable = clefts_dataset is not None and clefts_dataset.ndim == 3 and clefts_dataset.dtype.kind in "iu"
    if raw is not None and raw_dataset is None:
        places.insert(0, _DatasetPlace(raw.address, raw.shape, raw.voxel_size, raw.offset_nm))
    if len(places) == 2:
        findings += _check_together(*places)
    if countable:
        findings += _check_ids(file_path, submission, progress)
    return findings


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    found = file.get(name)
    return found if isinstance(found, h5py.Dataset) else None


def _check_format(file: h5py.File) -> Iterator[Finding]:
    said = file.attrs.get("file_format")
    if said is None:
        yield Finding(
            "error",
            f"the root attribute 'file_format' is missing, by which CREMI files are recognized; set it to '{FILE_FORMAT}'",
        )
        return
    said = said.decode() if isinstance(said, bytes) else str(said)
    known = said in ("0.1", FILE_FORMAT)
    yield Finding(
        "ok" if known else "warning", f"file_format is '{said}'" + ("" if known else f"; expected '{FILE_FORMAT}'")
    )


def _check_presence(raw: h5py.Dataset | None, clefts: h5py.Dataset | None, submission: bool) -> Iterator[Finding]:
    if clefts is None and submission:
        yield Finding("error", f"there is no dataset {CLEFTS_NAME}, and a submission consists of it")
    elif clefts is None and raw is None:
        yield Finding("error", f"there is neither {RAW_NAME} nor {CLEFTS_NAME}; a CREMI file holds at least one")


def _check_dtype(dataset: h5py.Dataset, expected: np.dtype[np.generic]) -> Iterator[Finding]:
    name = dataset.name.lstrip("/")
    if dataset.dtype != expected:
        yield Finding("error", f"{name} is {dataset.dtype}; CREMI's is {expected}")
    if dataset.ndim != 3:
        yield Finding("error", f"{name} has shape {dataset.shape}; expected three axes z y x")


def _check_geometry(dataset: h5py.Dataset) -> tuple[list[Finding], _DatasetPlace]:
    """Check the attributes that give the position of a dataset; those that make no sense count as missing."""
    name = dataset.name.lstrip("/")
    attributes = dict(dataset.attrs)
    findings = []
    lengths: dict[str, FloatZYX | None] = {}
    for attribute in ("resolution", "offset"):
        try:
            lengths[attribute] = read_lengths(attributes, attribute, name)
        except InputError as error:
            findings.append(Finding("error", str(error)))
            lengths[attribute] = None
    resolution = lengths["resolution"]
    if resolution is None:
        if "resolution" not in attributes:
            findings.append(
                Finding("error", f"{name} has no attribute 'resolution'; set it to the voxel size in nm, z y x")
            )
    elif min(resolution) <= 0:
        findings.append(
            Finding("error", f"{name}: resolution {resolution} must be positive; it is the voxel size in nm, z y x")
        )
        resolution = None
    elif resolution[0] < resolution[2]:
        findings.append(
            Finding(
                "warning",
                f"{name}: resolution {resolution} is finer along z than along x; the order is z y x: is it reversed?",
            )
        )
    elif not 0.5 <= min(resolution) <= max(resolution) <= 1000:
        findings.append(Finding("warning", f"{name}: resolution {resolution} is unusual; the unit is nm: is it µm?"))
    elif not np.allclose(resolution, CREMI_VOXEL_SIZE_NM):
        findings.append(
            Finding("ok", f"{name}: resolution {resolution} nm; the challenge's own volumes have {CREMI_VOXEL_SIZE_NM}")
        )
    else:
        findings.append(Finding("ok", f"{name}: resolution {resolution} nm"))
    return findings, _DatasetPlace(name, dataset.shape or (), resolution, lengths["offset"] or (0.0, 0.0, 0.0))


def _check_together(raw: _DatasetPlace, clefts: _DatasetPlace) -> Iterator[Finding]:
    """Check that the labels lie inside raw, on its grid."""
    if raw.resolution is None or clefts.resolution is None or len(raw.shape) != 3 or len(clefts.shape) != 3:
        return
    if not np.allclose(raw.resolution, clefts.resolution, rtol=1e-4):
        yield Finding(
            "error", f"resolutions differ: {raw.name} has {raw.resolution} nm, {clefts.name} {clefts.resolution} nm"
        )
        return
    z, y, x = (b - a for a, b in zip(raw.offset_nm, clefts.offset_nm, strict=True))
    try:
        start = nm_to_voxels((z, y, x), raw.resolution)
    except InputError:
        yield Finding(
            "error",
            f"{clefts.name} lies {z:g},{y:g},{x:g} nm from {raw.name}, no whole number of voxels of {raw.resolution} nm",
        )
        return
    around, inside = Box.of(raw.shape), Box.at(start, clefts.shape)
    if not around.contains(inside):
        yield Finding(
            "error", f"{clefts.name} reaches outside raw: it is {inside} in voxels of {raw.name}, which is {around}"
        )
    elif around != inside and start == (0, 0, 0):
        yield Finding(
            "warning",
            f"{clefts.name} {_times(inside.shape)} is smaller than {raw.name} {_times(around.shape)} and has no offset of "
            f"its own, so it lies in the corner; set the attribute 'offset' (nm, z y x) if that is not meant",
        )
    else:
        yield Finding("ok", f"{clefts.name} is {inside} in voxels of {raw.name}")


def _check_ids(path: Path, submission: bool, progress: Progress | None) -> Iterator[Finding]:
    """Check the label ids: a true background, clefts, and nothing unlabelled in a submission."""
    labels = Volume(CremiLabels(Hdf5Store(str(path.absolute()), CLEFTS_NAME)), address=f"{path}/{CLEFTS_NAME}")
    counts = label_statistics(labels, progress)
    zeros = counts.sizes_vox.get(CLEFT_ZERO, 0)
    if zeros > counts.background_voxels:
        yield Finding(
            "error",
            f"background is 0 ({zeros} voxels) and not {CREMI_BACKGROUND:#x}: the official evaluation takes 0 for a cleft, so "
            f"all of it counts as cleft; write the file with write_cremi or `cleftnet submit`",
        )
    elif zeros:
        yield Finding(
            "warning", f"{zeros} voxels have id 0, which is a cleft for the official evaluation, not background"
        )
    elif not counts.background_voxels:
        yield Finding("warning", "no voxel is background: everything that is labelled counts as cleft")
    if not counts.clefts:
        yield Finding("warning", "no voxel is a cleft; the official score of such a file is undefined")
    else:
        yield Finding("ok", f"{counts.clefts} cleft ids on {counts.cleft_share:.2%} of the labelled voxels")
    if counts.unlabelled_voxels and submission:
        yield Finding(
            "error",
            f"{counts.unlabelled_voxels} voxels are invalid or outside; a prediction says cleft or background everywhere "
            f"(the evaluation would take these for clefts)",
        )
    elif counts.unlabelled_voxels:
        yield Finding(
            "ok", f"{counts.unlabelled_voxels} voxels are marked invalid or outside and are left out of every score"
        )


def _times(shape: IntZYX) -> str:
    return "×".join(map(str, shape))
