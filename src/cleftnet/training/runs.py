"""A run: a training by a recipe in a directory of its own, begun or resumed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning_fabric import Fabric
from pydantic import JsonValue

from cleftnet.errors import InputError
from cleftnet.files import holding, replacing
from cleftnet.geometry import IntZYX
from cleftnet.models.checkpoint import BEST, LAST
from cleftnet.nets.skeleton import Network
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.sampling import PatchSampler
from cleftnet.training.distributed import SIGTERM_EXIT, by_the_first, launch, make_fabric, synchronize_batch_norm
from cleftnet.training.fine_tuning import start_from
from cleftnet.training.log import LOSSES, METRICS, TENSORBOARD
from cleftnet.training.loop import TrainingData, TrainingRun, fit
from cleftnet.training.provenance import fingerprint, provenance
from cleftnet.training.recipe import Recipe, dump, first_difference, load_recipe
from cleftnet.training.state import STATES, newest_state
from cleftnet.volumes import Volume

log = logging.getLogger(__name__)

RECIPE, RUN, LOCK = "recipe.yaml", "run.json", ".lock"  # the names inside a run directory
_FILES = (METRICS, LOSSES, RECIPE, RUN, BEST, LAST)
_OURS = (*_FILES, f"{STATES}/step-*", f"{STATES}/.step-*", f"{TENSORBOARD}/events.out.*")
FREE = (  # may change from leg to leg: they change no weight
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
    """Train by a recipe into a run directory: weights, tables, TensorBoard, states, the recipe as used, and `run.json`.

    Args:
        recipe: A recipe file, or a recipe.
        out: The run directory; default `runs/` with the recipe's name.
        changes: `KEY=VALUE` changes to a recipe file.
        overwrite: Whether a run directory that holds a training may be replaced.
        resume: Whether to go on from the newest intact state there; begins anew where there is none yet.

    Returns:
        The run; `run.best` is usable as MODEL.

    Raises:
        InputError: for anything wrong with recipe or data, an existing run directory, or one that another recipe made.
        SystemExit: with code 143 when a SIGTERM ended the training, its state saved.
    """
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    name = "run" if isinstance(recipe, Recipe) else Path(recipe).stem
    directory = Path(out) if out is not None else Path("runs") / name
    if resume and overwrite:
        raise InputError("--resume goes on with a training and --overwrite replaces it; choose one")
    fabric = make_fabric(settings.hardware, settings.training.precision)
    run = launch(fabric, _train, settings, directory, overwrite, resume)
    if run is None:
        raise SystemExit(SIGTERM_EXIT)
    return run


def _train(fabric: Fabric, recipe: Recipe, directory: Path, overwrite: bool, resume: bool) -> TrainingRun | None:
    """Train in each process; the first alone looks after the run directory."""
    data, checksums = open_data(recipe)
    with ExitStack() as held:
        begun = by_the_first(
            fabric, lambda: _begin(recipe, directory, checksums(), held, overwrite=overwrite, resume=resume)
        )
        return _go_on(fabric, recipe, directory, data, begun)


def _go_on(fabric: Fabric, recipe: Recipe, directory: Path, data: TrainingData, begun: _Begun) -> TrainingRun | None:
    """Train from where the run directory stands."""
    torch.manual_seed(recipe.seed)
    net = Network(recipe.net)
    if recipe.init is not None and begun.state is None:
        loaded = start_from(net, recipe.init)
        if fabric.is_global_zero:
            for line in loaded.lines():
                log.info(line)
    synchronize_batch_norm(net.channels_last().to(fabric.device), fabric)
    state = recipe.training.begin(net)
    if begun.state is not None:
        state.restore(begun.state)
    return fit(fabric, state, data, recipe.training, recipe.loss, directory, begun.provenance)


def open_data(recipe: Recipe) -> tuple[TrainingData, Callable[[], JsonValue]]:
    """Open a recipe's volumes.

    Args:
        recipe: The recipe.

    Returns:
        Patches and validation regions, and a function that takes the volumes' checksums.

    Raises:
        InputError: when a volume cannot be opened, holds no cleft to learn from, or is smaller than the patch.
    """
    validated = [volume.open() for volume in recipe.data.validate_on]
    for region in validated:
        _must_hold(region.raw, recipe.net.patch)
    learned = [volume.open() for volume in recipe.data.train]
    patches = PatchSampler(
        [
            LabelledVolume.read(*region, scale_nm=recipe.data.distance_scale_nm, signed=recipe.loss.signed)
            for region in learned
        ],
        recipe.net.patch,
        length=recipe.training.steps * recipe.training.batch,
        seed=recipe.seed,
        settings=recipe.sampling,
        augmentation=recipe.augment,
    )

    def checksums() -> JsonValue:
        return {"train": [fingerprint(*r) for r in learned], "validate": [fingerprint(*r) for r in validated]}

    return TrainingData(patches, validated), checksums


def _must_hold(raw: Volume, patch: IntZYX) -> None:
    """Raise when a region is smaller than the patch, before any training is spent on it."""
    if any(n < p for n, p in zip(raw.shape, patch, strict=True)):
        raise InputError(
            f"patch {'×'.join(map(str, patch))} is larger than {raw.address}, {'×'.join(map(str, raw.shape))} voxels "
            f"(z×y×x); choose a smaller net.patch or a larger region"
        )


class _Begun(NamedTuple):
    """What the run directory gave.

    Attributes:
        provenance: Goes into the checkpoints.
        state: The state to go on from, or None.
    """

    provenance: dict[str, JsonValue]
    state: Path | None


def _begin(
    recipe: Recipe, directory: Path, data: JsonValue, held: ExitStack, *, overwrite: bool, resume: bool
) -> _Begun:
    """Make a run directory ready, or check that one can be gone on with; write the recipe and `run.json`.

    The directory is this process's as long as `held` is.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a name for a run directory")
    used = directory.exists() and any(directory.iterdir())
    if used and not (overwrite or resume):
        raise InputError(
            f"{directory} is not empty; choose another --out, add --resume to go on with the training there, or "
            f"--overwrite to train anew"
        )
    legs = _earlier_legs(recipe, directory, data) if used and resume else None
    if not held.enter_context(holding(directory / LOCK)):
        raise InputError(f"another process is training in {directory}; wait for it, or choose another --out")
    about, state = provenance(dump(recipe)) | {"data": data}, None
    if legs is not None:
        about["earlier_legs"] = legs
        state = newest_state(directory / STATES)
        log.info(f"going on from {state}" if state else f"no state in {directory} yet: beginning at step 1")
    elif resume:
        log.info(f"nothing to resume in {directory}: beginning at step 1")
    else:
        for pattern in _OURS:
            for old in directory.glob(pattern):
                old.unlink()
    with replacing(directory / RECIPE, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(dump(recipe), sort_keys=False))
    with replacing(directory / RUN, overwrite=True) as temporary:
        temporary.write_text(json.dumps(about, indent=2))
    return _Begun(about, state)


