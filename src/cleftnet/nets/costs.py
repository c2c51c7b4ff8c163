"""What a network costs: parameters, operations for a patch, and the memory of a training step.

All of it follows from the shapes of the network's parts, which are built without contents: nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from cleftnet.geometry import IntZYX
from cleftnet.nets.attention import Attention, ChannelGate, FeatureAugmentor, SelfAttention, SpatialGate, padded_width
from cleftnet.nets.parts import GatedConcatenate, MaxUnpool, NoSkip
from cleftnet.nets.skeleton import NetSpec, Network, channels_out

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """The cost of one network.

    Attributes:
        parameters: All learned numbers, queries included.
        query_parameters: Those in the queries of the feature augmentors, which grow with the patch.
        flops: Floating-point operations of the convolutions and matrix products of one forward pass of one patch,
            attention included; a multiply-add counts as two. Norms, ELUs, pooling, interpolation, and the exponentials
            of the softmax, one for each pair of query and key, are not counted.
        attention_flops: Those of `V · Softmax(KᵀQ)` alone.
        training_bytes: Peak memory of the tensors of one training step of one patch in float32: weights, Adam's two
            moments, gradients as they arise, what the forward pass keeps for the backward pass, and the gradients of
            features in passing. Not in it: the maps inside the loss, an averaged copy of the weights, Python and
            PyTorch themselves, freed memory that the C library keeps (`MALLOC_MMAP_THRESHOLD_=131072` makes it give it
            back), and workspaces inside the kernels. On a CPU with AVX-512 these are about a tenth at 32 channels or
            more. With AVX2 only, oneDNN unfolds the input of a 3×3×3 convolution for the gradient of its weights, 27
            numbers for each one, a section at a time or, for few channels, the whole patch: as much again as the
            network.
    """

    parameters: int
    query_parameters: int
    flops: int
    attention_flops: int
    training_bytes: int


@dataclass(frozen=True)
class _Stage:
    """One part of a network with the features that enter and leave it.

    Attributes:
        part: The part; it may have no parameters.
        channels: Channels that enter and leave.
        shapes: Sizes z y x that enter and leave.
        kept: Floats that the forward pass of this part keeps for the backward pass.
        pending: Floats of the gradient of joined features that the backward pass makes here and the encoder's block of
            the same level frees: positive at the skip, negative at that block.
    """

    part: nn.Module
    channels: tuple[int, int]
    shapes: tuple[IntZYX, IntZYX]
    kept: int
    pending: int = 0

    @property
    def features(self) -> tuple[int, int]:
        """How many floats enter and leave."""
        before, after = (c * math.prod(shape) for c, shape in zip(self.channels, self.shapes, strict=True))
        return before, after

    @property
    def parameters(self) -> int:
        """How many parameters the part has."""
        return sum(p.numel() for p in self.part.parameters())


def cost(spec: NetSpec) -> Cost:
    """Count what a network costs, without running it.

    Example:
        >>> from cleftnet.nets.zoo import ZOO
        >>> found = cost(ZOO["resunet"])
        >>> found.parameters, found.attention_flops, round(found.flops / 1e12, 2)
        (8087553, 0, 0.35)
    """
    with torch.device("meta"):
        net = Network(spec)
    stages = list(_stages(net))
    parameters = sum(p.numel() for p in net.parameters())
    attention = sum(_attention_flops(m) for m in net.modules() if isinstance(m, Attention))
    return Cost(
        parameters=parameters,
        query_parameters=sum(m.query.numel() for m in net.modules() if isinstance(m, FeatureAugmentor)),
        flops=sum(map(_convolution_flops, stages)) + attention,
        attention_flops=attention,
        training_bytes=FLOAT32 * (3 * parameters + _peak(stages)),
    )


def _stages(net: Network) -> Iterator[_Stage]:
    """Yield the parts of a network in the order of its forward pass."""
    shapes, widths, depth = net.spec.shapes, net.spec.widths, len(net.spec.widths) - 1
    entering = 1
    for i in range(depth):
        yield replace(_block(net.encoder[i], entering, widths[i], shapes[i]), pending=-_joined(net, i))
        entering = widths[i]
        left = 0 if net.spec.down == "strided-conv" else 2 * entering * math.prod(shapes[i + 1])  # pooling's indices
        kept = entering * math.prod(shapes[i + 1]) + left
        yield _Stage(net.downs[i], (entering, entering), (shapes[i], shapes[i + 1]), kept + _kept_by(net.downs[i]))
    yield _block(net.bottom_block, entering, widths[-1], shapes[-1])
    bottom = widths[-1] * math.prod(shapes[-1])
    kept = 0 if isinstance(net.bottom, nn.Identity) else bottom + _kept_by(net.bottom)
    yield _Stage(net.bottom, (widths[-1], widths[-1]), (shapes[-1], shapes[-1]), kept)
    for i, up, skip, block in zip(reversed(range(depth)), net.ups, net.skips, net.decoder, strict=True):
        voxels, rising, joined = math.prod(shapes[i]), channels_out(up), channels_out(skip)
        yield _Stage(up, (widths[i + 1], rising), (shapes[i + 1], shapes[i]), _kept_by(up))
        kept = joined * voxels + _kept_by_skip(skip, voxels)
        yield _Stage(skip, (rising, joined), (shapes[i], shapes[i]), kept, pending=_joined(net, i))
        yield _block(block, joined, widths[i], shapes[i])
    heads = len(net.spec.heads)
    yield _Stage(net.head, (widths[0], heads), (shapes[0], shapes[0]), heads * math.prod(shapes[0]))


def _block(block: nn.Module, entering: int, leaving: int, shape: IntZYX) -> _Stage:
    """Return the stage of a block, which keeps three tensors for each ELU: its input and output, and a norm's input."""
    elus = sum(isinstance(m, nn.ELU) for m in block.modules())
    return _Stage(block, (entering, leaving), (shape, shape), 3 * elus * leaving * math.prod(shape))


