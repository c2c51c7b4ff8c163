"""Draws the pictures of the gallery: synapses that a prediction found, missed and made up, chosen by their size alone.

    python -m tools.gallery PREDICTION TRUTH docs/images

Synapses are 26-connected components, of the labels and of the prediction at its own threshold, without a size filter. Of each
kind the largest are shown, in the section where they are largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cc3d
import numpy as np

from cleftnet.geometry import Box
from cleftnet.volumes import Volume, is_cleft, open_volume
from tools.figure import Mask, figure

SIDE = 160  # rows and columns of a window, voxels
EACH = 2  # pictures of each kind
KINDS = ("found", "missed", "false")


class Spot(NamedTuple):
    """A synapse to show.

    Attributes:
        voxels: Its number of voxels.
        z: Section where it is largest.
        y: Row of its middle in that section.
        x: Column of its middle in that section.
    """

    voxels: int
    z: int
    y: int
    x: int


def spots(truth: Mask, predicted: Mask) -> dict[str, list[Spot]]:
    """Return the synapses found, missed and made up, each kind from the largest to the smallest.

    Args:
        truth: Labeled cleft voxels, z y x.
        predicted: Predicted cleft voxels, z y x.

    Example:
        >>> truth, predicted = np.zeros((2, 1, 9, 9), bool)
        >>> truth[0, 1:4, 1:4] = predicted[0, 2:6, 2:4] = predicted[0, 8, 8] = True
        >>> {kind: [spot.voxels for spot in found] for kind, found in spots(truth, predicted).items()}
        {'found': [9], 'missed': [], 'false': [1]}
    """
    result: dict[str, list[Spot]] = {kind: [] for kind in KINDS}
    for mask, other, hit, miss in ((truth, predicted, "found", "missed"), (predicted, truth, "", "false")):
        ids = cc3d.connected_components(mask, connectivity=26)
        touched = set(np.unique(ids[other]).tolist())
        for number in range(1, int(ids.max()) + 1):
            kind = hit if number in touched else miss
            if kind:
                result[kind].append(_spot(ids == number))
    return {kind: sorted(found, reverse=True) for kind, found in result.items()}


def _spot(mask: Mask) -> Spot:
    """Return where a component is largest."""
    z = int(mask.sum(axis=(1, 2)).argmax())
    y, x = (round(float(places.mean())) for places in np.nonzero(mask[z]))
    return Spot(int(mask.sum()), z, y, x)


def window(spot: Spot, shape: tuple[int, int], side: int = SIDE) -> tuple[slice, slice]:
    """Return rows and columns of the square around a synapse, moved inwards at the border.

    Example:
        >>> window(Spot(9, 0, 2, 50), (100, 100), side=20)
        (slice(0, 20, None), slice(40, 60, None))
    """
    starts = [max(0, min(middle - side // 2, length - side)) for middle, length in zip(spot[2:], shape, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _part(prediction: Volume, volume: Volume) -> Box:
    """Return the box of a volume, in its voxels, that a prediction covers."""
    nm = zip(prediction.offset_nm, volume.offset_nm, volume.voxel_size_nm, strict=True)
    z, y, x = (round((mine - whole) / side) for mine, whole, side in nm)
    depth, height, width = prediction.shape
    return Box((z, y, x), (z + depth, y + height, x + width))


def _place(spot: Spot, box: Box) -> str:
    """Return the words for where a synapse lies in the whole volume."""
    z, y, x = (middle + first for middle, first in zip(spot[1:], box.start, strict=True))
    return f"section {z}, y {y}, x {x}"


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prediction", help="A file that `cleftnet predict` wrote for a part of the volume.")
    parser.add_argument("truth", help="The volume with its labels, an HDF5 file of CREMI's layout.")
    parser.add_argument("out", type=Path, help="Folder of the pictures.")
    given = parser.parse_args()
    probability = open_volume(f"{given.prediction}/volumes/probability")
    volume = open_volume(given.truth)
    box = _part(probability, volume)
    raw = np.asarray(volume.crop(box))
    truth = is_cleft(np.asarray(open_volume(f"{given.truth}/volumes/labels/clefts").crop(box)))
    predicted = np.asarray(probability) >= round((probability.threshold or 0.5) * 255)
    given.out.mkdir(parents=True, exist_ok=True)
    for kind, found in spots(truth, predicted).items():
        print(f"{kind}: {len(found)}")
        for number, spot in enumerate(found[:EACH], 1):
            part = (spot.z, *window(spot, (raw.shape[1], raw.shape[2])))
            sheet = figure(raw[part], truth[part], predicted[part])
            path = given.out / f"{kind}-{number}.png"
            sheet.save(path, optimize=True)
            print(f"  {path}: {spot.voxels} voxels, {_place(spot, box)}")


if __name__ == "__main__":
    main()
