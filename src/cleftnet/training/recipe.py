"""Recipe of a training: a YAML file with the settings of all parts; an unknown key is an error that names the nearest one."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import yaml
from pydantic import BaseModel, Field, JsonValue, field_validator, model_validator

from cleftnet.errors import InputError
from cleftnet.nets.skeleton import NetSpec
from cleftnet.nets.zoo import spec
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.sampling import SamplingSettings
from cleftnet.settings import Settings, VoxelSize
from cleftnet.training.distributed import HardwareSettings
from cleftnet.training.losses import LossSettings
from cleftnet.training.schedule import TrainingSettings
from cleftnet.volumes import NormalizationSettings

RECIPES = Path(__file__).parents[1] / "recipes"  # in the package

_MOST_VALUES = 10**5  # in a file, with what stands behind an alias counted at every place where it is named
_NO_YAML = (yaml.YAMLError, ValueError, RecursionError)  # ValueError: such as a date that does not exist


class VolumeSettings(Settings):
    """A labeled volume, or a part of it.

    Attributes:
        raw: Address of the gray values.
        labels: Address of the cleft labels; default: those in the file of `raw`. They may be smaller than raw: their
            offset places them, as in padded CREMI files.
        tissue: Address of classes of other tissue (uint8) on the grid of the labels, such as
            `vnc-l3.hdf/volumes/tissue`; classes from `net.tissue_classes` on are left out.
        roi: Part to use, `z0:z1,y0:y1,x0:x1` in voxels of the labels; default: everything.
        voxel_size_nm: Voxel size z y x, for formats that carry none.
    """

    raw: str
    labels: str | None = None
    tissue: str | None = None
    roi: str | None = None
    voxel_size_nm: VoxelSize | None = None


class DataSettings(Settings):
    """Training data, validation data, and the unit of the boundary distance.

    Attributes:
        train: Volumes from which patches are drawn.
        validate: Volumes on which the best checkpoint and the threshold are chosen (`validate_on` in Python).
        distance_scale_nm: Length in nm that divides the distance of Eq. 6; None measures it in voxels, as printed.
        normalize: Bring the gray values of every volume to one range, by `percentiles` of a fixed sample of it; the model does
            so with every volume that it predicts. None takes the whole range of the type, as the paper does.
    """

    train: tuple[VolumeSettings, ...] = Field(min_length=1)
    validate_on: tuple[VolumeSettings, ...] = Field((), alias="validate")
    distance_scale_nm: float | None = Field(default=None, gt=0)
    normalize: NormalizationSettings | None = None


class Recipe(Settings):
    """All settings of a training.

    Attributes:
        seed: Seed of initial weights and patches.
        net: Network of the zoo by its `name`, with any fields of `NetSpec` changed.
        init: Model to fine-tune (run directory, checkpoint file or released model); default: random weights.
        data: Volumes to train and validate on.
        sampling: Selection of patches.
        augment: Augmentation of patches.
        loss: Form and weights of the loss, Eq. 10.
        training: Optimizer, schedule and length.
        hardware: Processes and devices.
    """

    seed: int = Field(default=0, ge=0)
    net: NetSpec
    init: str | None = None
    data: DataSettings
    sampling: SamplingSettings = SamplingSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings
    hardware: HardwareSettings = HardwareSettings()

    @field_validator("net", mode="before")
    @classmethod
    def _row_of_the_zoo(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "name" in value:
            return spec(**value)
        return value

    @model_validator(mode="after")
    def _tissue_has_labels(self) -> Self:
        if self.net.tissue_classes and all(volume.tissue is None for volume in self.data.train):
            raise ValueError(
                f"net.tissue_classes {self.net.tissue_classes} has nothing to learn from; give data.train an entry with "
                f"'tissue', or set net.tissue_classes 0"
            )
        return self

    @model_validator(mode="after")
    def _one_head_for_a_signed_distance(self) -> Self:
        if self.loss.signed and len(self.net.heads) > 1:
            raise ValueError(
                f"loss.form signed_distance trains one head, and this network has {len(self.net.heads)} "
                f"({', '.join(self.net.heads)}); choose another, such as net.name unet3d"
            )
        return self


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that ship with the package; names of comparisons begin with `tables-`."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe, given by its path or by the name of one that ships with the package.

    Raises:
        InputError: when there is neither such a file nor such a name.

    Example:
        >>> find_recipe("vnc-l3-quick").name
        'vnc-l3-quick.yaml'
    """
    path, known = Path(recipe), shipped_recipes()
    if path.is_file():
        return path
    if str(recipe) in known:
        return RECIPES / f"{recipe}.yaml"
    close = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise InputError(f"no recipe '{recipe}'; {hint}expected a YAML file or one of {', '.join(known)}")


