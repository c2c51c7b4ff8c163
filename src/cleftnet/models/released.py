"""The released models that come with the package: NAME.safetensors (weights and card) and NAME.md (a page about them).

`tools.release` makes both files. The name of a released model is accepted wherever a MODEL is.
"""

from __future__ import annotations

from pathlib import Path

from cleftnet.errors import InputError, nearest

FOLDER = Path(__file__).parent / "weights"
WEIGHTS, PAGE = ".safetensors", ".md"
LICENSE = "CC-BY-NC-SA-3.0"  # of the weights of every released model (LICENSE-WEIGHTS), an SPDX identifier
LICENSE_NAME = "CC BY-NC-SA 3.0"  # as the pages of the models and the terms of what was fine-tuned from them call it


def list_models() -> list[str]:
    """Return the names of the released models.

    `cleftnet.load_card(name)` tells the network, the voxel size and the validation scores of one, and
    `cleftnet.models.released.released_page(name)` its data, terms of use and limits.

    Example:
        >>> list_models()
        ['vnc-l3', 'vnc-l3-cleftnet']
    """
    return sorted(path.stem for path in FOLDER.glob(f"*{WEIGHTS}"))


def released_weights(name: str) -> Path:
    """Return the checkpoint of a released model.

    Raises:
        InputError: when no released model has this name.
    """
    return _find_file(name, WEIGHTS)


def released_page(name: str) -> str:
    """Return the Markdown page about a released model: data and terms, scores, intended use and limits.

    Raises:
        InputError: when no released model has this name.
    """
    return _find_file(name, PAGE).read_text()


def _find_file(name: str, ending: str) -> Path:
    known = list_models()
    if name not in known:
        raise InputError(f"no released model '{name}'; {nearest(name, known)}")
    return FOLDER / f"{name}{ending}"
