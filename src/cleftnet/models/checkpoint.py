"""Reads and writes trained models: safetensors weights with a model card, and no executable content.

The card lies inside the file. It holds the network's specification, the calibration that makes its output a probability, the
threshold chosen on validation, and the origin of the weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor

from cleftnet.errors import InputError, nearest
from cleftnet.files import replacing
from cleftnet.metrics.calibration import Calibration
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.models.released import FOLDER, list_models, released_weights
from cleftnet.models.trees import PREFIX, BoostedTrees, TreeSettings
from cleftnet.nets.ensemble import Ensemble
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.settings import VoxelSize
from cleftnet.volumes import NormalizationSettings

BEST, LAST = "best.safetensors", "last.safetensors"  # names inside a run directory
_KEY = "cleftnet"  # of the card in the metadata of a safetensors file

Float32 = npt.NDArray[np.float32]


class ModelCard(BaseModel):
    """Describes a set of weights: network, calibration, threshold, scores and origin.

    Attributes:
        spec: Parts and sizes of the network.
        members: Number of networks whose logits are averaged; 1 is a single network.
        calibration: Scale and shift that make the segmentation logit a probability (docs/method.md, "Losses").
        threshold: Voxels of at least this probability count as cleft; chosen on validation.
        synapses: How synapses are found in its predictions; None where it was not tuned on labels.
        voxel_size_nm: Voxel size z y x of the training data.
        trees: Boosted trees whose log-odds are averaged with the logits of the networks; None where there are none.
        normalize: How gray values of every volume are brought to one range before the network sees them; None leaves them.
        step: Optimizer steps taken.
        scores: Validation scores of these weights.
        provenance: Versions, device, seed and recipe, with which the training can be repeated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: NetSpec
    members: int = Field(1, ge=1, le=1000)
    calibration: Calibration = Calibration()
    threshold: float = Field(0.5, ge=0, le=1)
    synapses: OperatingPoint | None = None
    voxel_size_nm: VoxelSize | None = None
    trees: TreeSettings | None = None
    normalize: NormalizationSettings | None = None
    step: int = 0
    scores: Mapping[str, float | None] = {}
    provenance: Mapping[str, JsonValue] = {}


@dataclass(frozen=True)
class Model:
    """A network, or an ensemble of networks, perhaps with boosted trees beside it, and its model card."""

    net: Network | Ensemble
    card: ModelCard
    trees: BoostedTrees | None = None

    def probability(self, logits: Float32) -> Float32:
        """Return the calibrated probability of cleft in 0-1, `z y x`, from logits `heads z y x`."""
        return self.card.calibration.probability(logits[0])

    def distance(self, logits: Float32) -> Float32 | None:
        """Return the distance of the boundary head in 0-1, `z y x`, or None if the network has no such head."""
        return np.tanh(logits[1]).clip(min=0) if len(logits) > 1 else None


def save_model(path: Path, model: Model, *, half: bool = False) -> None:
    """Write weights and card to one safetensors file, whole or not at all.

    Args:
        path: File to write; an existing one is replaced.
        model: The model to write.
        half: Round kernels and queries to float16, which halves the file; norms, biases and trees stay float32.
    """
    weights = model.net.state_dict()
    if half:
        weights = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in weights.items()}
    trees = {} if model.trees is None else model.trees.tensors()
    write_tensors(path, weights | trees, {_KEY: model.card.model_dump_json()})


def save_trees(path: Path, trees: BoostedTrees) -> None:
    """Write boosted trees alone, as a part of a model that `load_trees` reads."""
    write_tensors(path, trees.tensors(), {_KEY: trees.settings.model_dump_json()})


def load_trees(path: Path) -> BoostedTrees:
    """Read boosted trees that `save_trees` wrote.

    Raises:
        InputError: when the file is missing or damaged.
    """
    with _refusing(path):
        with safetensors.safe_open(path, framework="pt") as file:
            settings = TreeSettings.model_validate(json.loads((file.metadata() or {})[_KEY]))
        return BoostedTrees.from_tensors(settings, safetensors.torch.load_file(path))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write tensors and texts to one safetensors file, which replaces `path` once it is complete and on disk.

    Raises:
        InputError: when the disk is full; an existing file at `path` stays as it was.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, overwrite=True) as temporary:
        try:
            safetensors.torch.save_file(plain, temporary, dict(texts))
        except safetensors.SafetensorError as error:  # contains the error of the system as text
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]), os.strerror(int(code[1]))) if code else error from None
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # after a power failure there must be no renamed but empty file


