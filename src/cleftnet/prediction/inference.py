"""How a trained network is run over a volume: everything that decides the voxels of a prediction, but model and raw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from cleftnet.errors import InputError, nearest
from cleftnet.geometry import OVERLAP, IntZYX
from cleftnet.volumes import Volume

VoxelType = Literal["uint8", "float32"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Inference:
    """How a trained network is run over a volume.

    Attributes:
        overlap: Share of the patch that neighbouring tiles have in common, 0 to 0.9; the paper's is 0. A voxel gets the mean of
            all tiles that saw it, weighted by how far inside each it lies.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.
        patch: Another patch size z y x than the one trained with, the queries interpolated; None keeps it.
        dtype: Of the prediction: `uint8` (v stands for v / 255) or `float32`.
        mask: Where a prediction is wanted, nonzero; 0 elsewhere, and tiles without any such voxel are left out. It may have
            larger voxels than raw.
        skip_empty: Leave out tiles whose raw is zero everywhere; they are predicted 0.
        precision: Of the network's arithmetic: `float32`, or `bf16` for matrix products and convolutions.

    Raises:
        InputError: when a value is none of these.
    """

    overlap: float = OVERLAP
    tta: bool = False
    patch: IntZYX | None = None
    dtype: VoxelType = "uint8"
    mask: Volume | None = None
    skip_empty: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, known in (("dtype", VoxelType), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(
                    f"unknown {name} '{getattr(self, name)}'; {nearest(getattr(self, name), [*get_args(known)])}"
                )
        overlap_in_voxels((1, 1, 1), self.overlap)


def overlap_in_voxels(patch: IntZYX, share: float) -> IntZYX:
    """Return how many voxels neighbouring tiles share, for a share of the patch between 0 and 0.9.

    Raises:
        InputError: for a share outside that range.

    Example:
        >>> overlap_in_voxels((8, 96, 96), 0.5)
        (4, 48, 48)
    """
    if not 0 <= share <= 0.9:
        raise InputError(f"overlap {share} must be a share of the patch between 0 and 0.9, such as 0.5")
    z, y, x = (math.floor(n * share) for n in patch)
    return z, y, x


def best_device() -> torch.device:
    """Return the CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
