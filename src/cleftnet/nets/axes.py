"""Linear maps along the axes of features: interpolation, and means over cells.

Both are a product with a small matrix along each axis. PyTorch's own kernels for volumes want channels first, compute in
float32 under autocast, and on a GPU add up the gradients of an interpolation by atomic operations: from a single voxel, at
the paper's size, these took 1,304 of the 1,527 ms of a training step (docs/gpu.md).
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor

from cleftnet.geometry import IntZYX

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float


def interpolate(x: Float[Tensor, "b c z y x"], shape: IntZYX) -> Float[Tensor, "b c rz ry rx"]:
    """Interpolate features trilinearly between voxel centers; beyond the outermost centers the value stays constant."""
    if x.is_cuda:
        return _along_axes(x, shape, interpolation_matrix)
    spread = tuple(b if a == 1 else a for a, b in zip(x.shape[-3:], shape, strict=True))
    x = x.expand(*x.shape[:2], *spread)  # a single voxel is the same everywhere
    return x if spread == tuple(shape) else F.interpolate(x, size=shape, mode="trilinear", align_corners=False)


def mean_over_cells(x: Float[Tensor, "b c z y x"], shape: IntZYX) -> Float[Tensor, "b c kz ky kx"]:
    """Return the means over cells that do not overlap; where they do not fit into a side, the last along it is smaller."""
    return _along_axes(x, shape, mean_matrix)


def _along_axes(x: Tensor, shape: IntZYX, matrix: Callable[[int, int, torch.device | None], Tensor]) -> Tensor:
    """Multiply features along every axis whose size changes by `matrix(old size, new size)`, new × old."""
    for axis, size in enumerate(shape, start=1):
        if x.shape[axis + 1] == size:
            continue
        rows = x.movedim(1, -1)
        before, old, after = rows.shape[:axis], rows.shape[axis], rows.shape[axis + 1 :]
        if old == 1:
            rows = rows.expand(*before, size, *after)
        else:
            lines = rows.reshape(math.prod(before), old, -1)  # no copy where channels lie last in memory
            number = lines.shape[0]  # an export with any batch size forbids len()
            factors = matrix(old, size, x.device).to(lines.dtype).expand(number, -1, -1)
            rows = torch.bmm(factors, lines).view(*before, size, *after)
        x = rows.movedim(-1, 1)
    return x


def interpolation_matrix(old: int, new: int, device: torch.device | None = None) -> Tensor:
    """Return the weights, new × old, of a linear interpolation between the centers of voxels along a line.

    Example:
        >>> interpolation_matrix(2, 4).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    places = ((torch.arange(new, device=device) + 0.5) * old / new - 0.5).clamp(0, old - 1)
    return (1 - (places[:, None] - torch.arange(old, device=device)).abs()).clamp(min=0)


def mean_matrix(old: int, new: int, device: torch.device | None = None) -> Tensor:
    """Return the weights, new × old, of the means over `new` cells along a line; the last may be smaller.

    Example:
        >>> mean_matrix(5, 2).mul(6).round().tolist()
        [[2.0, 2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 3.0]]
    """
    cell = torch.arange(old, device=device) // -(-old // new)
    inside = (cell == torch.arange(new, device=device)[:, None]).float()
    return inside / inside.sum(1, keepdim=True)
