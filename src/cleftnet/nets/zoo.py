"""The paper's nine networks, one row each: same widths, depth and patch (docs/method.md, "Networks")."""

from __future__ import annotations

from typing import Any

from cleftnet.errors import InputError, nearest
from cleftnet.nets.skeleton import HEADS, NetSpec, Network

ZOO: dict[str, NetSpec] = {
    "segnet": NetSpec(block="conv-conv", down="max-pool-indices", up="max-unpool", skip="none"),
    "unet3d": NetSpec(block="conv-conv"),
    "vnet": NetSpec(down="strided-conv"),
    "resunet": NetSpec(),
    "attnunet": NetSpec(skip="gate-concat"),
    "cleftnet-no-la": NetSpec(down="fa", bottom="fa", up="fa"),
    "cleftnet-no-fa": NetSpec(heads=HEADS),
    "cleftnet-selfattn": NetSpec(down="self-attention", bottom="self-attention", up="self-attention", heads=HEADS),
    "cleftnet": NetSpec(down="fa", bottom="fa", up="fa", heads=HEADS),
}


def list_networks() -> list[str]:
    """Return the names of the networks that `build` and the key `net.name` of recipes take.

    Example:
        >>> "cleftnet" in list_networks()
        True
    """
    return list(ZOO)


def spec(name: str, **changes: Any) -> NetSpec:
    """Return a row of the zoo, with some of its fields changed.

    Raises:
        InputError: when the name or a field is unknown, or a value is refused.

    Example:
        >>> spec("cleftnet", patch=(8, 96, 96), max_keys=512).bottom
        'fa'
    """
    if not isinstance(name, str) or name not in ZOO:
        raise InputError(f"unknown network '{name}'; {nearest(str(name), list(ZOO))}")
    return ZOO[name].changed(**changes)


def build(name: str, **changes: Any) -> Network:
    """Build a network of the zoo.

    Args:
        name: A key of `ZOO`.
        **changes: Fields of `NetSpec` to change, such as `patch=(8, 96, 96)`, `max_keys=512`, `query_grid=(1, 1, 1)`.

    Returns:
        A module that maps raw `b 1 z y x` in 0-1 to logits `b heads z y x`.

    Raises:
        InputError: when the name or a field is unknown, or a value is refused.

    Example:
        >>> net = build("cleftnet", widths=(4, 8), patch=(4, 16, 16))
        >>> sum(p.numel() for p in net.parameters()) > 0
        True
    """
    return Network(spec(name, **changes))
