"""The two passes over the blocks of a prediction: parts are measured, and labels are written when every part has its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cleftnet.blockwise import Tick
from cleftnet.geometry import Block, Box, FloatZYX, IntZYX
from cleftnet.metrics.clefts import components
from cleftnet.metrics.voxels import Integers, Mask
from cleftnet.synapses.appearance import PlacedRaw, as_levels, sum_appearance
from cleftnet.synapses.block_arrays import BlockArrays
from cleftnet.synapses.parts import AHEAD, BlockParts
from cleftnet.synapses.segmentation import Segmenter
from cleftnet.volumes import Array, Volume

Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class BlockLabeler:
    """Numbers the parts of a block, which are the same in every pass.

    Attributes:
        prediction: The whole prediction.
        segmenter: Turns the prediction into a mask.
    """

    prediction: Volume
    segmenter: Segmenter

    def reads(self, write: Box) -> Box:
        """Return the box that has to be read for a write box, before it is cut at the volume's border."""
        return _with_layer_ahead(write).grow(self.segmenter.halo)

    def labels(self, mask: Mask, block: Block) -> npt.NDArray[np.integer]:
        """Return the parts' numbers in the write box and in the layer ahead, from the mask of the read box."""
        labeled = _with_layer_ahead(block.write).intersect(self.prediction.box)
        return components(mask[labeled.relative_to(block.read.start).slices])[0]


@dataclass(frozen=True)
class Surroundings:
    """How far the surroundings of a voxel reach, and raw to look at; see `appearance`.

    Attributes:
        window: Reach in voxels z y x.
        raw: Gray values; None where there are none.
    """

    window: IntZYX
    raw: PlacedRaw | None


class MeasurerInput(NamedTuple):
    """What `PartMeasurer` reads for a block: the prediction, and gray levels where raw is measured."""

    values: Array
    gray: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class PartMeasurer:
    """First pass, a `blockwise.Work`: measures the parts of each block.

    Attributes:
        labeler: Numbers the parts.
        size_nm: Voxel size, z y x.
        min_voxels: Parts of fewer voxels that lie in one block alone are left out.
        seed: Parts that lie in one block alone and reach this probability nowhere are left out.
        arrays: Where parts are kept.
        around: What is measured of the surroundings of parts; None where no classifier asks for it.
    """

    labeler: BlockLabeler
    size_nm: FloatZYX
    min_voxels: float
    seed: float
    arrays: BlockArrays
    around: Surroundings | None = None

    def start(self, threads: int) -> None:
        """Nothing to prepare."""

    def reads(self, write: Box) -> Box:
        """Return the box that has to be read for a write box, before it is cut at the volume's border."""
        box = self.labeler.reads(write)
        return box if self.around is None else box.grow(self.around.window)

    def read(self, block: Block) -> MeasurerInput:
        """Read the prediction and, where appearance is measured, raw."""
        raw = None if self.around is None else self.around.raw
        return MeasurerInput(self.labeler.prediction[block.read], None if raw is None else raw[block.read])

    def compute(self, block: Block, data: MeasurerInput, tick: Tick) -> BlockParts:
        """Measure the block's parts."""
        mask = self.labeler.segmenter.mask(data.values)
        labels = self.labeler.labels(mask, block)
        tick(0.5)
        volume, inside = self.labeler.prediction, block.write.relative_to(block.read.start)
        looks = None
        if self.around is not None:
            own, window = labels[tuple(slice(n) for n in block.write.shape)], self.around.window
            looks = sum_appearance(own, mask, as_levels(data.values), data.gray, inside, window)
        own_values = data.values[inside.slices]
        parts = BlockParts.of(labels, own_values, block, volume.box, self.size_nm, looks)
        return parts.keep(self.min_voxels, self.seed)

    def write(self, block: Block, parts: BlockParts) -> None:
        """Keep the parts."""
        self.arrays.save(block, "parts", parts.arrays())


class WritableBoxes(Protocol):
    """Anything whose boxes can be assigned to, such as a `WritableVolume`."""

    def __setitem__(self, box: Box, values: Ids, /) -> None:
        """Write one box."""


class LabelInput(NamedTuple):
    """What `LabelWriter` reads for a block.

    Attributes:
        values: The prediction; None where no synapse lies in the block.
        ids: The id of each part, by its number; 0 for none.
    """

    values: Array | None
    ids: Integers


@dataclass(frozen=True)
class LabelWriter:
    """Second pass, a `blockwise.Work`: writes the ids that `merging.merge` has chosen into the labels.

    Attributes:
        labeler: Numbers the parts as in the first pass.
        arrays: Where the ids of parts are kept.
        target: The labels, which are background until they are written.
    """

    labeler: BlockLabeler
    arrays: BlockArrays
    target: WritableBoxes

    def start(self, threads: int) -> None:
        """Nothing to prepare."""

    def read(self, block: Block) -> LabelInput:
        """Read the ids of the block's parts and, where there are any, the prediction."""
        ids = self.arrays.load(block, "ids", "ids")["ids"]
        return LabelInput(self.labeler.prediction[block.read] if ids.any() else None, ids)

    def compute(self, block: Block, data: LabelInput, tick: Tick) -> Ids | None:
        """Return the ids of the write box; None where there are none."""
        if data.values is None:
            return None
        labels = self.labeler.labels(self.labeler.segmenter.mask(data.values), block)
        own = labels[tuple(slice(n) for n in block.write.shape)]
        lookup = np.zeros(max(len(data.ids), int(own.max(initial=0)) + 1), np.uint64)
        lookup[: len(data.ids)] = data.ids
        ids: Ids = lookup[own]
        return ids

    def write(self, block: Block, ids: Ids | None) -> None:
        """Write the ids."""
        if ids is not None:
            self.target[block.write] = ids


def _with_layer_ahead(write: Box) -> Box:
    z, y, x = (stop + more for stop, more in zip(write.stop, AHEAD, strict=True))
    return Box(write.start, (z, y, x))
