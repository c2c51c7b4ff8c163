"""What a network costs: parameters, operations for a patch, and the memory that a training step needs.

Counted on fake tensors, which have shapes and no contents: the paper's full size takes a second and no memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from cleftnet.nets.attention import FeatureAugmentor
from cleftnet.nets.skeleton import NetSpec, Network

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """The cost of one network.

    Attributes:
        parameters: All learned numbers, queries included.
        query_parameters: Those in the queries of the feature augmentors, which grow with the patch.
        flops: Floating-point operations of one forward pass of one patch, attention included; a multiply-add counts as two.
        attention_flops: Those of `V · Softmax(KᵀQ)` alone.
        training_bytes: Memory of one training step of one patch in float32: weights, gradients, Adam's two moments, and
            what the forward pass keeps for the backward pass. Workspaces of the kernels come on top.
    """

    parameters: int
    query_parameters: int
    flops: int
    attention_flops: int
    training_bytes: int


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Two matrix products, `KᵀQ` and `V · map`, from the shapes `b h n c` of the flash kernel's arguments."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])


def cost(spec: NetSpec) -> Cost:
    """Count what a network costs, without running it.

    Example:
        >>> from cleftnet.nets.zoo import ZOO
        >>> cost(ZOO["resunet"]).attention_flops, round(cost(ZOO["resunet"]).flops / 1e12, 2)
        (0, 0.35)
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})
    with FakeTensorMode():
        net = Network(spec)
        parameters = {p.untyped_storage()._cdata: p.numel() for p in net.parameters()}
        with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(torch.empty(1, 1, *spec.patch))
        activations = sum(size for storage, size in kept.items() if storage not in parameters)
        queries = sum(m.query.numel() for m in net.modules() if isinstance(m, FeatureAugmentor))
        total = sum(parameters.values())
        activations += math.prod(output.shape) * FLOAT32
    by_operation = counter.get_flop_counts()["Global"]
    return Cost(
        parameters=total,
        query_parameters=queries,
        flops=sum(by_operation.values()),
        attention_flops=by_operation.get(attention, 0),
        training_bytes=4 * total * FLOAT32 + activations,
    )
