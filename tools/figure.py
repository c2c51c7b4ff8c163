"""Draws the picture of the README: raw, labels and prediction of one section by a network that never saw it.

    python -m tools.figure docs/images/validation.png

The network of the released ensemble that never saw the last fold of vnc-l3 (y >= 768) predicts it. Of its sections the one
with the most labeled cleft voxels is shown, and of that section the window with the most: the choice looks at the labels and
not at the prediction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from cleftnet.geometry import Box
from cleftnet.models.checkpoint import Model, load_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.prediction import predict
from cleftnet.volumes import is_cleft, open_volume

MODEL = "vnc-l3"
VOLUME = "$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf"
FOLD = Box((0, 768, 0), (20, 1024, 768))
WIDTH = 288  # columns of the window
ZOOM = 2
GAP, HEADING = 12, 40  # pixels
GRAYS = 60  # levels of raw in the PNG; the next two entries of its palette are the colors of the outlines
TRUTH, PREDICTION = GRAYS, GRAYS + 1
PALETTE = [level * 255 // (GRAYS - 1) for level in range(GRAYS) for _ in "rgb"] + [0, 160, 255] + [255, 140, 0]

Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]  # indices into the palette, y x


def window_with_most(cleft: Mask, width: int = WIDTH) -> tuple[int, slice]:
    """Return the section with the most cleft voxels, and its columns with the most.

    Args:
        cleft: Labeled cleft voxels, z y x.
        width: Columns of the window.

    Example:
        >>> cleft = np.zeros((3, 4, 8), bool)
        >>> cleft[1, :, 5] = True
        >>> window_with_most(cleft, width=4)
        (1, slice(2, 6, None))
    """
    z = int(cleft.sum(axis=(1, 2)).argmax())
    sums = np.convolve(cleft[z].sum(axis=0), np.ones(width), mode="valid")
    first = int(sums.argmax())
    return z, slice(first, first + width)


def as_palette(gray: Picture) -> Picture:
    """Return gray values 0-255 as indices into the palette."""
    return (gray // (256 / GRAYS)).astype(np.uint8)


def panel(raw: Picture) -> Picture:
    """Return a section of gray values 0-255 enlarged, as indices into the palette."""
    size = (raw.shape[1] * ZOOM, raw.shape[0] * ZOOM)
    return as_palette(np.asarray(Image.fromarray(raw).resize(size, Image.Resampling.LANCZOS)))


def outlined(picture: Picture, mask: Mask, color: int) -> Picture:
    """Return a panel with a line in a color of the palette drawn just outside a mask."""
    large = np.kron(mask, np.ones((ZOOM, ZOOM), bool))
    return np.where(binary_dilation(large, iterations=4) & ~binary_dilation(large), np.uint8(color), picture)


def figure(raw: Picture, truth: Mask, predicted: Mask) -> Image.Image:
    """Return the three panels side by side under their headings.

    Args:
        raw: Gray values 0-255 of one section, y x.
        truth: Labeled cleft voxels, y x.
        predicted: Predicted cleft voxels, y x.
    """
    plain = panel(raw)
    panels = {
        "raw": plain,
        "labeled by hand": outlined(plain, truth, TRUTH),
        "predicted": outlined(plain, predicted, PREDICTION),
    }
    height, width = plain.shape
    sheet = Image.new("L", (3 * width + 2 * GAP, height + HEADING), 255)
    for column, heading in enumerate(panels):
        ImageDraw.Draw(sheet).text((column * (width + GAP) + 2, 4), heading, font=ImageFont.load_default(26))
    indices = as_palette(np.asarray(sheet))
    for column, picture in enumerate(panels.values()):
        indices[HEADING:, column * (width + GAP) :][:, :width] = picture
    result = Image.fromarray(indices)
    result.putpalette(PALETTE)
    return result


def without_fold(name: str, fold: Box) -> Model:
    """Return the member of a released model, its network and trees, that never saw a fold."""
    model = load_model(name)
    assert isinstance(model.net, Ensemble)
    folds = model.card.provenance["folds"]
    assert isinstance(folds, list)
    member = folds.index(str(fold))
    trees = None if model.trees is None else model.trees.split(len(folds))[member]
    return Model(model.net.networks[member], model.card.model_copy(update={"members": 1}), trees)


def main() -> None:
    """Predict, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    raw = np.asarray(open_volume(VOLUME).crop(FOLD))
    truth = is_cleft(np.asarray(open_volume(f"{VOLUME}/volumes/labels/clefts").crop(FOLD)))
    probability = predict(without_fold(MODEL, FOLD), VOLUME, roi=FOLD)
    predicted = np.asarray(probability) >= round((probability.threshold or 0.5) * 255)
    z, columns = window_with_most(truth)
    sheet = figure(raw[z, :, columns], truth[z, :, columns], predicted[z, :, columns])
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)
    print(f"{out}: section {z}, columns {columns.start} to {columns.stop}, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
