"""Several networks of one spec as one network: the mean of their logits."""

# ruff: noqa: F722 (the axes that jaxtyping reads are not Python)
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from cleftnet.errors import InputError
from cleftnet.nets.skeleton import Network

if TYPE_CHECKING:  # shapes are checked in tests only (tests/test_tensor_shapes.py); nothing at run time needs jaxtyping
    from jaxtyping import Float


class Ensemble(nn.Module):
    """Networks of one spec whose logits are averaged. Prediction takes as many times longer as there are members.

    Args:
        members: Two networks or more, trained apart.

    Raises:
        InputError: when there is one member only, or their specs differ.

    Example:
        >>> import torch
        >>> from cleftnet.nets.zoo import build
        >>> members = [build("resunet", widths=(2, 4), patch=(2, 8, 8)).eval() for _ in range(2)]
        >>> raw = torch.rand(1, 1, 2, 8, 8)
        >>> torch.equal(Ensemble(members)(raw), (members[0](raw) + members[1](raw)) / 2)
        True
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        if len(members) < 2 or any(member.spec != members[0].spec for member in members):
            raise InputError(
                "an ensemble has two networks or more, all of one spec; train them with the same net settings"
            )
        self.members = nn.ModuleList(members)
        self.spec = members[0].spec

    def channels_last(self) -> Self:
        """Store convolutions and queries of all members with channels last, and return self."""
        for member in self.networks:
            member.channels_last()
        return self

    @property
    def networks(self) -> list[Network]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList holds modules to mypy

    def each(self, change: Callable[[Network], Network]) -> Ensemble:
        """Return an ensemble of the changed members."""
        return Ensemble([change(member) for member in self.networks])

    def forward(self, x: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b outputs z y x"]:
        """Return the mean of the members' logits, `b outputs z y x`, for raw `b 1 z y x` in 0-1."""
        total = self.members[0](x)
        for member in self.networks[1:]:
            total = total + member(x)
        return total / len(self.members)  # type: ignore[no-any-return]  # nn.Module calls are Any
