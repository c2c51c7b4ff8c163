"""What a network costs: parameters, operations for a patch, and the memory that a training step needs.

Counted on fake tensors, which have shapes and no contents: the paper's full size takes a second and no memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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
        flops: Floating-point operations of the convolutions and matrix products of one forward pass of one patch,
            attention included; a multiply-add counts as two. Norms, ELUs, pooling, and the exponentials of the softmax,
            one for each pair of query and key, are not counted.
        attention_flops: Those of `V · Softmax(KᵀQ)` alone.
        training_bytes: Peak memory of the tensors of one training step of one patch in float32: weights, Adam's two moments,
            gradients as they arise, what the forward pass keeps for the backward pass, and what both hold in passing. Not in
            it: workspaces inside the kernels (on the CPU a tenth at 32 channels and more, more than the network itself at
            16), freed memory that the C library keeps (`MALLOC_MMAP_THRESHOLD_=131072` makes it give it back), the
            maps inside the loss, an averaged copy of the weights, Python and PyTorch themselves.
    """

    parameters: int
    query_parameters: int
    flops: int
    attention_flops: int
    training_bytes: int


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Adds up the bytes of all tensors made within it and still alive, and remembers the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.peak = self.now = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {_storage(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _storage(tensor) not in self.known | given:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Two matrix products, `KᵀQ` and `V · map`, from the shapes `b h n c` of the flash kernel's arguments."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])


def cost(spec: NetSpec) -> Cost:
    """Count what a network costs, without running it.

    Example:
        >>> from cleftnet.nets.zoo import ZOO
        >>> found = cost(ZOO["resunet"])
        >>> found.parameters, found.attention_flops, round(found.flops / 1e12, 2)
        (8087553, 0, 0.35)
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})
    with FakeTensorMode():
        net = Network(spec).channels_last()
        patch = torch.empty(1, 1, *spec.patch)
        with _LiveBytes() as memory:
            with counter:
                output = net(patch)
            output.square().mean().backward()
    parameters = sum(p.numel() for p in net.parameters())
    by_operation = counter.get_flop_counts()["Global"]
    return Cost(
        parameters=parameters,
        query_parameters=sum(m.query.numel() for m in net.modules() if isinstance(m, FeatureAugmentor)),
        flops=sum(by_operation.values()),
        attention_flops=by_operation.get(attention, 0),
        training_bytes=3 * FLOAT32 * parameters + memory.peak,
    )
