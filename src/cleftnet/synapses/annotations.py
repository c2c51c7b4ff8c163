"""Writes the table as annotations for neuroglancer: a point for each synapse, with its numbers and its neurons.

Format: neuroglancer's precomputed annotations, "neuroglancer_annotations_v1" (google/neuroglancer,
src/datasource/precomputed/annotations.md), unsharded, axes x y z, which any web server can serve as plain files.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import JsonValue

from cleftnet.files import replacing
from cleftnet.volumes import Volume

PROPERTIES = ("score", "volume_nm3", "area_nm2", "extent_nm", "mean_probability")
RELATIONSHIPS = ("segment_a", "segment_b")  # where a segmentation was given
SEED = 0  # the format asks for points in random order in the spatial index


def write_annotations(table: pd.DataFrame, like: Volume, path: Path, overwrite: bool = False) -> None:
    """Write a folder of precomputed annotations: points at the centroids, in voxels of the prediction.

    Each synapse gets a small file, each neuron a file that lists its synapses, and the spatial index one file with all of them.

    Args:
        table: The synapses.
        like: The prediction, which gives voxel size and bounds.
        path: The folder.
        overwrite: Whether an existing folder is replaced.

    Raises:
        InputError: when the folder exists, or cannot be written.

    Example:
        >>> import tempfile
        >>> columns = {name: np.ones(1) for name in ("synapse_id", "z_nm", "y_nm", "x_nm", *PROPERTIES)}
        >>> with tempfile.TemporaryDirectory() as name:
        ...     write_annotations(pd.DataFrame(columns), Volume(np.zeros((2, 3, 4)), (40, 4, 4)), Path(name, "annotations"))
        ...     sorted(str(p.relative_to(name)) for p in Path(name).rglob("*") if p.is_file())
        ['annotations/by_id/1', 'annotations/info', 'annotations/spatial0/0_0_0']
    """
    related = [name for name in RELATIONSHIPS if name in table.columns]
    points, ids = _points(table, like), table["synapse_id"].to_numpy("<u8")
    with replacing(path, overwrite) as folder:
        for key in ("by_id", "spatial0", *related):
            (folder / key).mkdir(parents=True)
        (folder / "info").write_text(json.dumps(_info(like, len(table), related), indent=1) + "\n")
        for row, synapse in enumerate(ids):
            neurons = [_neurons(int(table[name].iat[row])) for name in related]
            (folder / "by_id" / str(synapse)).write_bytes(points[row].tobytes() + b"".join(neurons))
        for name in related:
            own = table[name].to_numpy()
            order = np.argsort(own, kind="stable")
            segments, starts = np.unique(own[order], return_index=True)
            for segment, rows in zip(segments, np.split(order, starts[1:]), strict=False):
                if segment:
                    (folder / name / str(segment)).write_bytes(_several(points[rows], ids[rows]))
        shuffled = np.random.default_rng(SEED).permutation(len(table))
        (folder / "spatial0" / "0_0_0").write_bytes(_several(points[shuffled], ids[shuffled]))


def _info(like: Volume, number: int, related: list[str]) -> dict[str, JsonValue]:
    size, start = like.voxel_size_nm[::-1], _corner(like)
    stop = [first + side for first, side in zip(start, like.shape[::-1], strict=True)]
    extent = [b - a for a, b in zip(start, stop, strict=True)]
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {axis: [float(f"{side}e-9"), "m"] for axis, side in zip("xyz", size, strict=True)},
        "lower_bound": [*start],
        "upper_bound": [*stop],
        "annotation_type": "POINT",
        "properties": [{"id": name, "type": "float32"} for name in PROPERTIES],
        "relationships": [{"id": name, "key": name} for name in related],
        "by_id": {"key": "by_id"},
        "spatial": [
            {"key": "spatial0", "grid_shape": [1, 1, 1], "chunk_size": [*extent], "limit": max(1, number)},
        ],
    }


def _corner(like: Volume) -> list[float]:
    """Return the outer corner of the first voxel, x y z in voxels; neuroglancer's voxel n reaches from n to n + 1."""
    return [offset / side for offset, side in zip(like.offset_nm[::-1], like.voxel_size_nm[::-1], strict=True)]


def _points(table: pd.DataFrame, like: Volume) -> npt.NDArray[np.float32]:
    """Return a row for every synapse: its position x y z, then its properties."""
    size = like.voxel_size_nm[::-1]
    places = [table[f"{axis}_nm"].to_numpy() / side + 0.5 for axis, side in zip("xyz", size, strict=True)]
    return np.stack([*places, *(table[name] for name in PROPERTIES)], axis=1).astype("<f4")


def _neurons(segment: int) -> bytes:
    """Return the encoded list of a synapse's neurons on one side: one, or none."""
    ids = np.array([segment] if segment else [], "<u8")
    return np.array(len(ids), "<u4").tobytes() + ids.tobytes()


def _several(points: npt.NDArray[np.float32], ids: npt.NDArray[np.uint64]) -> bytes:
    return np.array(len(ids), "<u8").tobytes() + points.tobytes() + ids.tobytes()
