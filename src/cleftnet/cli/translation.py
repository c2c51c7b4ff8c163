"""Translates messages of the library, which name Python parameters, into the options of the command line."""

from __future__ import annotations

import re

_SAME_NAMES = (
    "accept_changed_input block chunk dest dtype gap gray_range kind labels license mask match_nm max_keys min_score "
    "by one_id out overlap overwrite patch port precision prediction pyramid raw resume review roi rows scheduler "
    "seed seed_threshold "
    "seeds segmentation skip_empty submission sweep threshold tta workers zarr"
)
OPTIONS = {name: name.replace("_", "-") for name in _SAME_NAMES.split()} | {
    "changes": "set",
    "formats": "format",
    "hole_nm": "holes",
    "min_size_nm3": "min-size",
    "mirrors": "mirror",
    "reach_nm": "reach",
    "rescale": "no-rescale",  # messages speak of rescale=False
    "samples": "sample",
    "surroundings_nm": "surroundings",
    "voxel_size_nm": "voxel-size",
}

_VALUE = r"""\([^()]*\)|\[[^\[\]]*\]|'[^']*'|"[^"]*"|[^\s;)]*[^\s;,.:)]|\.\.\."""
_PARAMETER = re.compile(rf"(?<![\w.])({'|'.join(OPTIONS)})=({_VALUE})")


def to_options(message: str) -> str:
    """Replace every `parameter=value` of a message by the option of the command line.

    Example:
        >>> to_options("a.hdf exists already; use overwrite=True or another name")
        'a.hdf exists already; use --overwrite or another name'
        >>> to_options("give it, as in voxel_size_nm=(50, 4.6, 4.6), or correct the file")
        'give it, as in --voxel-size 50,4.6,4.6, or correct the file'
        >>> to_options("try changes=['training.steps=100']")
        'try --set training.steps=100'
    """
    return _PARAMETER.sub(_option, message)


def _option(match: re.Match[str]) -> str:
    option, value = f"--{OPTIONS[match[1]]}", match[2]
    if value in ("True", "False"):
        return option
    if value[0] in "([":
        value = ",".join(part.strip().strip("'\"") for part in value[1:-1].split(",") if part.strip())
    return f"{option} {value.strip(chr(39) + chr(34))}"
