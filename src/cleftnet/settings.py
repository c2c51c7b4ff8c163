"""Base class of all settings: frozen values, checked when they are made, with errors of one line."""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from cleftnet.errors import InputError, nearest


def _check_sides(sides: tuple[int, int, int]) -> tuple[int, int, int]:
    if min(sides) < 1:
        raise ValueError("expected three positive sides z y x in voxels, such as (64, 512, 512)")
    return sides


def _check_voxel_size(size: tuple[float, float, float]) -> tuple[float, float, float]:
    if not all(0 < side < math.inf for side in size):
        raise ValueError("expected three lengths z y x in nm above 0, such as (40, 4, 4)")
    return size


Sides = Annotated[tuple[int, int, int], AfterValidator(_check_sides)]  # of a block or patch, voxels z y x
VoxelSize = Annotated[tuple[float, float, float], AfterValidator(_check_voxel_size)]  # z y x in nm


class Settings(BaseModel):
    """Frozen values that decide how something is done; subclasses are named `...Settings` and build nothing.

    Raises:
        InputError: when a key is unknown, or a value has the wrong type or lies out of range.

    Example:
        >>> class BlurSettings(Settings):
        ...     sigma_nm: float = 4.0
        >>> BlurSettings(sigma=8)
        Traceback (most recent call last):
        cleftnet.settings.SettingsError: unknown key 'sigma'; did you mean 'sigma_nm'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._first(error) from None

    def changed(self, **values: Any) -> Self:
        """Return these settings with some values replaced, and checked again."""
        own = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items()}
        return type(self)(**{**own, **values})

    @classmethod
    def _first(cls, error: ValidationError) -> SettingsError:
        """Return the first finding in one line, with the nearest known key where a key is unknown."""
        findings = error.errors()  # a misspelt key is told before the one that is then missing
        finding = next((f for f in findings if f["type"] == "extra_forbidden"), findings[0])
        key = ".".join(map(str, finding["loc"]))
        inner = finding.get("ctx", {}).get("error")
        if isinstance(inner, SettingsError):  # raised by settings within these
            return SettingsError(f"{key}.{inner.key}".strip("."), inner.reason, unknown=inner.unknown)
        if finding["type"] == "extra_forbidden":
            return SettingsError(key, nearest(str(finding["loc"][-1]), cls.keys()), unknown=True)
        missing = finding["type"] == "missing" or isinstance(finding["input"], dict)
        given = "" if missing else f" (given: {finding['input']!r})"
        return SettingsError(key, f"{finding['msg'].removeprefix('Value error, ')}{given}")

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that a recipe may set."""
        return [field.alias or key for key, field in cls.model_fields.items()]


class SettingsError(InputError):
    """Raised when settings cannot be made of the values given.

    Attributes:
        key: The dotted key that is wrong; empty where several values contradict each other.
        reason: What is wrong with its value, or what to try instead of an unknown key.
        unknown: Whether there is no such key.
    """

    def __init__(self, key: str, reason: str, *, unknown: bool = False) -> None:
        self.key, self.reason, self.unknown = key, reason, unknown
        super().__init__(f"unknown key '{key}'; {reason}" if unknown else f"{key}: {reason}" if key else reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), unknown=self.unknown), (self.key, self.reason)