def load_recipe(recipe: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes such as `training.steps=100`.

    Args:
        recipe: A YAML file, or the name of a recipe that ships with the package, such as `vnc-l3-quick`.
        changes: `KEY=VALUE`, the key dotted, the value YAML.

    Raises:
        InputError: when the file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    content = read_yaml(find_recipe(recipe))
    for change in changes:
        _apply(content, change)
    try:
        return Recipe(**content)
    except InputError as error:
        raise InputError(f"recipe {recipe}: {error}") from None


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the keys and values of a recipe file, unchecked.

    Raises:
        InputError: when the file cannot be read or holds no keys.
    """
    try:
        content = _parse(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read recipe {file}: {error}; expected a YAML file") from None
    except _NO_YAML as error:
        raise InputError(f"recipe {file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"recipe {file} holds no keys; expected a mapping with net, data and training")
    return content


def _parse(text: str) -> Any:
    """Return the value of a YAML text; every key, such as a number, becomes text.

    Raises:
        yaml.YAMLError: when it is not YAML.
        ValueError: when its aliases multiply it to more than `_MOST_VALUES` values, or it contains itself.
        RecursionError: when it is nested too deeply.
    """
    value = yaml.safe_load(text)
    if _values(value, {}) > _MOST_VALUES:
        raise ValueError(f"its aliases make more than {_MOST_VALUES:,} values of it")
    return _with_text_keys(value)


def _values(value: Any, known: dict[int, float]) -> float:
    """Count the values in lists and mappings; infinite where one contains itself."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # while it is being counted
        known[id(value)] = 1 + sum(_values(v, known) for v in (value.values() if isinstance(value, dict) else value))
    return known[id(value)]


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_text_keys(one) for one in value]
    return {str(key): _with_text_keys(one) for key, one in value.items()} if isinstance(value, dict) else value


def _apply(content: dict[str, Any], change: str) -> None:
    """Apply one change `KEY=VALUE` in place."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InputError(f"'{change}' is not KEY=VALUE; try changes=['training.steps=100']")
    try:
        value = _parse(text)
    except _NO_YAML:
        raise InputError(f"'{change}': the value is not YAML; write it as in changes=['training.steps=100']") from None
    set_key(content, key, value)


def set_key(content: dict[str, Any], key: str, value: JsonValue) -> None:
    """Set a value by its dotted key, in place; missing mappings on the way are created.

    Raises:
        InputError: when a part of the key is a single value instead of a mapping.

    Example:
        >>> content = {"net": {"name": "cleftnet"}}
        >>> set_key(content, "net.max_keys", 512)
        >>> content
        {'net': {'name': 'cleftnet', 'max_keys': 512}}
    """
    *path, last = key.split(".")
    for name in path:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise InputError(f"'{key}': {name} is a single value in this recipe, it has no key {last}")
    content[last] = value


def dump(settings: BaseModel) -> dict[str, JsonValue]:
    """Return settings as plain values under the keys of a recipe file, with all defaults."""
    return cast(dict[str, JsonValue], json.loads(settings.model_dump_json(by_alias=True)))


def first_difference(one: JsonValue, other: JsonValue, free: Collection[str] = (), key: str = "") -> str | None:
    """Return the dotted key of the first difference between two dumped recipes, or None.

    Args:
        one: A dumped recipe, or a value of one.
        other: Another dumped recipe, or the same value of it.
        free: Dotted keys of values that may differ.
        key: Dotted key of the two values.

    Example:
        >>> one = {"seed": 0, "training": {"steps": 10, "batch": 2}}
        >>> first_difference(one, {"seed": 0, "training": {"steps": 20, "batch": 4}}, free=["training.steps"])
        'training.batch'
    """
    if key in free or one == other:
        return None
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return key
    for name in one | other:
        found = first_difference(one.get(name), other.get(name), free, f"{key}.{name}".lstrip("."))
        if found is not None:
            return found
    return None
