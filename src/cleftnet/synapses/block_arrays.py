"""Keeps named arrays for each block: in a folder, which survives a crash, or in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cleftnet.files import replacing
from cleftnet.geometry import Block
from cleftnet.volumes import Array


class BlockArrays(Protocol):
    """Where the results of blocks are kept, by block and by kind, such as `parts`."""

    def save(self, block: Block, kind: str, arrays: Mapping[str, Array]) -> None:
        """Keep the arrays of a block."""

    def load(self, block: Block, kind: str, *names: str) -> dict[str, Array]:
        """Return kept arrays of a block by their names."""


@dataclass(frozen=True)
class FolderArrays:
    """Block arrays as NumPy files in a folder, each written whole or not at all.

    Attributes:
        folder: An absolute path, so that worker processes find it.
    """

    folder: Path

    def save(self, block: Block, kind: str, arrays: Mapping[str, Array]) -> None:
        """Write the arrays of a block; they are on disk when this returns."""
        with replacing(self._path(block, kind), overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())  # before the journal records the block

    def load(self, block: Block, kind: str, *names: str) -> dict[str, Array]:
        """Read arrays of a block by their names."""
        with np.load(self._path(block, kind), allow_pickle=False) as file:
            return {name: file[name] for name in names}

    def _path(self, block: Block, kind: str) -> Path:
        return self.folder / f"{'_'.join(map(str, block.write.start))}.{kind}.npz"


@dataclass(frozen=True)
class MemoryArrays:
    """Block arrays in memory."""

    kept: dict[tuple[object, str], Mapping[str, Array]] = field(default_factory=dict)

    def save(self, block: Block, kind: str, arrays: Mapping[str, Array]) -> None:
        """Keep the arrays of a block."""
        self.kept[block.write.start, kind] = arrays

    def load(self, block: Block, kind: str, *names: str) -> dict[str, Array]:
        """Return arrays of a block by their names."""
        arrays = self.kept[block.write.start, kind]
        return {name: arrays[name] for name in names}
