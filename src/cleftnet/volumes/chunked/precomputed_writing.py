"""New precomputed volumes, for neuroglancer; axes and lengths x y z on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX, IntZYX
from cleftnet.volumes.chunked.arrays import ChunkedStore, digest
from cleftnet.volumes.chunked.precomputed import INFO, OURS, SCHEME
from cleftnet.volumes.chunked.pyramid import Pyramid, plan
from cleftnet.volumes.chunked.storage import UNSYNCED, kvstore, read_json, write_json
from cleftnet.volumes.chunked.writing import CHUNK_VOX, container, held_type, needed
from cleftnet.volumes.layout import Layout
from cleftnet.volumes.slabs import WritableStore
from cleftnet.volumes.volume import holds_labels

_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
_COMPRESSED = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
_COMPRESSED_TYPES = ("uint32", "uint64")


@contextmanager
def new_precomputed(path: str, overwrite: bool, layout: Layout) -> Iterator[NewPrecomputed]:
    """Yield a new precomputed volume to be filled, see `container`."""
    with container(path, overwrite, lambda at, called: NewPrecomputed(at, called, layout)) as new:
        yield new


@dataclass(frozen=True)
class NewPrecomputed:
    """A precomputed volume being made, which holds one array; see `NewZarr` for the arguments."""

    path: str
    called: str
    layout: Layout

    def create(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        voxel_size_nm: FloatZYX | None,
        offset_nm: FloatZYX = (0.0, 0.0, 0.0),
        threshold: float | None = None,
    ) -> WritableStore:
        """Create the one array of a precomputed volume, zero where nobody writes; bool is stored as uint8.

        Labels become a segmentation, compressed where their ids have four or eight bytes.

        Args:
            name: Not kept, but a name with `labels` in it says what the array holds.
            shape: Sides in voxels, z y x.
            dtype: The type of one voxel.
            voxel_size_nm: Voxel size, z y x, which the format cannot do without.
            offset_nm: Position of the first voxel, z y x: a whole number of voxels.
            threshold: Kept in `info` below `cleftnet`, which other programs pass over.

        Raises:
            InputError: when there is an array already, no voxel size, an offset of no whole number of voxels, or a type of
                voxels that the format does not have.
        """
        called = f"{SCHEME}{self.called}"
        if read_json(self.path, INFO) is not None:
            raise InputError(
                f"{called} holds one array and cannot take {name} as well; choose an output ending in .zarr"
            )
        stored = held_type(dtype, _TYPES, "precomputed", called)
        size = needed(voxel_size_nm, called, "the format")
        start = _whole(offset_nm, size, called)
        labels = holds_labels(np.dtype(dtype), name)
        factors = plan(shape, size, self.layout.chunk or CHUNK_VOX) if self.layout.pyramid else [(1, 1, 1)]
        encoding = _COMPRESSED if labels and stored.name in _COMPRESSED_TYPES else {"encoding": "raw"}
        scales = [self._scale(shape, start, size, by) | encoding for by in factors]
        info = {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if labels else "image",
            "data_type": stored.name,
            "num_channels": 1,
            "scales": scales,
            **({OURS: {"threshold": threshold}} if threshold is not None else {}),
        }
        write_json(self.path, INFO, info)
        spec = {"driver": "neuroglancer_precomputed", "kvstore": kvstore(self.path), **UNSYNCED}
        stores = [
            ChunkedStore(
                json.dumps({**spec, "scale_index": n}), called, scale["size"][::-1], stored, (2, 1, 0), digest(info)
            )
            for n, scale in enumerate(scales)
        ]
        return Pyramid(tuple(stores), tuple(factors), labels) if self.layout.pyramid else stores[0]

    def _scale(self, shape: Sequence[int], start: IntZYX, size: FloatZYX, by: IntZYX) -> dict[str, Any]:
        """Describe a level whose voxels lie on the grid that begins at the origin, and so may reach over the array's edge."""
        corner = [o // f for o, f in zip(start, by, strict=True)]
        end = [-(-(o + int(n)) // f) for o, n, f in zip(start, shape, by, strict=True)]
        sides = tuple(b - a for a, b in zip(corner, end, strict=True))
        resolution = [f * v for f, v in zip(reversed(by), reversed(size), strict=True)]
        return {
            "key": "_".join(f"{v:g}" for v in resolution),
            "size": sides[::-1],
            "resolution": resolution,
            "voxel_offset": corner[::-1],
            "chunk_sizes": [self.layout.sides(sides, CHUNK_VOX)[::-1]],
        }


def _whole(offset_nm: FloatZYX, voxel_size_nm: FloatZYX, called: str) -> IntZYX:
    """Return an offset in voxels."""
    exact = [o / v for o, v in zip(offset_nm, voxel_size_nm, strict=True)]
    z, y, x = (round(e) for e in exact)
    if any(abs(e - n) > 1e-3 for e, n in zip(exact, (z, y, x), strict=True)):
        raise InputError(
            f"{called}: the offset {offset_nm} nm is no whole number of voxels of {voxel_size_nm} nm (z y x), and precomputed "
            f"keeps no other; choose .zarr or .n5"
        )
    return z, y, x
