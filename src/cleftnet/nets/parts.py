"""The parts of a network by name: blocks, downsampling, bottom, upsampling, skips (docs/method.md, "Networks").

A downsampling part returns `(x, memory)` and the upsampling part of the same level receives that memory, so that
SegNet's pooling indices need no special case. A skip joins the upsampled features with those of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from cleftnet.geometry import IntZYX
from cleftnet.nets.attention import (
    ChannelGate,
    FeatureAugmentor,
    SelfAttention,
    SpatialGate,
    halving,
    resampling_convolution,
)


class Site(NamedTuple):
    """Sizes at one place of the network, and the options of an attention there.

    Attributes:
        channels: Input channels.
        in_shape: Input size z y x.
        out_shape: Output size z y x.
        level_channels: Width of the shallower of the two levels.
        max_keys: Largest number of keys of an attention; None is exact.
        query_grid: Grid of a feature augmentor's queries; None is one query for each output voxel.
        zero_start: Whether a feature augmentor starts as its residual.
    """

    channels: int
    in_shape: IntZYX
    out_shape: IntZYX
    level_channels: int
    max_keys: int | None = None
    query_grid: IntZYX | None = None
    zero_start: bool = False


class ConvBlock(nn.Sequential):
    """Convolution block: 3×3×3 convolution, stride 1 → batch norm → ELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False),  # the norm has a bias of its own
            nn.BatchNorm3d(out_channels),
            nn.ELU(),
        )


class ResidualBlock(nn.Module):
    """Residual block: conv → BN → ELU → conv → BN → (+ input) → ELU, the original order of ResNets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(nn.Conv3d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm3d(channels))
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.activation(self.second(self.first(x)) + x)  # type: ignore[no-any-return]  # nn.Module calls are Any


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(ConvBlock(in_channels, out_channels), ConvBlock(out_channels, out_channels))


def _convolution_and_residual(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(ConvBlock(in_channels, out_channels), ResidualBlock(out_channels))


class Down(nn.Module):
    """Downsampling without memory."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the smaller features and None as memory."""
        return self.part(x), None


class IndexedMaxPool(nn.Module):
    """SegNet's downsampling: max pooling that returns the indices of the maxima."""

    def __init__(self, kernel: IntZYX) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smaller features and the indices of the maxima."""
        pooled, indices = F.max_pool3d(x, self.kernel, return_indices=True)
        return pooled, indices


class Up(nn.Module):
    """Upsampling that ignores the memory."""

    def __init__(self, part: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.part = part
        self.out_channels = out_channels

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """Return the larger features."""
        return self.part(x)  # type: ignore[no-any-return]  # nn.Module calls are Any


class MaxUnpool(nn.Module):
    """SegNet's upsampling: writes each value to the place of its maximum, and zeros elsewhere.

    The indices belong to the level's own channels, so a 1×1×1 convolution first gives the features that many channels.
    """

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(site.channels, site.level_channels, 1)
        self.kernel = halving(site.out_shape, site.in_shape)
        self.out_shape = site.out_shape
        self.out_channels = site.level_channels

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """Return the larger features; `memory` holds the pooling indices."""
        assert memory is not None, "max unpooling needs the indices of an indexed max pool"
        return F.max_unpool3d(self.reduce(x), memory, self.kernel, output_size=self.out_shape)


class NoSkip(nn.Module):
    """No skip: returns the upsampled features alone."""

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__()
        self.out_channels = up_channels

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return `x`."""
        return x


