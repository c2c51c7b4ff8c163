"""Writes the table as annotations for neuroglancer: a point for each synapse, with its numbers and its neurons.

Format: neuroglancer's precomputed annotations, "neuroglancer_annotations_v1" (google/neuroglancer,
src/datasource/precomputed/annotations.md), all indices sharded, axes x y z, which any web server can serve as plain files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import JsonValue

from cleftnet.files import replacing
from cleftnet.synapses.shards import Sharding, morton_code
from cleftnet.volumes import Volume

PROPERTIES = ("score", "volume_nm3", "area_nm2", "extent_nm", "mean_probability")
RELATIONSHIPS = ("segment_a", "segment_b")  # where a segmentation was given
SEED = 0  # which synapses a viewer shows first is random, and always the same
LIMIT = 1000  # synapses in one cell of a level of the spatial index, 40 kB
TOGETHER_BITS, CELLS_TOGETHER_BITS = 9, 2  # synapses, cells of the spatial index, that lie in one minishard

Points = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def write_annotations(table: pd.DataFrame, like: Volume, path: Path, overwrite: bool = False) -> None:
    """Write a folder of precomputed annotations: points at the centroids, in voxels of the prediction.

    Synapses are found by id, by neuron, and by place: the spatial index has levels of ever smaller cells, and a synapse is in
    one cell of one level, so that a viewer that shows all of a large volume loads the first level alone. Beyond the table,
    memory is about 100 bytes for each synapse and one shard.

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
        ['annotations/by_id/0.shard', 'annotations/info', 'annotations/spatial0/0.shard']
    """
    related = [name for name in RELATIONSHIPS if name in table.columns]
    points, ids = _points(table, like), table["synapse_id"].to_numpy("<u8")
    with replacing(path, overwrite) as folder:
        folder.mkdir()
        info: dict[str, JsonValue] = {
            **_header(like),
            "relationships": [
                {"id": name, "key": name, "sharding": _write_related(folder / name, table[name], points, ids)}
                for name in related
            ],
            "by_id": {"key": "by_id", "sharding": _write_by_id(folder / "by_id", table[related], points, ids)},
            "spatial": [
                level.write(folder / f"spatial{number}", points, ids)
                for number, level in enumerate(_levels(points[:, :3], like))
            ],
        }
        (folder / "info").write_text(json.dumps(info, indent=1) + "\n")


def _header(like: Volume) -> dict[str, JsonValue]:
    size, start = like.voxel_size_nm[::-1], _corner(like)
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {axis: [float(f"{side}e-9"), "m"] for axis, side in zip("xyz", size, strict=True)},
        "lower_bound": [*start],
        "upper_bound": [first + side for first, side in zip(start, like.shape[::-1], strict=True)],
        "annotation_type": "POINT",
        "properties": [{"id": name, "type": "float32"} for name in PROPERTIES],
    }


def _corner(like: Volume) -> list[float]:
    """Return the outer corner of the first voxel, x y z in voxels; neuroglancer's voxel n reaches from n to n + 1."""
    return [offset / side for offset, side in zip(like.offset_nm[::-1], like.voxel_size_nm[::-1], strict=True)]


def _points(table: pd.DataFrame, like: Volume) -> Points:
    """Return a row for every synapse: its position x y z, then its properties."""
    size = like.voxel_size_nm[::-1]
    places = [table[f"{axis}_nm"].to_numpy() / side + 0.5 for axis, side in zip("xyz", size, strict=True)]
    return np.stack([*places, *(table[name] for name in PROPERTIES)], axis=1).astype("<f4")


def _write_by_id(folder: Path, neurons: pd.DataFrame, points: Points, ids: npt.NDArray[np.uint64]) -> JsonValue:
    """Write the index by synapse: its point, then for each relationship its neurons."""
    folder.mkdir()
    columns = [neurons[name].to_numpy() for name in neurons.columns]

    def value(row: int) -> bytes:
        return bytes(points[row].tobytes()) + b"".join(_neurons(int(column[row])) for column in columns)

    sharding = Sharding.of(int(ids.max(initial=0)).bit_length(), TOGETHER_BITS)
    sharding.write(folder, ids, value)
    return sharding.to_json()


