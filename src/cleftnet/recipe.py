"""A recipe: one strict YAML file that says all of a training, composed of the settings that live beside the code using them.

An unknown key is an error that names the nearest known one; a recipe owns no defaults of others.
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from cleftnet.checkpoint import BEST, LAST
from cleftnet.errors import InputError, nearest
from cleftnet.geometry import Box, FloatZYX, IntZYX
from cleftnet.losses import LossSettings
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.nets.zoo import spec
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.sampling import LabelledVolume, PatchSampler, SamplingSettings
from cleftnet.training import METRICS, Region, Run, TrainingSettings, fit
from cleftnet.volumes import LABELS, Volume, open_volume
from cleftnet.volumes.alignment import place
from cleftnet.volumes.atomic import replacing

RECIPE, RUN = "recipe.yaml", "run.json"  # the names inside a run directory


class VolumeSettings(BaseModel):
    """One labelled volume, or a part of it.

    Attributes:
        raw: Address of the gray values.
        labels: Address of the cleft labels; without one, the same file's. They may be smaller than raw, placed by their
            offset, as in padded CREMI files.
        roi: The part to use, `z0:z1,y0:y1,x0:x1` in voxels of the labels; without one, all.
        voxel_size_nm: Voxel size z y x, for formats that carry none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw: str
    labels: str | None = None
    roi: str | None = None
    voxel_size_nm: FloatZYX | None = None

    def open(self) -> Region:
        """Open raw and labels, lazily.

        Raises:
            InputError: when one cannot be opened, or the part lies outside.
        """
        raw = open_volume(self.raw, voxel_size_nm=self.voxel_size_nm)
        labels = open_volume(self.labels or self.raw, default=LABELS, voxel_size_nm=self.voxel_size_nm)
        met = place(raw, labels, None if self.roi is None else Box.parse(self.roi))
        return Region(raw.crop(met.prediction_box), labels.crop(met.truth_box))


