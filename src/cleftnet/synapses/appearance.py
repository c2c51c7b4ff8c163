"""Sums over the voxels of parts that tell how they look: spread of the probability, and gray values in and around them.

Around a voxel are the voxels of its section that are no cleft, at most `AROUND_NM` away along y and x. Probability and gray
values are rounded to 256 levels, so that all sums are whole numbers and add up over blocks without rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cleftnet.errors import InputError
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.metrics.voxels import Floats, Integers, Mask
from cleftnet.volumes import Address, Array, Volume, as_volume, check_raw_type, intensity, place

AROUND_NM = 100.0  # beyond the density of a cleft, within the neurites that meet there
CORE = 191  # levels: a probability of 0.75

# Columns of the sums: squared levels of the probability; voxels of the core; voxels around, and their levels; then, with raw,
# gray levels inside and their squares; gray levels around and their squares.
SQUARE, CORE_VOXELS, AROUND, AROUND_PROBABILITY = range(4)
GRAY, GRAY_SQUARE, AROUND_GRAY, AROUND_GRAY_SQUARE = range(4, 8)
WITHOUT_RAW, WITH_RAW = 4, 8  # numbers of columns

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PlacedRaw:
    """Gray values laid over a prediction.

    Attributes:
        raw: The whole raw volume.
        corner: Its voxel that lies at the first voxel of the prediction.
    """

    raw: Volume
    corner: IntZYX

    @classmethod
    def of(cls, raw: Volume | Address | Array, prediction: Volume) -> PlacedRaw:
        """Lay raw over a prediction, which it must cover; its voxels are the prediction's, where it carries no voxel size.

        Raises:
            InputError: when it has other voxels, or does not cover the prediction.
        """
        volume = as_volume(raw)
        if volume.voxel_size is None:
            volume = replace(volume, voxel_size=prediction.voxel_size_nm)
        check_raw_type(volume.dtype)
        try:
            box = place(volume, prediction, prediction.box).prediction_box
        except InputError as error:
            raise InputError(f"raw does not fit the prediction, all of which it must cover: {error}") from None
        return cls(volume, box.start)

    def __getitem__(self, box: Box) -> UInt8:
        """Read gray levels 0 to 255 in a box of the prediction."""
        values = self.raw[box.shift(self.corner)]
        return as_levels(values if values.dtype == np.uint8 else intensity(values))


def as_levels(values: Array) -> UInt8:
    """Return values of 0 to 1 as levels 0 to 255; uint8 stays as it is."""
    return values if values.dtype == np.uint8 else np.rint(values * 255).astype(np.uint8)


def window_vox(voxel_size_nm: FloatZYX) -> IntZYX:
    """Return how far the surroundings of a voxel reach, in voxels z y x."""
    y, x = (max(1, int(AROUND_NM / side)) for side in voxel_size_nm[1:])
    return 0, y, x


def sum_appearance(
    parts: npt.NDArray[np.integer], mask: Mask, levels: UInt8, gray: UInt8 | None, inside: Box, window: IntZYX
) -> Floats:
    """Return the sums of each part, a row for each; the columns are named above.

    Args:
        parts: Numbers of the parts from 1, z y x, in the box `inside`.
        mask: Voxels of any part, in a box that reaches the window beyond `inside`, where the volume does.
        levels: Levels of the probability in that box.
        gray: Gray levels in that box; None gives no columns of gray.
        inside: Where the parts lie in that box.
        window: How far the surroundings of a voxel reach, in voxels z y x.

    Example:
        >>> parts = np.array([[[1, 1, 0, 0]]])
        >>> levels = np.array([[[200, 100, 7, 3]]], np.uint8)
        >>> sum_appearance(parts, parts > 0, levels, None, Box.of((1, 1, 4)), (0, 1, 2)).tolist()
        [[50000.0, 1.0, 3.0, 17.0]]
    """
    number = int(parts.max(initial=0))
    sums = np.zeros((number, WITHOUT_RAW if gray is None else WITH_RAW))
    if not number:
        return sums
    (z0, y0, x0), _ = inside.start, inside.stop
    for z, section in enumerate(parts):
        y, x = np.nonzero(section)
        if not y.size:
            continue
        ids, outside = section[y, x], ~mask[z0 + z]
        p = levels[z0 + z].astype(np.int64)
        own = p[y + y0, x + x0]
        voxel = [own * own, own >= CORE]
        images = [outside.astype(np.int64), p * outside]
        if gray is not None:
            raw = gray[z0 + z].astype(np.int64)
            here = raw[y + y0, x + x0]
            voxel += [here, here * here]
            images += [raw * outside, raw * raw * outside]
        around = [_window_sums(image, y + y0, x + x0, window[1:]) for image in images]
        columns = [*voxel[:2], *around[:2], *voxel[2:], *around[2:]]
        for column, values in enumerate(columns):
            sums[:, column] += np.bincount(ids, values, number + 1)[1:]
    return sums


def _window_sums(image: Integers, y: Integers, x: Integers, reach: tuple[int, int]) -> Integers:
    """Return the sums of a section over the window around each of some voxels, cut at its border."""
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(image, axis=0), axis=1, out=total[1:, 1:])
    top, bottom = np.maximum(y - reach[0], 0), np.minimum(y + reach[0] + 1, image.shape[0])
    left, right = np.maximum(x - reach[1], 0), np.minimum(x + reach[1] + 1, image.shape[1])
    sums: Integers = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return sums
