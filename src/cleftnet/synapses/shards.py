"""Writes the sharded files of neuroglancer's precomputed format: many small values by 64-bit keys in few files.

Format: "neuroglancer_uint64_sharded_v1" (google/neuroglancer, src/datasource/precomputed/sharded.md). tensorstore reads it (the
tests do), but as a writer it needs a call for each key and a transaction in memory. Here one shard at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

Keys = npt.NDArray[np.uint64]

MINISHARD_BITS = 6  # at most; a shard then has 64 lists of keys, one of which a reader fetches for a key


@dataclass(frozen=True)
class Sharding:
    """How keys are spread over shards, and within a shard over minishards.

    Attributes:
        preshift_bits: Low bits of a key that its place does not depend on: so many consecutive keys lie together.
        minishard_bits: The next bits choose the minishard.
        shard_bits: The next bits choose the shard, a file.
    """

    preshift_bits: int
    minishard_bits: int
    shard_bits: int

    @classmethod
    def of(cls, key_bits: int, together_bits: int) -> Sharding:
        """Choose the sharding of keys that are spread over so many bits.

        Args:
            key_bits: Bits in which the keys differ.
            together_bits: Bits of the keys that lie together in one minishard.
        """
        rest = max(0, key_bits - together_bits)
        minishard = min(MINISHARD_BITS, rest)
        return cls(min(key_bits, together_bits), minishard, rest - minishard)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the member `sharding` of an index in `info`."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": self.preshift_bits,
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": "raw",
            "data_encoding": "raw",
        }

    def write(self, folder: Path, keys: Keys, value: Callable[[int], bytes]) -> None:
        """Write all shards of an index, one after the other.

        Args:
            folder: The folder of the index, which exists.
            keys: The keys, each once, in any order.
            value: Returns the value of a key by its position in `keys`.
        """
        hashed = keys >> np.uint64(self.preshift_bits)
        minishards = hashed & np.uint64(2**self.minishard_bits - 1)
        shards = (hashed >> np.uint64(self.minishard_bits)) & np.uint64(2**self.shard_bits - 1)
        order = np.lexsort((keys, minishards, shards))
        found, starts = np.unique(shards[order], return_index=True)
        digits = -(-self.shard_bits // 4)
        for shard, rows in zip(found, np.split(order, starts[1:]), strict=False):
            content = self._shard(keys[rows], minishards[rows], [value(int(row)) for row in rows])
            (folder / f"{int(shard):0{digits}x}.shard").write_bytes(content)

    def _shard(self, keys: Keys, minishards: Keys, values: list[bytes]) -> bytes:
        """Return a shard: where the lists of its minishards are, the values, and these lists; keys are sorted by minishard."""
        sizes = np.array([len(value) for value in values], "<u8")
        begins = np.cumsum(sizes) - sizes
        index = np.zeros((2**self.minishard_bits, 2), "<u8")
        lists, position = [], int(sizes.sum())
        found, starts = np.unique(minishards, return_index=True)
        for minishard, rows in zip(found, np.split(np.arange(len(keys)), starts[1:]), strict=False):
            table = np.zeros((3, len(rows)), "<u8")
            table[0] = np.diff(keys[rows], prepend=np.uint64(0))
            table[1, 0] = begins[rows[0]]  # every other value begins where the one before ends
            table[2] = sizes[rows]
            lists.append(table.tobytes())
            index[int(minishard)] = position, position + table.nbytes
            position += table.nbytes
        return b"".join([index.tobytes(), *values, *lists])


def morton_code(cells: npt.NDArray[np.int64], grid: tuple[int, ...]) -> Keys:
    """Return the compressed Morton codes of cells: the bits of their coordinates in turn, without those that a grid lacks.

    Args:
        cells: Coordinates of cells, one row for each, x y z.
        grid: Number of cells along x, y, z.

    Example:
        >>> morton_code(np.array([[1, 0, 0], [0, 1, 0], [3, 1, 0]]), (4, 2, 1)).tolist()
        [1, 2, 7]
    """
    codes = np.zeros(len(cells), np.uint64)
    bits = [(side - 1).bit_length() for side in grid]
    place = 0
    for bit in range(max(bits, default=0)):
        for axis, own in enumerate(bits):
            if bit < own:
                codes |= ((cells[:, axis].astype(np.uint64) >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place)
                place += 1
    return codes
