"""Lists the packages of this project that a Python lacks, before anything is imported from them."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def missing_packages() -> list[str]:
    """Return the requirements of the package, and pytest, that are not installed or too old, as pip writes them."""
    from packaging.requirements import Requirement

    wanted = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    missing = []
    for line in [*wanted, "pytest"]:
        requirement = Requirement(line)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(str(requirement))
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{requirement} (it has {version})")
    return missing
