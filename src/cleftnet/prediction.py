"""From raw to probability: the network over tiles of its patch size, each voxel written once (paper §IV-C, SPEC §5).

Probabilities leave here calibrated, so that they mean what they say; only then do they become uint8.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cleftnet.checkpoint import Float32, Model, load_model
from cleftnet.errors import InputError
from cleftnet.geometry import OVERLAP, Box, IntZYX, tile
from cleftnet.nets.folding import fold
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.skeleton import Network
from cleftnet.progress import track
from cleftnet.volumes import PREDICTION, Volume, create_volumes, open_volume
from cleftnet.volumes.volume import intensity

PROBABILITY, DISTANCE = "volumes/probability", "volumes/distance"


@dataclass(frozen=True)
class Inference:
    """How a trained network is run over a volume.

    Attributes:
        overlap: Share of the patch that neighbouring tiles have in common, 0 to 0.9; the paper's is 0.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.
        patch: Another patch size z y x than the one trained with, the queries interpolated; None keeps it.
    """

    overlap: float = OVERLAP
    tta: bool = False
    patch: IntZYX | None = None


class Tile(NamedTuple):
    """What the network says about one box: logits `heads z y x`, float32."""

    box: Box
    logits: Float32


def best_device() -> torch.device:
    """Return the CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_uint8(unit: Float32) -> npt.NDArray[np.uint8]:
    """Return values of 0-1 as 0-255, rounded to the nearest: v stands for v / 255."""
    return np.rint(unit * 255).astype(np.uint8)


def overlap_in_voxels(patch: IntZYX, share: float) -> IntZYX:
    """Return how many voxels neighbouring tiles share, for a share of the patch between 0 and 0.9.

    Raises:
        InputError: for a share outside that range.
    """
    if not 0 <= share <= 0.9:
        raise InputError(f"overlap {share} must be a share of the patch between 0 and 0.9, such as 0.5")
    z, y, x = (math.floor(n * share) for n in patch)
    return z, y, x


class _Turn(NamedTuple):
    """A flip after an in-plane rotation, and back again."""

    quarter: int = 0
    axes: tuple[int, ...] = ()

    def there(self, x: Tensor) -> Tensor:
        return x.rot90(self.quarter, (-2, -1)).flip(self.axes)

    def back(self, x: Tensor) -> Tensor:
        return x.flip(self.axes).rot90(-self.quarter, (-2, -1))


def _turns(patch: IntZYX) -> list[_Turn]:
    """All flips and in-plane rotations: 16 where the patch is square in the plane, else 8."""
    quarters = (0, 1) if patch[1] == patch[2] else (0,)
    subsets = [axes for n in range(4) for axes in itertools.combinations((-3, -2, -1), n)]
    return [_Turn(quarter, axes) for quarter in quarters for axes in subsets]


def logit_tiles(net: Network, raw: Volume, *, overlap: float = OVERLAP, tta: bool = False) -> Iterator[Tile]:
    """Run a network over a volume tile by tile, each voxel exactly once; memory is that of one patch.

    Args:
        net: It runs where its weights are.
        raw: Unsigned integers, or floats in 0-1, at least as large as the patch.
        overlap: Share of the patch that neighbouring tiles have in common; each keeps the half it saw best.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.

    Raises:
        InputError: when the volume is smaller than the patch.
    """
    patch, device = net.spec.patch, next(net.parameters()).device
    blocks = list(tile(raw.box, patch, overlap_in_voxels(patch, overlap)))
    turns = _turns(patch) if tta else [_Turn()]
    was_training = net.training
    net.eval()
    try:
        for block in track(blocks, "predicting", len(blocks)):
            x = torch.from_numpy(intensity(raw[block.read]))[None, None].to(device)
            logits = torch.stack([turn.back(_run(net, turn.there(x))) for turn in turns]).mean(0)
            own = block.write.relative_to(block.read.start).slices
            yield Tile(block.write, logits[(0, slice(None), *own)].float().cpu().numpy())
    finally:
        net.train(was_training)


@torch.inference_mode()
def _run(net: Network, x: Tensor) -> Tensor:
    return net(x.contiguous(memory_format=torch.channels_last_3d))  # type: ignore[no-any-return]  # nn.Module calls are Any


def predict(
    model: str | Path | Model,
    volume: str | Path | Volume,
    out: str | Path,
    *,
    roi: Box | None = None,
    inference: Inference = Inference(),
    overwrite: bool = False,
) -> Volume:
    """Predict a volume into a file of `volumes/probability` and `volumes/distance`, uint8, with voxel size and offset.

    Args:
        model: A run directory, a checkpoint file, or a loaded model.
        volume: Raw, or its address.
        out: The file to write, in the format of its ending (`.hdf`); it appears whole or not at all.
        roi: The part to predict, in voxels of the volume; None is all of it.
        inference: Overlap of the tiles, test-time augmentation, another patch size.
        overwrite: Whether an existing `out` may be replaced.

    Returns:
        The probability, opened lazily, with the model's threshold.

    Raises:
        InputError: when model or volume cannot be used, the network cannot take the patch, or `out` exists.
    """
    loaded = model if isinstance(model, Model) else load_model(model, best_device())
    whole = volume if isinstance(volume, Volume) else open_volume(volume)
    raw = whole if roi is None else whole.crop(roi)
    _warn_about_voxel_size(loaded, raw)
    net = fold(_at_patch(loaded.net, inference.patch)).channels_last()
    with create_volumes(out, overwrite) as new:
        create = functools.partial(new.create, voxel_size_nm=raw.voxel_size_nm, offset_nm=raw.offset_nm)
        probability = create(PROBABILITY, raw.shape, np.uint8, threshold=loaded.card.threshold)
        distance = create(DISTANCE, raw.shape, np.uint8) if len(loaded.card.spec.heads) > 1 else None
        for done in logit_tiles(net, raw, overlap=inference.overlap, tta=inference.tta):
            probability[done.box.slices] = to_uint8(loaded.probability(done.logits))
            depth = loaded.distance(done.logits)
            if distance is not None and depth is not None:
                distance[done.box.slices] = to_uint8(depth)
    return open_volume(out, default=PREDICTION)


def _at_patch(net: Network, patch: IntZYX | None) -> Network:
    """Return the network at another patch size, with a warning; itself where the size stays."""
    if patch is None or patch == net.spec.patch:
        return net
    trained, wanted = ("×".join(map(str, sides)) for sides in (net.spec.patch, patch))
    warnings.warn(
        f"this model was trained on patches of {trained}; its queries are interpolated to {wanted}, and its threshold may no "
        f"longer fit: docs/results.md has what that did to our scores; `cleftnet evaluate --sweep` on labels of your own",
        stacklevel=3,
    )
    return resize_network(net, patch)


def _warn_about_voxel_size(model: Model, raw: Volume) -> None:
    """Warn when the volume's voxels are not of the size that the model was trained on, to a tenth."""
    trained, found = model.card.voxel_size_nm, raw.voxel_size_nm
    if trained is not None and any(abs(f / t - 1) > 0.1 for f, t in zip(found, trained, strict=True)):
        warnings.warn(
            f"the model was trained on voxels of {trained} nm, {raw.address} has {found} nm (z y x): expect worse results",
            stacklevel=3,
        )
