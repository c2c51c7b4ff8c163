"""One row a synapse: where it is, how large, which way it faces, and how sure the prediction was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.geometry import Box
from cleftnet.metrics.voxels import Floats
from cleftnet.synapses.merging import SynapseSums
from cleftnet.synapses.parts import directions
from cleftnet.synapses.rules import SynapseScore
from cleftnet.volumes import Volume


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: In the header.
        meaning: With its unit.
        decimals: How many are written; None for whole numbers and flags.
    """

    name: str
    meaning: str
    decimals: int | None = None


COLUMNS = (
    Column("synapse_id", "its id in the labels, from 1, by first voxel in z y x order"),
    Column("z_nm", "centroid, nm: the mean of its voxels' centers, including the volume's offset", 2),
    Column("y_nm", "centroid, nm", 2),
    Column("x_nm", "centroid, nm", 2),
    Column("z", "centroid, voxels of the prediction from 0; it need not lie in the synapse", 3),
    Column("y", "centroid, voxels", 3),
    Column("x", "centroid, voxels", 3),
    Column("z_start", "bounding box, voxels: its first section"),
    Column("y_start", "bounding box, voxels: its first row"),
    Column("x_start", "bounding box, voxels: its first column"),
    Column("z_stop", "bounding box, voxels: the section after its last"),
    Column("y_stop", "bounding box, voxels: the row after its last"),
    Column("x_stop", "bounding box, voxels: the column after its last"),
    Column("volume_nm3", "number of voxels times the volume of one, nm³", 1),
    Column("area_nm2", "area of the cleft's mid-surface, nm²", 1),
    Column("extent_nm", "longest extent of its voxels, nm", 2),
    Column("normal_z", "unit normal of the plate (physical axes), its largest component positive", 4),
    Column("normal_y", "unit normal of the plate", 4),
    Column("normal_x", "unit normal of the plate", 4),
    Column("mean_probability", "over its voxels, 0 to 1", 5),
    Column("max_probability", "over its voxels, 0 to 1", 5),
    Column("sum_probability", "over its voxels: the expected number of true cleft voxels", 3),
    Column("score", "confidence that it is a synapse, 0 to 1", 5),
    Column("sections", "number of sections it reaches through"),
    Column("touches_border", "1 where it reaches a face of the prediction, so that part of it may lie beyond"),
)
PARTNERS = (  # only where a segmentation of neurons is given
    Column("segment_a", "neuron with the largest contact on the side that the normal points away from; 0: none"),
    Column("segment_b", "neuron with the largest contact on the side that the normal points to; 0: none"),
    Column("contact_a", "share of segment_a in all contact on its side, 0 to 1", 4),
    Column("contact_b", "share of segment_b in all contact on its side", 4),
)
FLAGS = ("touches_border",)


@dataclass(frozen=True)
class SynapseTable:
    """A table of synapses, by columns.

    Attributes:
        columns: Those of `COLUMNS`, and of `PARTNERS` where they are known, each with one entry a synapse.

    Example:
        >>> table = SynapseTable({"synapse_id": np.array([1, 2]), "score": np.array([0.5, 0.75])})
        >>> len(table), table["score"].tolist()
        (2, [0.5, 0.75])
    """

    columns: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["synapse_id"])

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    @property
    def described(self) -> tuple[Column, ...]:
        """The columns that it has, in the order of a file."""
        return tuple(column for column in (*COLUMNS, *PARTNERS) if column.name in self.columns)


def tabulate(found: SynapseSums, prediction: Volume, score: SynapseScore | None = None) -> SynapseTable:
    """Turn sums over voxels into the table.

    The normal is the direction of smallest variance in nm, every voxel taken as a solid box. The longest extent is measured
    between voxel centres along 48 directions, plus the voxel itself: at most 5 % short.

    Args:
        found: By first voxel.
        prediction: What they were found in.
        score: As fitted on labels; None takes the mean probability.
    """
    size = np.array(prediction.voxel_size_nm)
    box = Box.of(prediction.shape)
    centre_nm = np.array(prediction.offset_nm) + found.center * size
    faces = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])  # of a voxel, across z, y, x
    extents = found.extents + np.abs(directions()) @ size
    normal = _normals(found.covariance, size)
    values: dict[str, npt.NDArray[Any]] = {"synapse_id": np.arange(1, len(found) + 1)}
    for axis, name in enumerate("zyx"):
        values[f"{name}_nm"], values[name], values[f"normal_{name}"] = (
            centre_nm[:, axis],
            found.center[:, axis],
            normal[:, axis],
        )
        values[f"{name}_start"], values[f"{name}_stop"] = found.bounds[:, axis], found.bounds[:, 3 + axis]
    mean = found.probability / found.voxels
    values |= {
        "volume_nm3": found.voxels * np.prod(size),
        "area_nm2": _areas(found.columns * faces, found.voxels * np.prod(size), normal),
        "extent_nm": extents.max(axis=1, initial=0),
        "mean_probability": mean,
        "max_probability": found.maximum,
        "sum_probability": found.probability,
        "score": mean if score is None else score.of(found.probability * np.prod(size)),
        "sections": found.bounds[:, 3] - found.bounds[:, 0],
        "touches_border": ((found.bounds[:, :3] == box.start) | (found.bounds[:, 3:] == box.stop)).any(axis=1),
    }
    return SynapseTable({column.name: values[column.name] for column in COLUMNS})


def _areas(covered: Floats, volume: Floats, normal: Floats) -> Floats:
    """Return the areas A of mid-surfaces, nm².

    √(Pz² + Py² + Px²), where Pk is the area that a synapse covers seen along axis k, is the area of a flat, thin plate
    in any orientation. The rim of one of thickness V / A adds what it covers itself: on a disc of the same area, along axis k,
    thickness times diameter times √(1 - nk²). That is taken off again. A half sphere comes out up to 13 % low.

    Args:
        covered: P, nm²: columns of voxels times a column's area, counted as often as the synapse is entered; z y x.
        volume: V, nm³.
        normal: n, z y x.
    """
    whole = np.linalg.norm(covered, axis=1)
    rim = 2 / np.sqrt(np.pi) * volume * (np.abs(normal) * np.sqrt(np.clip(1 - normal**2, 0, 1))).sum(axis=1)
    area: Floats = whole
    for _ in range(8):
        area = np.maximum(whole - rim / np.sqrt(area), whole / 2)  # the floor is for blobs, which have no mid-surface
    return area


def _normals(covariance: Floats, size: Floats) -> Floats:
    """Return the directions of smallest variance in nm, z y x, their largest components positive."""
    if not len(covariance):
        return np.zeros((0, 3))
    in_nm = covariance * np.outer(size, size) + np.diag(size**2 / 12)
    # shares of the whole, rounded: where directions vary equally, the last bits of a sum over blocks must not choose one
    shares = np.round(in_nm / np.trace(in_nm, axis1=1, axis2=2)[:, None, None], 9)
    normal = np.linalg.eigh(shares)[1][:, :, 0]
    largest = np.take_along_axis(normal, np.abs(normal).argmax(axis=1)[:, None], axis=1)
    turned: Floats = normal * np.where(largest < 0, -1.0, 1.0)
    return turned
