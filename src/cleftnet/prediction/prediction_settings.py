"""Settings of a prediction, and the device that it runs on."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, InstanceOf

from cleftnet.geometry import OVERLAP, IntZYX
from cleftnet.settings import Settings, Sides
from cleftnet.volumes import GrayRange, Volume, as_volume

VoxelType = Literal["uint8", "float32"]
Precision = Literal["float32", "bf16"]


class PredictionSettings(Settings):
    """Everything that decides the voxels of a prediction, except the model and the volume.

    Attributes:
        overlap: Share of the patch that neighboring tiles have in common, 0 to 0.9; the paper's is 0. A voxel gets the mean of
            all tiles that cover it, weighted by its distance from the border of each.
        tta: Average over flips and in-plane rotations (test-time augmentation), 16 times the work.
        patch: Patch size z y x other than the one trained with; the queries are interpolated. None keeps the trained size.
        dtype: Type of the prediction: `uint8` (v stands for v / 255) or `float32`.
        mask: Volume, address or array that is nonzero where a prediction is wanted. Elsewhere the prediction is 0, and tiles
            without any wanted voxel are not computed. Its voxels may be larger than those of the predicted volume.
        skip_empty: Predict 0, without computing them, for tiles whose gray values are all 0.
        precision: Arithmetic of the network: `float32`, or `bf16` for matrix products and convolutions. None takes `bf16` on
            a GPU and `float32` on a CPU.
        rescale: Resample a volume whose voxels are not of the model's size to that size, and the prediction back.
        gray_range: Gray values that the network sees as black and white, where they are not the ends of the type's range; the
            first may be the larger one (inverted contrast). None takes the model's own normalization, if it has one.

    Raises:
        InputError: when a value is out of range.
    """

    overlap: float = Field(OVERLAP, ge=0, le=0.9)
    tta: bool = False
    patch: Sides | None = None
    dtype: VoxelType = "uint8"
    mask: Annotated[InstanceOf[Volume], BeforeValidator(as_volume)] | None = None
    skip_empty: bool = False
    precision: Precision | None = None
    rescale: bool = True
    gray_range: GrayRange | None = None


def overlap_in_voxels(patch: IntZYX, share: float) -> IntZYX:
    """Return how many voxels neighboring tiles share along z y x, for a share of the patch between 0 and 0.9.

    Example:
        >>> overlap_in_voxels((8, 96, 96), 0.5)
        (4, 48, 48)
    """
    z, y, x = (math.floor(n * share) for n in patch)
    return z, y, x


def precision_on(device: torch.device, asked: Precision | None = None) -> Precision:
    """Return the precision that was asked for, or the default of a device: bf16 on a GPU, float32 on a CPU.

    Example:
        >>> precision_on(torch.device("cpu")), precision_on(torch.device("cuda"))
        ('float32', 'bf16')
    """
    return asked or ("float32" if device.type == "cpu" else "bf16")


def best_device() -> torch.device:
    """Return the CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
