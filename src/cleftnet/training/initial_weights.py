"""Starts a network from the weights of a model: loads tensors that match by name and shape, reports the others."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import NamedTuple

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import find_model, load_model
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.resizing import fit_queries
from cleftnet.nets.skeleton import Network

log = logging.getLogger(__name__)

SHOWN = 6  # names listed before a list is cut


class Loaded(NamedTuple):
    """Names of the tensors that a network took from a model, and of those that it did not.

    Attributes:
        model: The checkpoint.
        loaded: Those that did.
        resized: Those of them that were interpolated to another patch size or query grid: queries.
        fresh: Those that the model has not; they stay random.
        changed: Those whose shape differs, with both shapes; they stay random.
        unused: Those of the model that the network has not.
    """

    model: Path
    loaded: list[str]
    resized: list[str]
    fresh: list[str]
    changed: list[str]
    unused: list[str]

    def lines(self) -> list[str]:
        """Return a summary, one line for each list that is not empty."""
        total = len(self.loaded) + len(self.fresh) + len(self.changed)
        lines = [f"starting from {self.model}: {len(self.loaded)} of {total} tensors loaded"]
        for names, what in (
            (self.resized, "interpolated to the new patch size or query grid"),
            (self.fresh, "not in the model, so random"),
            (self.changed, "of another shape in the model, so random"),
            (self.unused, "in the model but not in this network, so unused"),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {what}: {', '.join(names[:SHOWN])}{more}")
        return lines


def start_from(net: Network, address: str | Path) -> Loaded:
    """Load into a network what fits of a model's weights; queries of another patch size or grid are interpolated.

    Args:
        net: The network, changed in place.
        address: A run directory or a checkpoint file; of an ensemble, its first network.

    Raises:
        InputError: when there is no such model, or nothing of it fits.
    """
    source = load_model(address).net
    if isinstance(source, Ensemble):
        log.info(f"{find_model(address)} is an ensemble of {len(source.networks)}; starting from its first network")
        source = source.networks[0]
    before = {name: tensor.shape for name, tensor in source.state_dict().items()}
    sizes = {"patch": net.spec.patch, "query_grid": net.spec.query_grid}
    if source.spec.changed(**sizes) != source.spec:
        with contextlib.suppress(InputError):  # other kernel sizes: listed below as changed shapes
            source = fit_queries(source, source.spec.changed(**sizes))
    theirs, mine = source.state_dict(), net.state_dict()
    both = [name for name in mine if name in theirs]
    fits = [name for name in both if mine[name].shape == theirs[name].shape]
    if not any(name.endswith("weight") and mine[name].dim() == 5 for name in fits):
        raise InputError(
            f"no kernel of {find_model(address)} fits this network; expected a model of the same net.name and net.widths"
        )
    net.load_state_dict({name: theirs[name] for name in fits}, strict=False)
    return Loaded(
        model=find_model(address),
        loaded=fits,
        resized=[name for name in fits if before[name] != theirs[name].shape],
        fresh=[name for name in mine if name not in theirs],
        changed=[f"{n} {tuple(mine[n].shape)} from {tuple(theirs[n].shape)}" for n in both if n not in fits],
        unused=[name for name in theirs if name not in mine],
    )
