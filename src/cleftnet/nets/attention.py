"""The attentions of the paper: feature augmentor (Eqs. 3-5), self-attention (Eq. 2), spatial and channel gate (Eq. 1).

They take features `b c z y x` and work on tokens `b n c`, one row of channels for each voxel. Features with channels
last lie in memory as tokens do, so that nothing is copied between the two, and a 1×1×1 convolution is a matrix product
of tokens.

The attention map, keys × queries, is never formed: at the paper's size it would take 137 GB. PyTorch's
`scaled_dot_product_attention` computes the same softmax with memory linear in voxels, as long as the channels of Q, K
and V lie side by side in memory. For a transposed view it forms the map on the CPU, without a warning.
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
from cleftnet.nets.axes import interpolate
from cleftnet.nets.keys import cell_bias, reduce_keys, reduced_shape

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float

QUERY_STD = 0.02  # queries start as normal(0, 0.02) (docs/method.md, "Feature augmentor")


def new_query(*shape: int) -> nn.Parameter:
    """Return a learnable query with random values, or without any on the meta device."""
    query = torch.empty(shape)
    return nn.Parameter(query if query.is_meta else nn.init.normal_(query, std=QUERY_STD))


def tokens(x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b n c"]:
    """Return the voxels of features as rows; copies nothing where channels lie last in memory."""
    return x.flatten(2).transpose(1, 2).contiguous()


def features(rows: Float[Tensor, "b n c"], shape: IntZYX) -> Float[Tensor, "b c z y x"]:
    """Return rows as features of size z y x with channels last in memory; the inverse of `tokens`, without a copy."""
    return rows.contiguous().view(rows.shape[0], *shape, rows.shape[2]).movedim(-1, 1)


def convolve(conv: nn.Conv3d, rows: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
    """Apply a 1×1×1 convolution to tokens, as a matrix product."""
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


def padded_width(key_channels: int, value_channels: int) -> int:
    """Return the common width that queries, keys and values are padded to for the attention kernel.

    The kernels want Q, K and V of one width, a multiple of four in float32 and of eight in bfloat16 on CUDA; otherwise
    they form the map.

    Example:
        >>> padded_width(30, 32), padded_width(33, 4)
        (32, 40)
    """
    return -(-max(key_channels, value_channels) // 8) * 8


def attend(
    query: Float[Tensor, "#b q k"],
    key: Float[Tensor, "b n k"],
    value: Float[Tensor, "b n v"],
    scale: float = 1.0,
    bias: Tensor | None = None,
) -> Float[Tensor, "b q v"]:
    """Return V · Softmax(KᵀQ) of Eq. 4 without forming the map.

    Args:
        query: One row for each query, the same for all samples of a batch or different ones.
        key: One row for each key.
        value: One row for each key.
        scale: Factor on KᵀQ; the paper has none, hence 1.
        bias: One number for each key, which is added to its products with all queries, after the scale.

    Returns:
        One row for each query; the softmax runs over the keys, separately for each query.
    """
    channels = value.shape[-1]
    if bias is not None:  # as one more channel, since kernels that form no map take no bias
        query, scale = F.pad(query * scale, (0, 1), value=1.0), 1.0
        key = torch.cat([key, bias.to(key.dtype).view(1, -1, 1).expand(key.shape[0], -1, 1)], -1)
    # Under autocast the convolutions return the lower precision, but the query parameter keeps its own. torch.export
    # cannot derive a dynamic batch size from an expanded tensor, hence the copy.
    query = query.to(key.dtype).expand(key.shape[0], -1, -1).contiguous()
    width = padded_width(key.shape[-1], channels)  # the added zeros change neither the products nor the sums
    q, k, v = (F.pad(t, (0, width - t.shape[-1])) if t.shape[-1] < width else t for t in (query, key, value))
    z = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), scale=scale)
    return z.squeeze(1)[..., :channels]


def halving(larger: Sequence[int], smaller: Sequence[int]) -> IntZYX:
    """Return the kernel, 2 or 1 per axis, that reduces `larger` to `smaller` by the rule `max(1, n // 2)`.

    Raises:
        ValueError: when an axis is neither kept nor halved.
    """
    kernel = [1 if a == b else 2 for a, b in zip(larger, smaller, strict=True)]
    if any(n // k != m for n, m, k in zip(larger, smaller, kernel, strict=True)):
        raise ValueError(f"{tuple(larger)} -> {tuple(smaller)} neither keeps nor halves every axis")
    return kernel[0], kernel[1], kernel[2]


def resize(x: Float[Tensor, "b c z y x"], shape: IntZYX) -> Float[Tensor, "b c rz ry rx"]:
    """Return `Residual(M)` of Eq. 5: max pooling where an axis shrinks, trilinear interpolation where it grows.

    Exact halves use 2×2×2 max pooling, other smaller sizes adaptive max pooling. An equal size returns `x` itself.
    """
    present = x.shape[-3:]
    pooled = tuple(min(a, b) for a, b in zip(present, shape, strict=True))
    if pooled != tuple(present):
        try:
            x = F.max_pool3d(x, halving(present, pooled))
        except ValueError:
            x = F.adaptive_max_pool3d(x, pooled)
    return interpolate(x, shape) if pooled != tuple(shape) else x


def add_residual(
    rows: Float[Tensor, "b n c"], query_shape: IntZYX, x: Float[Tensor, "b c z y x"], shape: IntZYX
) -> Float[Tensor, "b c rz ry rx"]:
    """Return attended rows as features, interpolated to `shape` where their grid differs, plus the residual of `x`."""
    attended = features(rows, query_shape)
    return (attended if query_shape == shape else interpolate(attended, shape)) + resize(x, shape)


class Attention(nn.Module):
    """Base of the attentions over voxels: keys, values, output and residual; a subclass makes the query.

    Args:
        channels: Channels of the input and of the output.
        in_shape: Input size z y x.
        out_shape: Output size z y x.
        key_channels: Channels of keys and queries.
        value_channels: Channels of values.
        max_keys: Largest number of keys; None keeps all.
        scale: Factor on KᵀQ.
    """

    def __init__(
        self,
        channels: int,
        in_shape: IntZYX,
        out_shape: IntZYX,
        key_channels: int,
        value_channels: int,
        max_keys: int | None,
        scale: float,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape, self.query_shape = in_shape, out_shape, out_shape
        self.key_shape = reduced_shape(in_shape, max_keys)
        self.scale = scale
        self.key = nn.Conv3d(channels, key_channels, 1)
        self.value = nn.Conv3d(channels, value_channels, 1)
        self.output = nn.Conv3d(value_channels, channels, 1)

    def augment(
        self, x: Float[Tensor, "b c z y x"], query: Float[Tensor, "#b k qz qy qx"]
    ) -> Float[Tensor, "b c rz ry rx"]:
        """Attend from `query` to the keys of `x`, and add the residual (Eqs. 4-5)."""
        source = tokens(reduce_keys(x, self.key_shape))
        keys, values, bias = convolve(self.key, source), convolve(self.value, source), cell_bias(x, self.key_shape)
        z = attend(tokens(query), keys, values, self.scale, bias)
        return add_residual(convolve(self.output, z), self.query_shape, x, self.out_shape)


class FeatureAugmentor(Attention):
    """The feature augmentor: learnable queries attend to all voxels of the input (Eqs. 3-5).

    `N = conv1x1x1(V · Softmax(KᵀQ)) + Residual(M)`, where K and V are 1×1×1 convolutions of the input M, and Q is a
    free parameter shared by all inputs. The output size may be half the input's, twice it, the same, or any other
    (docs/method.md, "Feature augmentor").

    Args:
        channels: Channels c of the input and of the output.
        in_shape: Input size z y x.
        out_shape: Output size z y x; without `query_grid` also the size of Q, which then fits this size alone.
        key_channels: c_k; default c, since the paper gives no number.
        value_channels: c_v; default c.
        max_keys: None is exact; a number pools the keys to at most that many cells, each weighed by its voxels. The
            mean of a cell is not one of its voxels: weights are an exponential of it, which is below the mean of their
            exponentials (docs/method.md, "Fewer keys").
        scale: Factor on KᵀQ; 1 as printed in Eq. 4.
        query_grid: None is the paper's form, a query for every output voxel. A size z y x has Q on that grid, at most
            the output's size, and interpolates what its queries attend to (docs/method.md, "Coarse queries").

    Example:
        >>> fa = FeatureAugmentor(4, (2, 8, 8), (1, 4, 4))
        >>> fa(torch.zeros(1, 4, 2, 8, 8)).shape
        torch.Size([1, 4, 1, 4, 4])
        >>> FeatureAugmentor(4, (2, 8, 8), (1, 4, 4), query_grid=(2, 2, 2)).query.shape
        torch.Size([4, 1, 2, 2])
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
        query_grid: IntZYX | None = None,
    ) -> None:
        k, v = key_channels or channels, value_channels or channels
        super().__init__(channels, in_shape, out_shape, k, v, max_keys, scale)
        if query_grid is not None:
            if min(query_grid) < 1:
                raise ValueError(f"query_grid is {query_grid}; expected three positive sides z y x, or None")
            z, y, x = map(min, query_grid, out_shape)
            self.query_shape = (z, y, x)
        self.query = new_query(k, *self.query_shape)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c rz ry rx"]:
        """Augment features `b c *in_shape` into `b c *out_shape`."""
        return self.augment(x, self.query[None])


