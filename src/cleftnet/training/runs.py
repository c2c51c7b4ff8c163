"""Trains from a recipe into a run directory, from the first step or from a saved state."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning_fabric import Fabric
from pydantic import JsonValue

from cleftnet.errors import InputError, TrainingInterrupted
from cleftnet.files import holding, is_left_behind, json_object, refuse_address, replacing
from cleftnet.models.checkpoint import BEST, LAST, load_card
from cleftnet.nets.skeleton import Network
from cleftnet.training.data import open_data
from cleftnet.training.distributed import by_the_first, keep_random_state, launch, make_fabric, synchronize_batch_norm
from cleftnet.training.initial_weights import start_from
from cleftnet.training.log import LOSSES, METRICS, TENSORBOARD
from cleftnet.training.loop import TrainingRun, fit
from cleftnet.training.provenance import provenance
from cleftnet.training.recipe import Recipe, dump, first_difference, load_recipe
from cleftnet.training.schedule import initial_state
from cleftnet.training.state import STATES, newest_state

log = logging.getLogger(__name__)

RECIPE, RUN, LOCK = "recipe.yaml", "run.json", ".lock"  # the names inside a run directory
_FILES = (METRICS, LOSSES, RECIPE, RUN, BEST, LAST)
_OURS = (*_FILES, f"{STATES}/step-*", f"{STATES}/.step-*", f"{TENSORBOARD}/events.out.*")
FREE = (  # keys that may change when a training is resumed: they change no weight
    "hardware",
    "sampling.raw_in_memory_gib",
    *(f"training.{key}" for key in ("loaders", "patience", "save_every", "keep_states")),
)


def train(
    recipe: str | Path | Recipe,
    out: str | Path | None = None,
    *,
    changes: Sequence[str] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> TrainingRun:
    """Train a network from a recipe and write a run directory.

    The run directory holds checkpoints, tables, TensorBoard events, states to resume from, the recipe as used, and
    `run.json` with versions and checksums of the data.

    Args:
        recipe: A recipe file, the name of a shipped recipe such as `vnc-l3-quick`, or a `Recipe`.
        out: Run directory; default: `runs/` and the recipe's name.
        changes: Changes to a recipe file, each `KEY=VALUE` such as `training.steps=100`.
        overwrite: Replace the training in an existing run directory.
        resume: Continue from the newest intact state in the run directory; start where there is none.

    Returns:
        The run; `run.best` is usable as MODEL.

    Raises:
        InputError: when recipe or data are wrong, or the run directory is in use or belongs to another recipe.
        TrainingInterrupted: when SIGTERM ended the training; its state is saved.
    """
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    name = "run" if isinstance(recipe, Recipe) else Path(recipe).stem
    directory = Path(out) if out is not None else Path("runs") / name
    if resume and overwrite:
        raise InputError("resume=True continues a training and overwrite=True replaces it; choose one")
    fabric = make_fabric(settings.hardware, settings.training.precision)
    run = launch(fabric, _train, settings, directory, overwrite, resume)
    if run is None:
        raise TrainingInterrupted(f"SIGTERM ended the training in {directory}; continue it with resume=True")
    return run


def _train(fabric: Fabric, recipe: Recipe, directory: Path, overwrite: bool, resume: bool) -> TrainingRun | None:
    """Train in each process; only the first one prepares the run directory and holds its lock."""
    data = open_data(recipe)
    with ExitStack() as stack:
        start = by_the_first(
            fabric, lambda: _prepare(recipe, directory, data.checksums(), stack, overwrite=overwrite, resume=resume)
        )
        stack.enter_context(keep_random_state(fabric))
        torch.manual_seed(recipe.seed)
        net = Network(recipe.net)
        if recipe.init is not None and start.state is None:
            loaded = start_from(net, recipe.init)
            if fabric.is_global_zero:
                for line in loaded.lines():
                    log.info(line)
                _tell_of_other_gray_values(recipe)
        synchronize_batch_norm(net.channels_last().to(fabric.device), fabric)
        state = initial_state(net, recipe.training)
        if start.state is not None:
            state.restore(start.state)
        return fit(fabric, state, data, recipe.training, recipe.loss, directory, start.provenance)


def _tell_of_other_gray_values(recipe: Recipe) -> None:
    """Say so where the model that a training starts from saw gray values that this training does not."""
    known = load_card(str(recipe.init)).normalize
    if known is not None and known != recipe.data.normalize:
        log.info(
            f"{recipe.init} knows gray values as data.normalize: {known.model_dump(mode='json')} makes them, and this "
            f"recipe has another data.normalize, or none"
        )


class _Start(NamedTuple):
    """What a training starts from.

    Attributes:
        provenance: Stored in the checkpoints.
        state: File of the state to continue from, or None.
    """

    provenance: dict[str, JsonValue]
    state: Path | None


def _prepare(
    recipe: Recipe, directory: Path, data: JsonValue, stack: ExitStack, *, overwrite: bool, resume: bool
) -> _Start:
    """Lock a run directory until `stack` closes; check that it can be resumed or empty it; write recipe and `run.json`."""
    refuse_address(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a name for a run directory")
    used = _holds_a_training(recipe, directory)
    if used and not (overwrite or resume):
        raise InputError(
            f"{directory} is not empty; choose another directory, resume=True to continue the training there, or "
            f"overwrite=True to train anew"
        )
    legs = _earlier_legs(recipe, directory, data) if used and resume else None
    if not stack.enter_context(holding(directory / LOCK)):
        raise InputError(f"another process is training in {directory}; wait for it, or choose another directory")
    about, state = provenance(dump(recipe)) | {"data": data}, None
    if legs is not None:
        about["earlier_legs"] = legs
        state = newest_state(directory / STATES)
        log.info(f"continuing from {state}" if state else f"no state in {directory} yet: starting at step 1")
    elif resume:
        log.info(f"nothing to resume in {directory}: starting at step 1")
    else:
        for pattern in _OURS:
            for old in directory.glob(pattern):
                old.unlink()
    with replacing(directory / RECIPE, overwrite=True) as temporary:
        temporary.write_text(_text(recipe))
    with replacing(directory / RUN, overwrite=True) as temporary:
        temporary.write_text(json.dumps(about, indent=2))
    return _Start(about, state)


def _holds_a_training(recipe: Recipe, directory: Path) -> bool:
    """Return whether a directory holds more than what a start of this recipe leaves that failed before `run.json`."""
    if not directory.exists():
        return False
    others = {path.name for path in directory.iterdir() if not is_left_behind(path)} - {LOCK}
    return bool(others) and not (others == {RECIPE} and (directory / RECIPE).read_bytes() == _text(recipe).encode())


def _text(recipe: Recipe) -> str:
    return yaml.safe_dump(dump(recipe), sort_keys=False)


def _earlier_legs(recipe: Recipe, directory: Path, data: JsonValue) -> list[JsonValue]:
    """Return what `run.json` records about a training that is resumed, one entry for each time it was started.

    Raises:
        InputError: when the training had another recipe or other data.
    """
    if not (directory / RECIPE).is_file() or not (directory / RUN).is_file():
        raise InputError(f"{directory} holds no {RECIPE} and {RUN}; expected the run directory of a training to resume")
    theirs, mine = dump(load_recipe(directory / RECIPE)), dump(recipe)
    # with a cosine, every learning rate depends on steps and minutes
    free = FREE if recipe.training.schedule != "constant" else (*FREE, "training.steps", "training.minutes")
    key = first_difference(theirs, mine, free)
    if key is not None:
        raise InputError(
            f"{directory} was trained with another {key}; resume with its own recipe ({directory / RECIPE}), or train "
            f"anew in another directory"
        )
    earlier = json_object((directory / RUN).read_bytes(), directory / RUN)
    try:
        before = _sums(earlier["data"])
        leg = {name: earlier[name] for name in ("started", "versions", "device", "threads", "git")}
        legs = [*earlier.get("earlier_legs", []), leg]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{directory / RUN} is damaged; copy it again, or train anew in another directory") from None
    if before != _sums(data):
        raise InputError(
            f"the data has changed since {directory} was started ({RUN} has its checksums); train anew in another directory"
        )
    return legs


def _sums(data: Any) -> list[str]:
    """Return the checksums alone; addresses may differ, since the same volume may have moved."""
    return [
        value for part in data.values() for region in part for key, value in region.items() if key.endswith("sha256")
    ]
