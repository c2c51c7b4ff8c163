"""What a network costs: parameters, operations for a patch, and the memory of a training step.

All of it follows from the shapes of the network's parts, which are built without contents: nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from cleftnet.nets.attention import Attention, FeatureAugmentor, SelfAttention, SpatialGate, padded_width
from cleftnet.nets.parts import ChannelGatedConcatenate, GatedConcatenate, MaxUnpool, SpatialGatedConcatenate
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


class _Place(NamedTuple):
    """One part of a network, its voxels before and after, and the floats it keeps beside those of its attentions."""

    part: nn.Module
    before: int
    after: int
    kept: int


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
    places = list(_places(net))
    attentions = [m for m in net.modules() if isinstance(m, Attention)]
    parameters, attention_flops = sum(p.numel() for p in net.parameters()), sum(map(_attention_flops, attentions))
    kept = sum(p.kept for p in places) + sum(map(_kept_by_attention, attentions))
    # The peak is at the start of the backward pass, when one gradient of the first level's size joins what is kept, or,
    # for small patches, at its end, when every parameter has its gradient.
    peak = max(kept + spec.widths[0] * math.prod(spec.shapes[0]), parameters + places[0].kept)
    return Cost(
        parameters=parameters,
        query_parameters=sum(m.query.numel() for m in attentions if isinstance(m, FeatureAugmentor)),
        flops=sum(map(_convolution_flops, places)) + attention_flops,
        attention_flops=attention_flops,
        training_bytes=FLOAT32 * (3 * parameters + peak),
    )


def _places(net: Network) -> Iterator[_Place]:
    """Yield the parts of a network in the order of its forward pass."""
    voxels, widths, depth = [math.prod(shape) for shape in net.spec.shapes], net.spec.widths, len(net.spec.widths) - 1
    for i in range(depth):
        yield _block(net.encoder[i], widths[i], voxels[i])
        tensors = 1 if net.spec.down == "strided-conv" else 3  # pooling keeps indices of eight bytes
        yield _Place(net.downs[i], voxels[i], voxels[i + 1], tensors * widths[i] * voxels[i + 1])
    yield _block(net.bottom_block, widths[depth], voxels[depth])
    kept = 0 if isinstance(net.bottom, nn.Identity) else widths[depth] * voxels[depth]
    yield _Place(net.bottom, voxels[depth], voxels[depth], kept)
    for i, up, skip, block in zip(reversed(range(depth)), net.ups, net.skips, net.decoder, strict=True):
        yield _Place(up, voxels[i + 1], voxels[i], 0)
        yield _Place(skip, voxels[i], voxels[i], (channels_out(skip) + _channels_of_gate(skip)) * voxels[i])
        yield _block(block, widths[i], voxels[i])
    yield _Place(net.head, voxels[0], voxels[0], net.head.out_channels * voxels[0])


def _block(block: nn.Module, channels: int, voxels: int) -> _Place:
    """Return the place of a block, which keeps three tensors for each ELU: its input and output, and a norm's input."""
    elus = sum(isinstance(m, nn.ELU) for m in block.modules())
    return _Place(block, voxels, voxels, 3 * elus * channels * voxels)


def _channels_of_gate(skip: nn.Module) -> int:
    """Return the channels that a gate keeps beside the joined features."""
    if isinstance(skip, GatedConcatenate):
        return skip.from_up.in_channels + skip.from_up.out_channels + 1
    return int(any(isinstance(m, SpatialGate) for m in skip.modules()))


def _kept_by_attention(attention: Attention) -> int:
    """Return the floats that an attention keeps: keys, values, queries, attended values, softmax sums."""
    keys, queries, width = _attention_sizes(attention)
    reduced = attention.key_shape != attention.in_shape
    made = isinstance(attention, SelfAttention) or width > attention.key.out_channels  # not the parameter itself
    return keys * (2 * width + reduced * attention.key.in_channels) + queries * (width * (1 + made) + 1)


def _convolution_flops(place: _Place) -> int:
    """Return twice the multiply-adds of a place's convolutions, and of a gate's scores."""
    total = 0
    for module in place.part.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            at_input = isinstance(module, nn.ConvTranspose3d) or isinstance(place.part, MaxUnpool)
            total += module.weight.numel() * (place.before if at_input else place.after)
        elif isinstance(module, Attention):  # two of its convolutions run on the keys, and one on the queries
            keys, queries, _ = _attention_sizes(module)
            total += (module.key.weight.numel() + module.value.weight.numel()) * (keys - place.after)
            total += module.output.weight.numel() * (queries - place.after)
        elif isinstance(module, SpatialGatedConcatenate | ChannelGatedConcatenate):
            total += module.skip_channels * place.after
    return 2 * total


def _attention_flops(attention: Attention) -> int:
    """Return the operations of two matrix products, `KᵀQ` and `V · map`, at the width that the kernel gets."""
    return 4 * math.prod(_attention_sizes(attention))


def _attention_sizes(attention: Attention) -> tuple[int, int, int]:
    """Return the number of keys and of queries, and their width."""
    width = padded_width(attention.key.out_channels, attention.value.out_channels)
    return math.prod(attention.key_shape), math.prod(attention.query_shape), width