class Concatenate(nn.Module):
    """The skip of 3D U-Net: concatenates upsampled and encoder features."""

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__()
        self.skip_channels, self.out_channels = skip_channels, up_channels + skip_channels

    def gate(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the encoder features to concatenate: all of them."""
        return kept

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Concatenate features `b c z y x` along the channels."""
        return torch.cat([x, self.gate(x, kept)], dim=1)


class Add(nn.Module):
    """The skip of residual symmetric U-Nets (Lee et al. 2017): a 1×1×1 convolution of the upsampled features, added."""

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__()
        self.match = nn.Conv3d(up_channels, skip_channels, 1)
        self.out_channels = skip_channels

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the sum of both, with the encoder's channels."""
        return self.match(x) + kept  # type: ignore[no-any-return]  # nn.Module calls are Any


class GatedConcatenate(Concatenate):
    """AttnUnet's skip: an additive attention gate scales each encoder voxel by `σ(ψ(ReLU(W_s·kept + W_x·x)))`.

    As in Oktay et al. 2018. The gating signal is the upsampled features; the gate has half the skip's channels.
    """

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__(up_channels, skip_channels, shape)
        between = max(1, skip_channels // 2)
        self.from_up = nn.Conv3d(up_channels, between, 1)
        self.from_skip = nn.Conv3d(skip_channels, between, 1, bias=False)  # `from_up` has the bias of the sum
        self.score = nn.Conv3d(between, 1, 1)

    def gate(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the encoder features, each voxel scaled by a number between 0 and 1."""
        return kept * torch.sigmoid(self.score(F.relu(self.from_skip(kept) + self.from_up(x))))


class SpatialGatedConcatenate(Concatenate):
    """A skip whose encoder features pass the spatial-wise gate of Eq. 1."""

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__(up_channels, skip_channels, shape)
        self.attention = SpatialGate(skip_channels)

    def gate(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the encoder features scaled voxel by voxel."""
        return self.attention(kept)  # type: ignore[no-any-return]  # nn.Module calls are Any


class ChannelGatedConcatenate(Concatenate):
    """A skip whose encoder features pass the channel-wise gate of Eq. 1."""

    def __init__(self, up_channels: int, skip_channels: int, shape: IntZYX) -> None:
        super().__init__(up_channels, skip_channels, shape)
        self.attention = ChannelGate(shape)

    def gate(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the encoder features scaled channel by channel."""
        return self.attention(kept)  # type: ignore[no-any-return]  # nn.Module calls are Any


def _resampling(site: Site) -> nn.Module:
    return resampling_convolution(site.channels, site.in_shape, site.out_shape)


def _feature_augmentor(site: Site) -> nn.Module:
    sizes = (site.channels, site.in_shape, site.out_shape)
    augmentor = FeatureAugmentor(*sizes, max_keys=site.max_keys, query_grid=site.query_grid)
    if site.zero_start:
        for parameter in augmentor.output.parameters():
            nn.init.zeros_(parameter)
    return augmentor


def _self_attention(site: Site) -> nn.Module:
    return SelfAttention(site.channels, site.in_shape, site.out_shape, max_keys=site.max_keys)


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv-conv": _two_convolutions,
    "conv-residual": _convolution_and_residual,
}
DOWNS: dict[str, Callable[[Site], nn.Module]] = {
    "max-pool": lambda site: Down(nn.MaxPool3d(halving(site.in_shape, site.out_shape))),
    "max-pool-indices": lambda site: IndexedMaxPool(halving(site.in_shape, site.out_shape)),
    "strided-conv": lambda site: Down(_resampling(site)),
    "fa": lambda site: Down(_feature_augmentor(site)),
    "self-attention": lambda site: Down(_self_attention(site)),
}
BOTTOMS: dict[str, Callable[[Site], nn.Module]] = {
    "none": lambda site: nn.Identity(),
    "fa": _feature_augmentor,
    "self-attention": _self_attention,
}
UPS: dict[str, Callable[[Site], nn.Module]] = {
    "transposed-conv": lambda site: Up(_resampling(site), site.channels),
    "max-unpool": MaxUnpool,
    "fa": lambda site: Up(_feature_augmentor(site), site.channels),
    "self-attention": lambda site: Up(_self_attention(site), site.channels),
}
SKIPS: dict[str, Callable[[int, int, IntZYX], nn.Module]] = {
    "none": NoSkip,
    "concat": Concatenate,
    "add": Add,
    "gate-concat": GatedConcatenate,
    "swa-concat": SpatialGatedConcatenate,
    "cwa-concat": ChannelGatedConcatenate,
}
