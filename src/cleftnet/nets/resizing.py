"""Rebuilds a trained network for another patch size: same weights, queries interpolated to the new feature sizes.

Convolutions fit any patch size. Queries do not: there is one for each voxel of a level, so they are interpolated, as
vision transformers do with position embeddings. What a query has learned stays at the same fraction of the patch.
Queries on a coarse grid (`query_grid`) keep their size.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor

from cleftnet.errors import InputError
from cleftnet.geometry import IntZYX
from cleftnet.nets.axes import interpolate
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.skeleton import NetSpec, Network


def resize_network(net: Network | Ensemble, patch: IntZYX) -> Network | Ensemble:
    """Return a network or ensemble of another patch size with the weights of `net`, its queries interpolated.

    The loss of accuracy has to be measured on labelled data: the queries are no longer those that were trained. Where
    an axis is now halved more or less often, pooling differs from training too.

    Args:
        net: The network; it is not changed.
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
    if isinstance(net, Ensemble):
        return net.each(lambda member: fit_queries(member, spec))
    return fit_queries(net, spec)


def fit_queries(net: Network, spec: NetSpec) -> Network:
    """Return a network of a spec of another patch or query grid with the weights of `net`, its queries fitted.

    Queries are interpolated trilinearly. Where `spec` asks for another grid, no axis of which is longer, each takes the
    mean of those in its cell.

    Args:
        net: The network; it is not changed.
        spec: That of `net` with another `patch`, `query_grid`, or both.

    Returns:
        A network of the same mode, device and type, its convolutions laid out with channels last.

    Raises:
        InputError: when a learned strided or transposed convolution was made for another number of halvings.
    """
    weights, resized = net.state_dict(), Network(spec)
    regridded = spec.query_grid != net.spec.query_grid
    for path, new in resized.state_dict().items():
        if path.endswith("query"):
            weights[path] = _fitted(weights[path], new.shape, regridded)
        elif weights[path].shape != new.shape:
            raise InputError(_kernels_differ(net.spec, spec))
    resized.load_state_dict(weights)
    like = next(net.parameters())
    return resized.to(like.device, like.dtype).train(net.training).channels_last()


def _fitted(query: Tensor, shape: torch.Size, regridded: bool) -> Tensor:
    """Return the query of an augmentor `k z y x`, or of a channel gate `z y x`, at another size.

    A spatial gate's query, one weight for each channel, already has its shape.
    """
    if query.shape == shape:
        return query
    batch, (z, y, x) = query.reshape(1, -1, *query.shape[-3:]), shape[-3:]
    if regridded and all(new <= old for new, old in zip((z, y, x), query.shape[-3:], strict=True)):
        resized = F.adaptive_avg_pool3d(batch, (z, y, x))
    else:
        resized = interpolate(batch, (z, y, x))
    if query.dim() == 3:  # a channel gate sums over voxels: keep the sum where their number changes
        resized = resized * (query.numel() / shape.numel())
    return resized.view(shape)


def _halvings(spec: NetSpec) -> IntZYX:
    """Return how often each axis is halved on the way down."""
    z, y, x = (sum(a != b for a, b in itertools.pairwise(sides)) for sides in zip(*spec.shapes, strict=True))
    return z, y, x


def _kernels_differ(old: NetSpec, new: NetSpec) -> str:
    """Return which axes are halved more or less often than the learned kernels allow, and which sides would fit."""
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
