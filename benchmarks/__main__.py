"""Runs the comparison named by `python -m benchmarks NAME`; lists all without a name.

A benchmark is a module of this package with a function `main(arguments)`. Its first line says what it compares.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    names = [
        m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in ("__main__", "measure")
    ]
    if len(sys.argv) > 1 and sys.argv[1] in names:
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return 0
    print("usage: python -m benchmarks NAME [--help]", file=sys.stderr)
    for name in names:
        print(
            f"  {name:12s} {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}",
            file=sys.stderr,
        )
    return 0 if len(sys.argv) == 1 else 2


if __name__ == "__main__":
    sys.exit(main())
