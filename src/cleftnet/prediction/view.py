"""Shows a volume as a network was trained to see it, at its voxel size and gray range, and brings the prediction back."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from cleftnet.geometry import Box, FloatZYX
from cleftnet.models.checkpoint import Float32, ModelCard
from cleftnet.prediction.prediction_settings import PredictionSettings
from cleftnet.volumes import Resampling, Volume, VoxelGrid, in_gray_range, normalized_from, resampled

log = logging.getLogger(__name__)

SAME_SIZE = 0.05  # voxels whose sides differ by a smaller share are not resampled
SECTIONS = 1.5  # sections are resampled only where their thickness differs by more than this factor: docs/results.md


@dataclass(frozen=True)
class NetworkView:
    """A volume, and what a network sees of it.

    Args:
        raw: The volume to predict, on its own grid.
        seen: The same tissue as the network sees it; raw itself, where voxel size and gray values are those it was trained on.
        gray_range: The gray values that the network sees as black and white; None for the whole range of the type.
    """

    raw: Volume
    seen: Volume
    gray_range: tuple[float, float] | None = None

    @classmethod
    def of(cls, raw: Volume, card: ModelCard, settings: PredictionSettings) -> Self:
        """Bring gray values of a volume to the range of a model and resample it to the model's voxel size, where they differ.

        Raises:
            InputError: when the volume has no voxel size, or the model normalizes gray values and the volume has no contrast.
        """
        seen, gray_range, by_section = raw, settings.gray_range, ""
        if gray_range is not None:
            seen = in_gray_range(seen, gray_range)
        elif card.normalize is not None:
            seen, gray_range = normalized_from(seen, card.normalize)
            by_section = ", and every section is measured by itself" if card.normalize.sections else ""
        if gray_range is not None:
            low, high = gray_range
            log.info(f"gray values from {low:g} to {high:g} are black to white for the model{by_section}")
        if card.voxel_size_nm is not None:
            wanted = voxel_size_to_see(raw.voxel_size_nm, card.voxel_size_nm)
            if wanted == raw.voxel_size_nm:
                pass
            elif settings.rescale:
                seen = resampled(seen, wanted)
                log.info(f"voxels of {_nm(raw.voxel_size_nm)} are resampled to {_nm(wanted)} for the model, and back")
            else:
                warnings.warn(
                    f"the model was trained on voxels of {_nm(card.voxel_size_nm)}, {raw.address} has "
                    f"{_nm(raw.voxel_size_nm)} (z y x): expect worse results; leave out rescale=False",
                    stacklevel=4,
                )
        return cls(raw, seen, gray_range)

    @property
    def rescaled(self) -> bool:
        """Whether the network sees another grid than that of the volume."""
        return self.seen.shape != self.raw.shape or self.seen.voxel_size != self.raw.voxel_size

    def provenance(self) -> dict[str, JsonValue]:
        """Return what the attributes of a prediction say about it."""
        return {
            "rescaled": self.rescaled,
            "predicted_at_nm": list(self.seen.voxel_size_nm),
            "gray_range": None if self.gray_range is None else list(self.gray_range),
        }

    @functools.cached_property
    def _back(self) -> Resampling:
        return Resampling(VoxelGrid.of(self.seen), VoxelGrid.of(self.raw))

    def seen_box(self, box: Box) -> Box:
        """Return the voxels that the network sees which the voxels of a box of the volume are interpolated from."""
        return self._back.reads(box) if self.rescaled else box

    def raw_box(self, seen: Box) -> Box:
        """Return a box of the volume that contains every voxel which is interpolated from a box of what the network sees."""
        if not self.rescaled:
            return seen
        start, stop = [], []
        sizes = zip(seen.start, seen.stop, self.seen.voxel_size_nm, self.raw.voxel_size_nm, strict=True)
        for low, high, large, small in sizes:  # both grids begin at one corner; interpolation reaches one voxel further
            start.append(math.floor((low - 1) * large / small) - 1)
            stop.append(math.ceil((high + 1) * large / small) + 1)
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return box.intersect(self.raw.box)

    def back(self, values: Float32, read: Box, box: Box) -> Float32:
        """Return the probability or distance of a box of the volume, from that of `read` on the grid that the network sees."""
        return self._back(values, read, box)

    def covered(self, computed: npt.NDArray[np.bool_], read: Box, box: Box) -> npt.NDArray[np.bool_]:
        """Return which voxels of a box of the volume lie where the network's `computed` voxels of `read` are."""
        if not self.rescaled:
            return computed
        nearest = Resampling(self._back.source, self._back.target, labels=True)
        return np.asarray(nearest(computed.view(np.uint8), read, box) != 0)

    @property
    def seen_per_raw(self) -> float:
        """Number of voxels that the network sees for each voxel of the volume."""
        return self.seen.box.voxels / self.raw.box.voxels


def voxel_size_to_see(given_nm: FloatZYX, trained_nm: FloatZYX) -> FloatZYX:
    """Return the voxel size at which a network should see a volume, z y x.

    Sections keep their thickness unless it differs by more than a factor of `SECTIONS`, since an interpolated section is
    blurred by its neighbors.

    Example:
        >>> voxel_size_to_see((40, 4, 4), (50, 4.6, 4.6)), voxel_size_to_see((50, 4.5, 4.7), (50, 4.6, 4.6))
        ((40, 4.6, 4.6), (50, 4.5, 4.7))
        >>> voxel_size_to_see((10, 10, 10), (50, 4.6, 4.6))
        (50, 4.6, 4.6)
    """
    z, y, x = trained_nm
    ratios = [max(g / t, t / g) for g, t in zip(given_nm, trained_nm, strict=True)]
    if max(ratios[1:]) <= 1 + SAME_SIZE:
        y, x = given_nm[1:]
    return (z if ratios[0] > SECTIONS else given_nm[0]), y, x


def _nm(size: FloatZYX) -> str:
    return "×".join(f"{side:g}" for side in size) + " nm"
