"""A trained network at another patch size: the same weights, with the queries interpolated to the new feature sizes.

Convolutions know no patch size; only the queries do, one vector for each voxel of a level. As vision transformers do with
their position embeddings, each query tensor is interpolated trilinearly, so that the pattern that a place has learned
stays at the same share of the patch.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor

from cleftnet.errors import InputError
from cleftnet.geometry import IntZYX
from cleftnet.nets.skeleton import NetSpec, Network


def resize_network(net: Network, patch: IntZYX) -> Network:
    """Return a network of another patch size with the weights of `net`, its queries interpolated.

    What it costs in accuracy has to be measured on labelled data: the queries are no longer those that were trained, and
    where an axis is now halved more or less often, pooling differs from training too.

    Args:
        net: The network; it stays as it is.
        patch: The new input size z y x in voxels.

    Returns:
        A network of the same mode, device and type, its convolutions laid out with channels last.

    Raises:
        InputError: when a learned strided or transposed convolution was made for another number of halvings.

    Example:
        >>> from cleftnet.nets.zoo import build
        >>> net = build("cleftnet", widths=(4, 8), patch=(4, 16, 16))
        >>> resize_network(net, (4, 24, 20)).spec.patch
        (4, 24, 20)
    """
    spec = net.spec.changed(patch=patch)
    weights, resized = net.state_dict(), Network(spec)
    for path, new in resized.state_dict().items():
        if path.endswith("query"):
            weights[path] = _interpolate(weights[path], new.shape)
        elif weights[path].shape != new.shape:
            raise InputError(_kernels_differ(net.spec, spec))
    resized.load_state_dict(weights)
    like = next(net.parameters())
    return resized.to(like.device, like.dtype).train(net.training).channels_last()


def _interpolate(query: Tensor, shape: torch.Size) -> Tensor:
    """Return the query of an augmentor `k z y x`, or of a channel gate `z y x`, at another size.

    A spatial gate's query, one weight for each channel, already has its shape.
    """
    if query.shape == shape:
        return query
    resized = F.interpolate(query.reshape(1, -1, *query.shape[-3:]), shape[-3:], mode="trilinear", align_corners=False)
    if query.dim() == 3:  # a channel gate sums over voxels: keep the sum where their number changes
        resized = resized * (query.numel() / shape.numel())
    return resized.view(shape)


def _halvings(spec: NetSpec) -> IntZYX:
    """Return how often each axis is halved on the way down."""
    z, y, x = (sum(a != b for a, b in itertools.pairwise(sides)) for sides in zip(*spec.shapes, strict=True))
    return z, y, x


def _kernels_differ(old: NetSpec, new: NetSpec) -> str:
    """Say which axes are halved another number of times than the learned kernels were made for, and what would do."""
    levels, problems = len(old.widths) - 1, []
    for axis, side, before, after in zip("zyx", new.patch, _halvings(old), _halvings(new), strict=True):
        if before != after:
            fits = f"{2**before} or more" if before == levels else f"{2**before} to {2 ** (before + 1) - 1}"
            problems.append(
                f"{axis} = {side} is halved {after} times where training halved {before} times ({fits} fits)"
            )
    return (
        f"the learned strided and transposed convolutions of this network do not fit patch "
        f"{'×'.join(map(str, new.patch))}: {'; '.join(problems)}"
    )
