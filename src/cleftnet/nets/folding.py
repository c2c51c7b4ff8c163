"""Folds a network for inference: consecutive linear operations become one.

Three rewrites, each exact but for rounding (docs/method.md, "Folding for inference"):

- A key convolution folds into the query, since `(W_k m + b_k)ᵀ q = mᵀ (W_kᵀ q) + b_kᵀ q`; the last term is the same
  for every key and cancels in the softmax.
- The value and the output convolution fold into one, since `W_o (W_v M + b_v) A + b_o = (W_o W_v) M A + (W_o b_v +
  b_o)` where the columns of the softmax A sum to 1. Keys and values are then the features themselves.
- A batch norm, which in inference is a fixed scale and shift, folds into the convolution before it.

Activations are computed in place, since nothing is kept for a backward pass.
"""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cleftnet.nets.attention import FeatureAugmentor, add_residual, attend, convolve, tokens
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.keys import cell_bias, reduce_keys
from cleftnet.nets.skeleton import Network

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float


class FoldedAugmentor(nn.Module):
    """A feature augmentor whose keys and values are its input's features themselves.

    Args:
        fa: The augmentor to fold; it is not changed.

    Example:
        >>> fa, x = FeatureAugmentor(4, (2, 8, 8), (1, 4, 4)), torch.randn(1, 4, 2, 8, 8)
        >>> bool(torch.allclose(FoldedAugmentor(fa)(x), fa(x), atol=1e-5))
        True
    """

    query: Tensor

    def __init__(self, fa: FeatureAugmentor) -> None:
        super().__init__()
        self.key_shape, self.query_shape, self.out_shape, self.scale = (
            fa.key_shape,
            fa.query_shape,
            fa.out_shape,
            fa.scale,
        )
        (key, _), (value, value_bias), (output, output_bias) = map(_matrix, (fa.key, fa.value, fa.output))
        self.register_buffer("query", torch.einsum("kc,kzyx->czyx", key, fa.query.detach()))
        self.output = nn.Conv3d(value.shape[1], len(output), 1)
        self.output.weight = nn.Parameter((output @ value)[:, :, None, None, None], requires_grad=False)
        self.output.bias = nn.Parameter(output @ value_bias + output_bias, requires_grad=False)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c rz ry rx"]:
        """Augment features `b c *in_shape` into `b c *out_shape`."""
        source = tokens(reduce_keys(x, self.key_shape))
        z = attend(tokens(self.query[None]), source, source, self.scale, cell_bias(x, self.key_shape))
        return add_residual(convolve(self.output, z), self.query_shape, x, self.out_shape)


def _matrix(conv: nn.Conv3d) -> tuple[Tensor, Tensor]:
    """Return the matrix and the bias of a 1×1×1 convolution."""
    assert conv.bias is not None, "the convolutions of an augmentor have biases"
    return conv.weight.detach()[:, :, 0, 0, 0], conv.bias.detach()


def fold(net: Network | Ensemble) -> Network | Ensemble:
    """Return a copy of a network or an ensemble for inference, with its feature augmentors and batch norms folded.

    The copy gives the same output but for rounding, in less time and memory. It cannot be trained, and its weights are
    no longer those of its spec: save the original.

    Args:
        net: A trained network in any mode; it is not changed.

    Returns:
        The folded network in eval mode, on the same device.

    Example:
        >>> from cleftnet.nets.zoo import build
        >>> net = build("cleftnet", widths=(4, 8), patch=(4, 16, 16)).eval()
        >>> x = torch.rand(1, 1, 4, 16, 16)
        >>> bool(torch.allclose(fold(net)(x), net(x), atol=1e-5))
        True
    """
    folded = copy.deepcopy(net).eval()
    for module in list(folded.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, FeatureAugmentor):
                setattr(module, name, FoldedAugmentor(child))
        if isinstance(module, nn.Sequential):
            _fold_norms(module)
        if isinstance(module, nn.ELU):
            module.inplace = True
    return folded.requires_grad_(False)


def _fold_norms(chain: nn.Sequential) -> None:
    """Fold every batch norm of a chain into the convolution right before it, in place."""
    for position in range(len(chain) - 1):
        conv, norm = chain[position], chain[position + 1]
        if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
            chain[position], chain[position + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
