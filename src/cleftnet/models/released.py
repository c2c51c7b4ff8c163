"""The models that come with the package: NAME.safetensors, the weights with their card, and NAME.md, the page about them.

Made by `tools.release`; found by name wherever a MODEL is asked for.
"""

from __future__ import annotations

from pathlib import Path

from cleftnet.errors import InputError, nearest

FOLDER = Path(__file__).parent / "weights"
WEIGHTS, PAGE = ".safetensors", ".md"


def released_models() -> list[str]:
    """Return the names of the released models.

    Example:
        >>> released_models()
        ['vnc-l3']
    """
    return sorted(path.stem for path in FOLDER.glob(f"*{WEIGHTS}"))


def released_weights(name: str) -> Path:
    """Return the checkpoint of a released model.

    Raises:
        InputError: when none has this name.
    """
    return _file(name, WEIGHTS)


def released_page(name: str) -> str:
    """Return the Markdown page about a released model: data and its terms, scores, what it is for and what not.

    Raises:
        InputError: when none has this name.
    """
    return _file(name, PAGE).read_text()


def _file(name: str, ending: str) -> Path:
    known = released_models()
    if name not in known:
        raise InputError(f"no released model '{name}'; {nearest(name, known)}")
    return FOLDER / f"{name}{ending}"
