"""Fewer keys of an attention: means over cells that do not overlap, each weighed by its voxels (docs/method.md)."""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cleftnet.geometry import IntZYX
from cleftnet.nets.axes import mean_over_cells

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float


def reduced_shape(shape: Sequence[int], max_keys: int | None) -> IntZYX:
    """Return the largest shape of at most `max_keys` voxels reached by halving the longest axis.

    Example:
        >>> reduced_shape((8, 256, 256), 2048)
        (8, 16, 16)
    """
    if max_keys is not None and max_keys < 1:
        raise ValueError(f"max_keys is {max_keys}; expected at least 1, or None for all keys")
    sides = [int(n) for n in shape]
    while max_keys is not None and math.prod(sides) > max_keys:
        longest = sides.index(max(sides))
        sides[longest] = (sides[longest] + 1) // 2
    return sides[0], sides[1], sides[2]


def reduce_keys(x: Float[Tensor, "b c z y x"], shape: IntZYX) -> Float[Tensor, "b c kz ky kx"]:
    """Return the features that keys and values are computed from: `x` itself, or its mean over cells.

    The cells do not overlap. Where a side is no multiple of its number of cells, the last cell along it is smaller
    (`cell_bias`).

    Args:
        x: Features `b c z y x`.
        shape: Number of cells along z y x, from `reduced_shape`.

    Returns:
        Features `b c *shape`.
    """
    return mean_over_cells(x, shape)


def cell_bias(x: Tensor, shape: IntZYX) -> Tensor | None:
    """Return the logarithm of the size of every cell of `reduce_keys`, relative to the largest; None where all are equal.

    Added to the products of keys and queries, it makes the softmax weigh a cell by its number of voxels.

    Example:
        >>> cell_bias(torch.zeros(1, 1, 1, 1, 5), (1, 1, 3)).exp().tolist()
        [1.0, 1.0, 0.5]
    """
    sizes = []
    for side, cells in zip(x.shape[-3:], shape, strict=True):
        largest = -(-side // cells)
        sizes.append([min(largest, side - n * largest) / largest for n in range(cells)])
    if all(min(axis) == 1 for axis in sizes):
        return None
    z, y, x_ = (torch.tensor(axis, device=x.device).log() for axis in sizes)
    return (z[:, None, None] + y[:, None] + x_).flatten()
