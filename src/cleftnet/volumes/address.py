"""Addresses, the one string that names an array: variables expanded, the file told apart from the array inside it.

Nothing here opens a file; which endings belong to which format is the table in `cleftnet.volumes.formats`.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cleftnet.errors import InputError

Address = str | os.PathLike[str]

_FALLBACKS = {"CLEFTNET_DATA": "../shared/data"}  # where the variable is not set and this folder is there
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


@dataclass(frozen=True)
class Location:
    """An address taken apart.

    Args:
        path: The file, the folder, the pattern of slices (`stack/*.tif`) or the URL.
        inside: The array inside the file, such as `volumes/raw`; empty where the address names the file alone.
        scheme: What stood before the path to name the format: `precomputed://`, or nothing.
    """

    path: str
    inside: str = ""
    scheme: str = ""

    def __str__(self) -> str:
        return self.scheme + (f"{self.path}/{self.inside}" if self.inside else self.path)


def expand(address: Address) -> str:
    """Return the address with `~`, `$NAME` and `${NAME}` replaced by what they stand for.

    Raises:
        InputError: when the address is empty or a variable is not set.

    Example:
        >>> os.environ["DEMO_DATA"] = "/data"
        >>> expand("$DEMO_DATA/A.hdf"), expand("${DEMO_DATA}/A.hdf")
        ('/data/A.hdf', '/data/A.hdf')
    """
    text = os.fspath(address)

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        fallback = _FALLBACKS.get(name, "")
        if fallback and not os.environ.get(name) and Path(fallback).is_dir():
            return fallback
        if not os.environ.get(name):
            raise InputError(
                f"address '{text}' uses the variable {name}, which is not set; set it (export {name}=/a/folder) or "
                f"write the whole path"
            )
        return os.environ[name]

    expanded = os.path.expanduser(_VARIABLE.sub(value, text))  # noqa: PTH111 - Path would fold the // of a URL
    if not expanded.strip():
        raise InputError("the address is empty; expected a file such as A.hdf, A.hdf/volumes/raw or stack/*.tif")
    return expanded


def missing(path: Path) -> InputError:
    """Return the error for a path that does not exist, naming what lies near it.

    Example:
        >>> print(missing(Path("/no-such-folder/deeper/A.hdf")))
        /no-such-folder/deeper/A.hdf does not exist: there is no folder /no-such-folder; check the path
    """
    for folder in reversed(path.parents):
        if not folder.exists():
            return InputError(f"{path} does not exist: there is no folder {folder}; check the path")
    if not path.parent.is_dir():
        return InputError(f"{path} does not exist: {path.parent} is a file, not a folder; check the path")
    near = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    close = difflib.get_close_matches(path.name, near, n=3) or near[:5]
    there = f"its folder holds {', '.join(close)}" if close else "its folder is empty"
    return InputError(f"{path} does not exist; {there}; check the name")
