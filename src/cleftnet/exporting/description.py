"""What an exported file says about itself: input, outputs, tiles, calibration, threshold, licenses, and the model card."""

from __future__ import annotations

from importlib.metadata import version

from pydantic import JsonValue

from cleftnet.exporting.graph import INPUT, CalibratedNetwork
from cleftnet.geometry import OVERLAP
from cleftnet.models.checkpoint import Model, ModelCard, find_model
from cleftnet.models.released import FOLDER, LICENSE, LICENSE_NAME, list_models
from cleftnet.prediction import overlap_in_voxels
from cleftnet.prediction.job import model_digest

CODE_LICENSE = "MIT"
MEANING = {
    "probability": "calibrated probability of synaptic cleft, 0-1",
    "distance": "distance to the boundary of the cleft as the label augmentor measures it, 0-1; 0 outside",
}


def describe(model: Model, network: CalibratedNetwork, weights_license: str | None) -> dict[str, JsonValue]:
    """Return what the file of an exported model says about itself, by name; docs/export.md lists the names.

    Args:
        model: The model as it was loaded.
        network: The network that is exported.
        weights_license: SPDX identifier of the license of the weights, or None where it is not known.
    """
    card = model.card
    return {
        "format": "cleftnet export 1",
        "cleftnet_version": version("cleftnet"),
        "model_sha256": model_digest(model),
        "input": {"name": INPUT, "axes": "b 1 z y x", "type": "float32", "range": [0, 1]},
        "outputs": [
            {"name": name, "axes": "b 1 z y x", "type": "float32", "meaning": MEANING[name]} for name in network.outputs
        ],
        "patch_vox": list(network.patch),
        "overlap_vox": list(overlap_in_voxels(network.patch, OVERLAP)),
        "voxel_size_nm": None if card.voxel_size_nm is None else list(card.voxel_size_nm),
        "normalize": None if card.normalize is None else card.normalize.model_dump(mode="json"),
        "calibration": {**card.calibration._asdict(), "applied": True},
        "threshold": card.threshold,
        "synapses": None if card.synapses is None else card.synapses.model_dump(mode="json"),
        "licenses": {"code": CODE_LICENSE, "weights": weights_license},
        "card": card.model_dump(mode="json"),
    }


def released_name(address: str) -> str | None:
    """Return the name of the released model at an address; None for another model.

    Raises:
        InputError: when there is no such model.

    Example:
        >>> released_name("vnc-l3")
        'vnc-l3'
    """
    path = find_model(address)
    return path.stem if path.parent == FOLDER else None


def known_license(released: str | None, card: ModelCard) -> str | None:
    """Return the license of a released model and of what was fine-tuned from one; None where it is not known.

    Args:
        released: Name of the released model; None for another model.
        card: The model card, which names the model that the training began from, or the terms that it took from it.
    """
    recipe = card.provenance.get("recipe")
    start = recipe.get("init") if isinstance(recipe, dict) else None
    derived = start in list_models() or LICENSE_NAME in str(card.provenance.get("terms"))
    return LICENSE if released is not None or derived else None
