"""What is done with a block, twice: its parts are measured, and, when every part has its id, they are painted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cleftnet.blockwise import Tick
from cleftnet.geometry import Block, Box, FloatZYX
from cleftnet.metrics.clefts import components
from cleftnet.synapses.merging import path_of
from cleftnet.synapses.parts import AHEAD, Parts
from cleftnet.synapses.segmentation import Segmenter
from cleftnet.volumes import Array, Volume, WritableVolume

Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Labelling:
    """The parts of a block: the same numbers whoever asks, and as often as they ask.

    Attributes:
        prediction: Of the whole volume.
        segmenter: What makes a mask of it.
    """

    prediction: Volume
    segmenter: Segmenter

    def reads(self, write: Box) -> Box:
        """Return what has to be read for a write box, before it is cut at the volume's border."""
        return _with_layer_ahead(write).grow(self.segmenter.halo)

    def labels(self, values: Array, block: Block) -> npt.NDArray[np.integer]:
        """Return the parts' numbers in the write box and in the layer ahead."""
        labelled = _with_layer_ahead(block.write).intersect(self.prediction.box)
        found = self.segmenter.mask(values)[labelled.relative_to(block.read.start).slices]
        return components(found)[0]


@dataclass(frozen=True)
class Measuring:
    """A `blockwise.Work`: one block of the prediction to its `Parts`.

    Attributes:
        labelling: Of the prediction.
        size_nm: Voxel size z y x.
        min_voxels: What lies in one block alone and is smaller is left out.
        seed: So is what reaches this probability nowhere.
        folder: Where parts are kept.
    """

    labelling: Labelling
    size_nm: FloatZYX
    min_voxels: float
    seed: float
    folder: Path

    def start(self, threads: int) -> None:
        """Nothing to prepare."""

    def read(self, block: Block) -> Array:
        """Read the prediction."""
        return self.labelling.prediction[block.read]

    def compute(self, block: Block, values: Array, tick: Tick) -> Parts:
        """Measure the block's parts."""
        labels = self.labelling.labels(values, block)
        tick(0.5)
        volume = self.labelling.prediction
        own = values[block.write.relative_to(block.read.start).slices]
        return Parts.of(labels, own, block, volume.box, self.size_nm).keep(self.min_voxels, self.seed)

    def write(self, block: Block, parts: Parts) -> None:
        """Keep them."""
        parts.save(path_of(self.folder, block))


class Painted(NamedTuple):
    """What is read for a block that is painted; nothing of the prediction where no synapse lies in it."""

    values: Array | None
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Painting:
    """A `blockwise.Work`: the ids of one block, after `merging.merge` has chosen them.

    Attributes:
        labelling: Of the prediction.
        folder: Where the ids of parts are kept.
        target: The labels.
    """

    labelling: Labelling
    folder: Path
    target: WritableVolume

    def start(self, threads: int) -> None:
        """Nothing to prepare."""

    def read(self, block: Block) -> Painted:
        """Read the ids of the block's parts and, where there are any, the prediction."""
        ids = np.load(path_of(self.folder, block, "npy"))
        return Painted(self.labelling.prediction[block.read] if ids.any() else None, ids)

    def compute(self, block: Block, data: Painted, tick: Tick) -> Ids | None:
        """Return the ids of the write box, or None where there are none: new labels are background."""
        if data.values is None:
            return None
        labels = self.labelling.labels(data.values, block)
        own = labels[tuple(slice(n) for n in block.write.shape)]
        lookup = np.zeros(max(len(data.ids), int(own.max(initial=0)) + 1), np.uint64)
        lookup[: len(data.ids)] = data.ids
        painted: Ids = lookup[own]
        return painted

    def write(self, block: Block, result: Any) -> None:
        """Write the ids."""
        if result is not None:
            self.target[block.write] = result


def _with_layer_ahead(write: Box) -> Box:
    z, y, x = (stop + more for stop, more in zip(write.stop, AHEAD, strict=True))
    return Box(write.start, (z, y, x))
