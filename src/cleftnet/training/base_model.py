"""What a fine-tuned model takes from its base: terms of use, settings of the training, and networks without tissue classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, find_model
from cleftnet.models.released import FOLDER, released_page
from cleftnet.nets.skeleton import Network
from cleftnet.settings import Settings
from cleftnet.volumes import Volume

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Settings)


def terms_of(address: str | Path, card: ModelCard) -> str | None:
    """Return the terms of use of a model: those of its released page, else those that its card took from its base.

    Args:
        address: Address of the model.
        card: Its card.

    Example:
        >>> from cleftnet.models.checkpoint import load_card
        >>> "CC BY-NC-SA 3.0" in terms_of("vnc-l3", load_card("vnc-l3"))
        True
    """
    path = find_model(address)
    if path.parent == FOLDER:
        page = released_page(path.stem)
        _, _, after = page.partition("## Data and terms\n")
        return after.partition("\n## ")[0].strip() or None
    kept = card.provenance.get("terms")
    return None if kept is None else str(kept)


def compare_sizes(card: ModelCard, raw: Volume) -> None:
    """Warn when the voxels of a volume are not of the size that a model learned on."""
    theirs = card.voxel_size_nm
    if theirs is not None and not np.allclose(theirs, raw.voxel_size_nm, rtol=0.2):
        log.warning(
            f"{raw.address} has voxels of {raw.voxel_size_nm} nm and the model learned on {theirs} nm (z y x); it is "
            f"fine-tuned at the volume's own size, which takes more labels"
        )


def settings_of(kind: type[S], values: Any) -> S:
    """Return the settings that the base was trained with; the defaults where this version does not know them."""
    try:
        return kind(**values) if isinstance(values, dict) else kind()
    except InputError:
        return kind()


def without_tissue(net: Network, card: ModelCard) -> Model:
    """Return a network without outputs for tissue classes, of which a few labels have none."""
    plain = Network(net.spec.changed(tissue_classes=0))
    outputs = plain.head.weight.shape[0]
    weights = net.state_dict()
    weights |= {name: weights[name][:outputs] for name in ("head.weight", "head.bias")}
    plain.load_state_dict(weights)
    return Model(plain, card.model_copy(update={"spec": plain.spec, "members": 1, "synapses": None, "trees": None}))
