"""How results look on stdout, which carries nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

stdout = Console(highlight=False, soft_wrap=True)


def print_table(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...] | None = None) -> None:
    """Print rows in aligned columns."""
    table = Table(show_header=headers is not None, box=None, pad_edge=False, header_style="bold")
    for index in range(len(rows[0])):
        table.add_column(headers[index] if headers else "", justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    stdout.print(table)


def text(value: Any) -> str:
    """Write a value for people: four significant digits, thousands separated, a dash where undefined."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "×".join(text(v) for v in value) if isinstance(value, list | tuple) else str(value)