def _earlier_legs(recipe: Recipe, directory: Path, data: JsonValue) -> list[JsonValue]:
    """Return what `run.json` says of the legs before this one.

    Raises:
        InputError: when they had another recipe or other data: what followed would belong to neither.
    """
    if not (directory / RECIPE).is_file() or not (directory / RUN).is_file():
        raise InputError(
            f"{directory} holds no {RECIPE} and {RUN}; expected a run directory of `cleftnet train` to resume"
        )
    theirs, mine = dump(load_recipe(directory / RECIPE)), dump(recipe)
    # with a schedule every learning rate depends on the number of steps and minutes
    free = FREE if recipe.training.schedule != "constant" else (*FREE, "training.steps", "training.minutes")
    key = first_difference(theirs, mine, free)
    if key is not None:
        raise InputError(
            f"{directory} was trained with another {key}; resume with its own recipe ({directory / RECIPE}), or train "
            f"anew with another --out"
        )
    earlier = json.loads((directory / RUN).read_text())
    if _sums(earlier["data"]) != _sums(data):
        raise InputError(
            f"the data has changed since {directory} was begun ({RUN} has its checksums); train anew with another --out"
        )
    leg = {name: earlier[name] for name in ("started", "versions", "device", "threads", "git")}
    return [*earlier.get("earlier_legs", []), leg]


def _sums(data: Any) -> list[str]:
    """The checksums alone: the same volume may have moved."""
    return [
        value for part in data.values() for region in part for key, value in region.items() if key.endswith("sha256")
    ]