def _write_related(folder: Path, segments: pd.Series, points: Points, ids: npt.NDArray[np.uint64]) -> JsonValue:
    """Write the index by neuron: the synapses of each."""
    folder.mkdir()
    own = segments.to_numpy().astype(np.uint64)
    meeting = np.flatnonzero(own)
    keys, groups = _grouped(own[meeting], meeting)
    sharding = Sharding.of(len(keys).bit_length(), TOGETHER_BITS)
    # ids of neurons are spread over all 64 bits; without a preshift their low bits choose the place
    sharding = Sharding(0, sharding.minishard_bits, sharding.shard_bits)
    sharding.write(folder, keys, lambda n: _several(points[groups[n]], ids[groups[n]]))
    return sharding.to_json()


@dataclass(frozen=True)
class _Level:
    """One level of the spatial index.

    Attributes:
        grid: Number of cells along x, y, z.
        chunk: Sides of a cell in voxels, x y z.
        limit: Synapses in a cell at most.
        rows: The synapses of the level, in random order.
        cells: The cell of each of them, x y z.
    """

    grid: tuple[int, ...]
    chunk: tuple[float, ...]
    limit: int
    rows: Rows
    cells: npt.NDArray[np.int64]

    def write(self, folder: Path, points: Points, ids: npt.NDArray[np.uint64]) -> JsonValue:
        """Write the cells of the level, and return its entry in `info`."""
        folder.mkdir()
        keys, groups = _grouped(morton_code(self.cells, self.grid), self.rows)
        sharding = Sharding.of(sum((side - 1).bit_length() for side in self.grid), CELLS_TOGETHER_BITS)
        sharding.write(folder, keys, lambda n: _several(points[groups[n]], ids[groups[n]]))
        return {
            "key": folder.name,
            "grid_shape": [*self.grid],
            "chunk_size": [*self.chunk],
            "limit": self.limit,
            "sharding": sharding.to_json(),
        }


def _levels(places: Points, like: Volume) -> Iterator[_Level]:
    """Yield the levels of the spatial index, which together hold every synapse once.

    Every level takes the same share of what is left in each of its cells, as large as the fullest cell allows. Cells are
    halved along the axes in which they are longest in nm. The last level takes what is left, also where it lies in one voxel.
    """
    corner, extent = np.array(_corner(like)), np.array(like.shape[::-1], float)
    size_nm, grid = np.array(like.voxel_size_nm[::-1]), np.ones(3, np.int64)
    left = np.random.default_rng(SEED).permutation(len(places))
    while True:
        chunk = extent / grid
        cells = np.clip(((places[left] - corner) // chunk).astype(np.int64), 0, grid - 1)
        rank, fullest = _ranks(morton_code(cells, tuple(grid.tolist())))
        last = fullest <= LIMIT or bool((chunk <= 1).all())
        taken = np.ones(len(left), np.bool_) if last else rank < LIMIT / fullest
        limit = max(1, fullest) if last else LIMIT
        yield _Level(tuple(grid.tolist()), tuple(chunk.tolist()), limit, left[taken], cells[taken])
        if last:
            return
        left = left[~taken]
        sides_nm = np.where(chunk > 1, chunk * size_nm, 0.0)
        grid = grid * np.where(sides_nm > sides_nm.max() / np.sqrt(2), 2, 1)


def _ranks(codes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float64], int]:
    """Return the rank of each element among those of the same code, as a share from 0 to 1, and the most of one code."""
    order = np.argsort(codes, kind="stable")
    _, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
    shares = np.empty(len(codes))
    shares[order] = (np.arange(len(codes)) - np.repeat(starts, counts)) / np.repeat(counts, counts)
    return shares, int(counts.max(initial=0))


def _grouped(keys: npt.NDArray[np.uint64], rows: Rows) -> tuple[npt.NDArray[np.uint64], list[Rows]]:
    """Return the different keys, and the rows of each in their order."""
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    return found, np.split(rows[order], starts[1:]) if len(found) else []


def _neurons(segment: int) -> bytes:
    """Return the encoded list of a synapse's neurons on one side: one, or none."""
    ids = np.array([segment] if segment else [], "<u8")
    return np.array(len(ids), "<u4").tobytes() + ids.tobytes()


def _several(points: Points, ids: npt.NDArray[np.uint64]) -> bytes:
    return np.array(len(ids), "<u8").tobytes() + points.tobytes() + ids.tobytes()
