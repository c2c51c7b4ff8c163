"""The attentions of the paper: the feature augmentor (Eqs. 3-5), its self-attention twin (Eq. 2), the two gates (Eq. 1).

All of them are called on `b c z y x` features and work on tokens, `b n c`: one row of channels for each voxel, which is how
features with channels last lie in memory, so that no copy is made between the two. A 1×1×1 convolution is a matrix product
of tokens. The attention map, keys × queries, is never formed: at the paper's own size it would take 137 GB.
`scaled_dot_product_attention` computes the same softmax with memory linear in voxels, provided that the channels of Q, K and
V lie side by side; with a transposed view it silently forms the map on the CPU.
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from cleftnet.geometry import IntZYX

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float

QUERY_STD = 0.02  # SPEC §1: Q starts as normal(0, 0.02)


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
    """Return the features that keys and values are made of: `b c z y x` itself, or its mean over cells.

    Args:
        x: `b c z y x`.
        shape: z y x from `reduced_shape`.

    Returns:
        `b c *shape`.
    """
    return x if tuple(x.shape[-3:]) == shape else F.adaptive_avg_pool3d(x, shape)


def tokens(x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b n c"]:
    """Return the voxels of features as rows, without a copy where channels lie last in memory."""
    return x.flatten(2).transpose(1, 2).contiguous()


def features(rows: Float[Tensor, "b n c"], shape: IntZYX) -> Float[Tensor, "b c z y x"]:
    """Return rows as features of a size z y x, their channels last in memory; the inverse of `tokens`, without a copy."""
    return rows.contiguous().view(rows.shape[0], *shape, rows.shape[2]).movedim(-1, 1)


def convolve(conv: nn.Conv3d, rows: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
    """Apply a 1×1×1 convolution to tokens, as the matrix product that it is."""
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


def attend(
    query: Float[Tensor, "#b q k"], key: Float[Tensor, "b n k"], value: Float[Tensor, "b n v"], scale: float = 1.0
) -> Float[Tensor, "b q v"]:
    """Return V · Softmax(KᵀQ) of Eq. 4 without forming the map.

    Args:
        query: One row for each query, of one sample for the whole batch or of each.
        key: One row for each key.
        value: One row for each key.
        scale: Factor on KᵀQ; the paper has none, hence 1.

    Returns:
        One row for each query; the softmax runs over the keys, separately for each query.
    """
    channels = value.shape[-1]
    # The kernels want Q, K and V of one type and one width, those of CUDA in float32 a multiple of four, in bfloat16 of eight,
    # or else they form the map. Zeros change neither the products nor the sums.
    # Under autocast the convolutions give the lower precision, the query parameter does not; torch.export cannot read a batch
    # of any size from an expanded tensor, hence the copy.
    query = query.to(key.dtype).expand(key.shape[0], -1, -1).contiguous()
    width = -(-max(key.shape[-1], channels) // 8) * 8
    q, k, v = (F.pad(t, (0, width - t.shape[-1])) if t.shape[-1] < width else t for t in (query, key, value))
    z = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), scale=scale)
    return z.squeeze(1)[..., :channels]


def halving(larger: Sequence[int], smaller: Sequence[int]) -> IntZYX:
    """Return the kernel, 2 or 1 per axis, that takes `larger` to `smaller` by the depth rule `max(1, n // 2)`.

    Raises:
        ValueError: when an axis is neither kept nor halved.
    """
    kernel = [1 if a == b else 2 for a, b in zip(larger, smaller, strict=True)]
    if any(n // k != m for n, m, k in zip(larger, smaller, kernel, strict=True)):
        raise ValueError(f"{tuple(larger)} -> {tuple(smaller)} neither keeps nor halves every axis")
    return kernel[0], kernel[1], kernel[2]


def resize(x: Float[Tensor, "b c z y x"], shape: IntZYX) -> Float[Tensor, "b c rz ry rx"]:
    """Return `Residual(M)` of Eq. 5: max pooling where an axis shrinks, trilinear interpolation where it grows.

    Exact halves use 2×2×2 max pooling; other smaller sizes adaptive max pooling; equal sizes are the identity (SPEC §1).
    """
    present = x.shape[-3:]
    pooled = tuple(min(a, b) for a, b in zip(present, shape, strict=True))
    if pooled != tuple(present):
        try:
            x = F.max_pool3d(x, halving(present, pooled))
        except ValueError:
            x = F.adaptive_max_pool3d(x, pooled)
    if pooled != tuple(shape):
        x = F.interpolate(x, size=shape, mode="trilinear", align_corners=False)
    return x


class _Attention(nn.Module):
    """Keys, values, output and residual, which both attentions share; a subclass says where the query comes from."""

    def __init__(
        self, channels: int, in_shape: IntZYX, out_shape: IntZYX, k: int, v: int, max_keys: int | None, scale: float
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.key_shape = reduced_shape(in_shape, max_keys)
        self.scale = scale
        self.key = nn.Conv3d(channels, k, 1)
        self.value = nn.Conv3d(channels, v, 1)
        self.output = nn.Conv3d(v, channels, 1)

    def augment(
        self, x: Float[Tensor, "b c z y x"], query: Float[Tensor, "#b k qz qy qx"]
    ) -> Float[Tensor, "b c qz qy qx"]:
        """Attend from `query` to the keys of `x`, and add the residual (Eqs. 4-5)."""
        source = tokens(reduce_keys(x, self.key_shape))
        z = attend(tokens(query), convolve(self.key, source), convolve(self.value, source), self.scale)
        return features(convolve(self.output, z), self.out_shape) + resize(x, self.out_shape)


class FeatureAugmentor(_Attention):
    """The feature augmentor: learnable queries attend to all voxels of the input (Eqs. 3-5, SPEC §1).

    `N = conv1x1x1(V · Softmax(KᵀQ)) + Residual(M)`, where K and V are 1×1×1 convolutions of the input M and Q is a free
    parameter shared by all inputs. The sizes of Q decide between down (half), up (double), same, or any other size.

    Args:
        channels: Channels c of the input and of the output.
        in_shape: Input size z y x; another size is an error, since Q belongs to one patch size.
        out_shape: Query size z y x, which is the output size.
        key_channels: c_k; the paper gives no number, default c.
        value_channels: c_v; default c.
        max_keys: None is exact; a number pools the keys to at most so many voxels. Keys carry no position, so that the
            attended sum is a mean over the input's features, which fewer keys estimate.
        scale: Factor on KᵀQ, 1 as printed in Eq. 4.

    Example:
        >>> fa = FeatureAugmentor(4, (2, 8, 8), (1, 4, 4))
        >>> fa(torch.zeros(1, 4, 2, 8, 8)).shape
        torch.Size([1, 4, 1, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        in_shape: IntZYX,
        out_shape: IntZYX,
        *,
        key_channels: int | None = None,
        value_channels: int | None = None,
        max_keys: int | None = None,
        scale: float = 1.0,
    ) -> None:
        k, v = key_channels or channels, value_channels or channels
        super().__init__(channels, in_shape, out_shape, k, v, max_keys, scale)
        self.query = nn.Parameter(torch.empty(k, *out_shape))
        nn.init.normal_(self.query, std=QUERY_STD)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c qz qy qx"]:
        """Augment `b c *in_shape` features into `b c *out_shape`."""
        return self.augment(x, self.query[None])


class SelfAttention(_Attention):
    """Eq. 2, for the row "CleftNet w SelfAttn": as the feature augmentor, but the query is computed from the input.

    The query has the target size: a 1×1×1 convolution (same), a strided one (down), a transposed one (up) (SPEC §2).

    Args:
        channels: Channels of the input and of the output.
        in_shape: Input size z y x.
        out_shape: Output size z y x: each axis kept, halved or doubled.
        max_keys: None is exact; a number pools the keys to at most so many voxels.
    """

    def __init__(self, channels: int, in_shape: IntZYX, out_shape: IntZYX, *, max_keys: int | None = None) -> None:
        super().__init__(channels, in_shape, out_shape, channels, channels, max_keys, 1.0)
        self.query = resampling_convolution(channels, in_shape, out_shape)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c qz qy qx"]:
        """Augment `b c *in_shape` features into `b c *out_shape`."""
        return self.augment(x, self.query(x))


def resampling_convolution(channels: int, in_shape: IntZYX, out_shape: IntZYX) -> nn.Module:
    """Return the learned resampling between two levels: strided (down), transposed (up), or 1×1×1 (same) convolution."""
    if math.prod(out_shape) <= math.prod(in_shape):
        kernel = halving(in_shape, out_shape)
        return nn.Conv3d(channels, channels, kernel, stride=kernel)
    kernel = halving(out_shape, in_shape)
    z, y, x = (o - i * k for o, i, k in zip(out_shape, in_shape, kernel, strict=True))  # 1 where a side is odd
    return nn.ConvTranspose3d(channels, channels, kernel, stride=kernel, output_padding=(z, y, x))


class SpatialGate(nn.Module):
    """Spatial-wise gate (SWA, Eq. 1): `a = Softmax(Mᵀ q_s)` over voxels; every voxel's features are scaled by its score.

    Args:
        channels: Channels of the input; the gate holds one weight for each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.query, std=QUERY_STD)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z y x"]:
        """Scale `b c z y x` features voxel by voxel."""
        scores = torch.einsum("bczyx,c->bzyx", x, self.query)
        return x * scores.flatten(1).softmax(1).view_as(scores).unsqueeze(1)


class ChannelGate(nn.Module):
    """Channel-wise gate (CWA, Eq. 1): `a = Softmax(M q_c)` over channels; every channel is scaled by its score.

    Args:
        shape: Input size z y x; the gate holds one weight for each voxel.
    """

    def __init__(self, shape: IntZYX) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.query, std=QUERY_STD)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z y x"]:
        """Scale `b c z y x` features channel by channel."""
        scores = torch.einsum("bczyx,zyx->bc", x, self.query)
        return x * scores.softmax(1)[:, :, None, None, None]