class DataSettings(BaseModel):
    """What is learned from, what is validated on, and how boundary distance is measured.

    Attributes:
        train: Volumes that patches are drawn from.
        validate: Volumes that the best checkpoint and the threshold are chosen on (`validate_on` in Python).
        distance_scale_nm: None measures the distance of Eq. 6 in voxels, as printed; a number in nm divided by it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[VolumeSettings, ...] = Field(min_length=1)
    validate_on: tuple[VolumeSettings, ...] = Field(min_length=1, alias="validate")
    distance_scale_nm: float | None = Field(default=None, gt=0)


class Recipe(BaseModel):
    """All of a training.

    Attributes:
        seed: Decides initial weights and patches.
        net: A row of the zoo by its `name`, with any fields of `NetSpec` changed.
        data: Volumes to train and validate on.
        sampling: Which patches are kept.
        augment: How patches are changed.
        loss: The weights and form of Eq. 10.
        training: How long and how fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    net: NetSpec
    data: DataSettings
    sampling: SamplingSettings = SamplingSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings

    @field_validator("net", mode="before")
    @classmethod
    def _row_of_the_zoo(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "name" in value:
            return spec(**value)
        return value


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply changes such as `training.steps=100`.

    Args:
        path: A YAML file.
        changes: `KEY=VALUE`, the key dotted, the value YAML.

    Raises:
        InputError: when the file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read recipe {file}: {error}; expected a YAML file such as recipes/vnc-l3-quick.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"recipe {file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"recipe {file} holds no keys; expected a mapping with net, data and training")
    for change in changes:
        _apply(content, change)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InputError(f"recipe {file}: {_explain(error)}") from None


def _apply(content: dict[str, Any], change: str) -> None:
    """Set one dotted key in place."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InputError(f"'{change}' is not KEY=VALUE; try --set training.steps=100")
    *path, last = key.split(".")
    for name in path:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise InputError(f"'{change}': {name} is a single value in this recipe, it has no key {last}")
    try:
        content[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"'{change}': the value is not YAML; quote it as in --set 'data.train=[...]'") from None


def _explain(error: ValidationError) -> str:
    """Turn the first finding into one line, with the nearest known key where a key is unknown."""
    finding = error.errors()[0]
    where = ".".join(map(str, finding["loc"]))
    if finding["type"] == "extra_forbidden":
        return f"unknown key '{where}'; {nearest(str(finding['loc'][-1]), _keys(finding['loc'][:-1]))}"
    given = (
        "" if finding["type"] == "missing" or isinstance(finding["input"], dict) else f" (given: {finding['input']!r})"
    )
    return f"{where}: {finding['msg'].removeprefix('Value error, ')}{given}"


def _keys(place: Sequence[int | str]) -> list[str]:
    """The keys that a recipe knows at one place."""
    model: type[BaseModel] = Recipe
    for name in place:
        field = next((f for key, f in model.model_fields.items() if name in (key, f.alias)), None)
        if field is None:  # an index into a list of volumes
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), model)
    known = [field.alias or key for key, field in model.model_fields.items()]
    return [*known, "name"] if model is NetSpec else known


def train(
    recipe: str | Path | Recipe, out: str | Path | None = None, *, changes: Sequence[str] = (), overwrite: bool = False
) -> Run:
    """Train by a recipe into a run directory: weights, `metrics.csv`, the recipe as used, and `run.json`.

    Args:
        recipe: A recipe file, or a recipe.
        out: The run directory; default `runs/` with the recipe's name.
        changes: `KEY=VALUE` changes to a recipe file.
        overwrite: Whether a run directory that holds a training may be replaced.

    Returns:
        The run; `run.best` is usable as MODEL.

    Raises:
        InputError: for anything wrong with recipe or data, or an existing run directory.
    """
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    name = "run" if isinstance(recipe, Recipe) else Path(recipe).stem
    directory = Path(out) if out is not None else Path("runs") / name
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a name for a run directory")
    if directory.exists() and any(directory.iterdir()):
        if not overwrite:
            raise InputError(f"{directory} is not empty; choose another --out, or add --overwrite to train anew")
        for old in (METRICS, RECIPE, RUN, BEST, LAST):
            (directory / old).unlink(missing_ok=True)
    torch.manual_seed(settings.seed)
    regions = [volume.open() for volume in settings.data.validate_on]
    for region in regions:
        _must_hold(region.raw, settings.net.patch)
    patches = PatchSampler(
        [LabelledVolume.read(*v.open(), scale_nm=settings.data.distance_scale_nm) for v in settings.data.train],
        settings.net.patch,
        length=settings.training.steps * settings.training.batch,
        seed=settings.seed,
        settings=settings.sampling,
        augmentation=settings.augment,
    )
    written = json.loads(settings.model_dump_json(by_alias=True))
    about = provenance(written)
    with replacing(directory / RECIPE) as temporary:
        temporary.write_text(yaml.safe_dump(written, sort_keys=False))
    with replacing(directory / RUN) as temporary:
        temporary.write_text(json.dumps(about, indent=2))
    return fit(Network(settings.net), patches, regions, settings.training, settings.loss, directory, about)


def _must_hold(raw: Volume, patch: IntZYX) -> None:
    """Raise when a region is smaller than the patch, before any training is spent on it."""
    if any(n < p for n, p in zip(raw.shape, patch, strict=True)):
        raise InputError(
            f"patch {'×'.join(map(str, patch))} is larger than {raw.address}, {'×'.join(map(str, raw.shape))} voxels "
            f"(z×y×x); choose a smaller net.patch or a larger region"
        )


def provenance(recipe: JsonValue) -> dict[str, JsonValue]:
    """Return what somebody needs to do a training again: versions, machine, git state, time, recipe."""
    versions = {name: version(name) for name in ("cleftnet", "torch", "numpy")}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "recipe": recipe,
    }


def _git_state() -> str | None:
    """The commit that the package's source is at, with `-dirty` when it was changed; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
