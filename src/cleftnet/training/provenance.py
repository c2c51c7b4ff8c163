"""Provenance of a training: versions, machine, git state, time, recipe, and checksums of the data."""

from __future__ import annotations

import datetime
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from cleftnet.geometry import Box, slabs
from cleftnet.volumes import Volume

PACKAGES = ("cleftnet", "torch", "lightning-fabric", "numpy")
SECTIONS = 16  # sections of raw that go into a checksum


def provenance(recipe: JsonValue) -> dict[str, JsonValue]:
    """Return versions, device, threads, git state, time, and the recipe."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
        "started": now(),
        "recipe": recipe,
    }


def now() -> str:
    """Return the time, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def fingerprint(raw: Volume, labels: Volume) -> dict[str, JsonValue]:
    """Return checksums of a region that do not depend on its format or address.

    The checksum of the labels covers every voxel, since people correct labels. That of raw covers at most 16 evenly spread
    sections. This takes a second for a CREMI volume and detects another, shifted or rescaled volume, but not changes in
    other sections.

    Args:
        raw: Gray values z y x.
        labels: Instance ids z y x.

    Returns:
        Shape and SHA-256 sums of little-endian values in z y x order.
    """
    depth, height, width = raw.shape
    chosen = np.unique(np.linspace(0, depth - 1, SECTIONS).round().astype(int)).tolist()
    return {
        "shape": list(raw.shape),
        "raw_sections_sha256": _sha256(raw, [Box((z, 0, 0), (z + 1, height, width)) for z in chosen]),
        "labels_sha256": checksum(labels),
    }


def checksum(volume: Volume) -> str:
    """Return the SHA-256 of all values of a volume, its shape and its type."""
    return _sha256(volume, list(slabs(volume.box)))


def _sha256(volume: Volume, boxes: list[Box]) -> str:
    sha = hashlib.sha256(f"{volume.shape} {volume.dtype.str.lstrip('<>|=')}".encode())
    for box in boxes:
        values = volume[box]
        sha.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return sha.hexdigest()


def _git_state() -> str | None:
    """Return the commit of the package's source, with `-dirty` when it has changes; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