class SelfAttention(Attention):
    """Self-attention (Eq. 2), for the row "CleftNet w SelfAttn": an augmentor whose query is computed from the input.

    A strided (down), transposed (up) or 1×1×1 convolution (same) gives the query the output's size (docs/method.md,
    "The other attentions of the paper").

    Args:
        channels: Channels of the input and of the output.
        in_shape: Input size z y x.
        out_shape: Output size z y x: each axis kept, halved or doubled.
        max_keys: None is exact; a number pools the keys to at most that many cells.
    """

    def __init__(self, channels: int, in_shape: IntZYX, out_shape: IntZYX, *, max_keys: int | None = None) -> None:
        super().__init__(channels, in_shape, out_shape, channels, channels, max_keys, 1.0)
        self.query = resampling_convolution(channels, in_shape, out_shape)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c rz ry rx"]:
        """Augment features `b c *in_shape` into `b c *out_shape`."""
        return self.augment(x, self.query(x))


def resampling_convolution(channels: int, in_shape: IntZYX, out_shape: IntZYX) -> nn.Module:
    """Return the convolution that resamples between two levels: strided (down), transposed (up), or 1×1×1 (same)."""
    if math.prod(out_shape) <= math.prod(in_shape):
        kernel = halving(in_shape, out_shape)
        return nn.Conv3d(channels, channels, kernel, stride=kernel)
    kernel = halving(out_shape, in_shape)
    z, y, x = (o - i * k for o, i, k in zip(out_shape, in_shape, kernel, strict=True))  # 1 where a side is odd
    return nn.ConvTranspose3d(channels, channels, kernel, stride=kernel, output_padding=(z, y, x))


class SpatialGate(nn.Module):
    """Spatial-wise gate (SWA, Eq. 1): scales each voxel's features by its score, `a = Softmax(Mᵀ q_s)` over voxels.

    Args:
        channels: Channels of the input; the gate has one weight for each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = new_query(channels)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z y x"]:
        """Scale `b c z y x` features voxel by voxel."""
        scores = torch.einsum("bczyx,c->bzyx", x, self.query)
        return x * scores.flatten(1).softmax(1).view_as(scores).unsqueeze(1)


class ChannelGate(nn.Module):
    """Channel-wise gate (CWA, Eq. 1): scales each channel by its score, `a = Softmax(M q_c)` over channels.

    Args:
        shape: Input size z y x; the gate has one weight for each voxel.
    """

    def __init__(self, shape: IntZYX) -> None:
        super().__init__()
        self.query = new_query(*shape)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z y x"]:
        """Scale `b c z y x` features channel by channel."""
        scores = torch.einsum("bczyx,zyx->bc", x, self.query)
        return x * scores.softmax(1)[:, :, None, None, None]