def find_model(address: str | Path) -> Path:
    """Return the checkpoint file of a model, which is named by a file, a run directory or the name of a released model.

    A path takes precedence over the name of a released model, unless it is a folder without a checkpoint. For a run directory
    the best checkpoint is returned.

    Raises:
        InputError: when there is no such model.
    """
    path = Path(address)
    for file in (path, path / BEST, path / LAST):
        if file.is_file():
            return file
    if str(address) in (known := list_models()):
        return released_weights(str(address))
    if path.is_dir():
        raise InputError(f"{path} holds no {BEST}; expected a run directory that `cleftnet train` has finished writing")
    raise InputError(
        f"no model at {path}; expected a run directory, a .safetensors file, or a released model "
        f"({nearest(str(address), known)})"
    )


def load_card(address: str | Path) -> ModelCard:
    """Read the card of a model without its weights.

    Args:
        address: A run directory (its best checkpoint), a `.safetensors` file, or the name of a released model.

    Raises:
        InputError: when there is no such model, or cleftnet did not write the file.

    Example:
        >>> load_card("vnc-l3").voxel_size_nm
        (50.0, 4.6, 4.6)
    """
    path = find_model(address)
    with _refusing(path), safetensors.safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise InputError(f"{path} holds weights without a cleftnet card; expected a file that cleftnet wrote")
    with _refusing(path):
        return ModelCard.model_validate(json.loads(text))


def load_model(address: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a trained model; nothing in the file is executed.

    Args:
        address: A run directory (its best checkpoint), a `.safetensors` file, or the name of a released model.
        device: Device to put the network on, as float32 whatever the type in the file.

    Raises:
        InputError: when there is no such model, or cleftnet did not write the file.
    """
    path, card = find_model(address), load_card(address)
    with _refusing(path):
        _check_weights(path, card)
        networks = [Network(card.spec) for _ in range(card.members)]
        net = Ensemble(networks) if len(networks) > 1 else networks[0]
        tensors = safetensors.torch.load_file(path)
        trees = None if card.trees is None else BoostedTrees.from_tensors(card.trees, tensors)
        net.load_state_dict(
            {name: tensor for name, tensor in tensors.items() if trees is None or not name.startswith(PREFIX)}
        )
    return Model(net.channels_last().to(device).eval(), card, trees)


def _check_weights(path: Path, card: ModelCard) -> None:
    """Compare names and shapes of the weights with those of the card's network, before memory is taken for it.

    Raises:
        ValueError: when they differ.
    """
    try:
        with torch.device("meta"):
            one = {name: list(tensor.shape) for name, tensor in Network(card.spec).state_dict().items()}
    except TypeError:  # a side beyond 64 bits
        raise ValueError("overflow: its sizes are no sizes of a network") from None
    prefixes = [""] if card.members == 1 else [f"members.{number}." for number in range(card.members)]
    expected = {prefix + name: shape for prefix in prefixes for name, shape in one.items()}
    with safetensors.safe_open(path, framework="pt") as file:
        stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    if card.trees is not None:
        stored = {name: shape for name, shape in stored.items() if not name.startswith(PREFIX)}
    for name in expected | stored:
        mine, theirs = (shapes.get(name, "missing") for shapes in (expected, stored))
        if mine != theirs:
            raise ValueError(f"{name} is {mine} by the card and {theirs} in the weights")


def store_operating_point(address: str | Path, point: OperatingPoint) -> Path:
    """Store how synapses are found in a model's predictions in its checkpoint file; the weights stay as they are.

    Args:
        address: A run directory (its best checkpoint) or a `.safetensors` file.
        point: The operating point, such as `tune(...).point`.

    Returns:
        The checkpoint file.

    Raises:
        InputError: when there is no such model, cleftnet did not write the file, or it is a released model of the package.
    """
    path, card = find_model(address), load_card(address)
    if path.parent == FOLDER:
        raise InputError(f"'{address}' is a released model, which stays as it is; give a copy of {path} instead")
    with _refusing(path):
        weights = safetensors.torch.load_file(path)
    write_tensors(path, weights, {_KEY: card.model_copy(update={"synapses": point}).model_dump_json()})
    return path


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn errors that the body meets in a file into an `InputError` of one line."""
    try:
        yield
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); expected one that cleftnet wrote"
        ) from None
    except (ValidationError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        raise InputError(f"{path}: card and weights do not fit this version of cleftnet ({reason})") from None