def _kept_by(part: nn.Module) -> int:
    """Return the floats that the attentions of a part keep: keys, values, queries, attended values, softmax sums."""
    kept = 0
    for attention in (m for m in part.modules() if isinstance(m, Attention)):
        keys, queries, width = _attention_sizes(attention)
        reduced = attention.key_shape != attention.in_shape
        made = isinstance(attention, SelfAttention) or width > attention.key.out_channels  # not the parameter itself
        kept += keys * (2 * width + reduced * attention.key.in_channels) + queries * (width * (1 + made) + 1)
    return kept


def _joined(net: Network, level: int) -> int:
    """Return the size of the joined features of a level in floats; 0 where there is no skip."""
    skip = net.skips[len(net.skips) - 1 - level]
    return 0 if isinstance(skip, NoSkip) else channels_out(skip) * math.prod(net.spec.shapes[level])


def _kept_by_skip(skip: nn.Module, voxels: int) -> int:
    """Return how many floats a gate keeps beside the joined features."""
    if isinstance(skip, GatedConcatenate):
        return (skip.from_up.in_channels + skip.from_up.out_channels + 1) * voxels
    return voxels if any(isinstance(m, SpatialGate) for m in skip.modules()) else 0


def _peak(stages: list[_Stage]) -> int:
    """Return the largest number of floats alive in one backward pass: kept features, and gradients so far.

    Within a stage two moments count: its first function, when the gradient of its output has become that of one more
    operation and nothing has been freed; and its end, when its own features are freed and the gradient of its input is
    made.
    """
    kept, gradients, pending, peak = sum(s.kept for s in stages), 0, 0, 0
    for stage in reversed(stages):
        before, after = stage.features
        peak = max(peak, kept + gradients + pending + after)
        kept -= stage.kept
        gradients += stage.parameters
        pending += stage.pending
        peak = max(peak, kept + gradients + pending + before + after)
    return peak


def _convolution_flops(stage: _Stage) -> int:
    """Return twice the multiply-adds of a stage's convolutions, and of a gate's scores."""
    before, after = map(math.prod, stage.shapes)
    total = 0
    for module in stage.part.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            at_input = isinstance(module, nn.ConvTranspose3d) or isinstance(stage.part, MaxUnpool)
            voxels = before if at_input else after
            total += module.weight.numel() * voxels
        elif isinstance(module, Attention):  # two of its convolutions run on the keys, and one on the queries
            on_keys = module.key.weight.numel() + module.value.weight.numel()
            total += on_keys * (math.prod(module.key_shape) - after)
            total += module.output.weight.numel() * (math.prod(module.query_shape) - after)
        elif isinstance(module, SpatialGate | ChannelGate):
            total += (stage.channels[1] - stage.channels[0]) * after
    return 2 * total


def _attention_flops(attention: Attention) -> int:
    """Return the operations of two matrix products, `KᵀQ` and `V · map`, at the width that the kernel gets."""
    return 4 * math.prod(_attention_sizes(attention))


def _attention_sizes(attention: Attention) -> tuple[int, int, int]:
    """Return the number of keys and of queries, and their width."""
    width = padded_width(attention.key.out_channels, attention.value.out_channels)
    return math.prod(attention.key_shape), math.prod(attention.query_shape), width
