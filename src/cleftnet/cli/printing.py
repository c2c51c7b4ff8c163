"""Prints results on stdout, which carries nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def print_table(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...] | None = None) -> None:
    """Print rows in aligned columns: the first to the left, the others to the right."""
    lines = [*([headers] if headers else []), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *values in lines:
        cells = [name.ljust(widths[0]), *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def print_json(values: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def text(value: Any) -> str:
    """Format a value: four significant digits, thousands separated, a dash for None.

    Example:
        >>> text(0.123456), text(12345), text(None), text((8, 256, 256))
        ('0.1235', '12,345', '-', '8×256×256')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "×".join(text(v) for v in value) if isinstance(value, list | tuple) else str(value)
