"""Downloads the volumes of the CREMI challenge, each checked by its SHA-256 or, where none is known, as a CREMI file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cleftnet.datasets.fetching import RemoteFile, fetch
from cleftnet.datasets.validation import check_cremi, overall
from cleftnet.errors import InputError, nearest
from cleftnet.volumes import Address, expand

SITE = "https://cremi.org/static/data"
FOLDER = "$CLEFTNET_DATA/cremi"  # where the recipes look for it

_SHA256 = {  # from a public script, and the same in torch_em; not yet compared with the files (docs/method.md, "Data")
    "A": "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d",
    "B": "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8",
    "C": "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052",
}


@dataclass(frozen=True)
class Sample:
    """One of CREMI's files: its name on the server, and its SHA-256 where it is known."""

    file: str
    sha256: str | None = None


SAMPLES = {  # A, B, C with labels; A+, B+, C+ without, for the challenge; padded ones show tissue all around
    name: Sample(f"sample_{name}_{'20160601' if '+' in name else '20160501'}.hdf", _SHA256.get(name))
    for padded in ("", "_padded")
    for plus in ("", "+")
    for name in (f"{volume}{plus}{padded}" for volume in "ABC")
}


def download_cremi(
    samples: Sequence[str] = ("A", "B", "C"), dest: Address = FOLDER, *, mirrors: Sequence[str] = ()
) -> list[Path]:
    """Download volumes of the CREMI challenge; complete files are not fetched again, and interrupted ones are resumed.

    Args:
        samples: Names from `SAMPLES`: A, B, C, A+, B+, C+, and each of them with `_padded`.
        dest: The folder to download into; made where it is missing.
        mirrors: Addresses of folders that hold the same files, tried in turn before CREMI's own site.

    Returns:
        The files, in the order of `samples`.

    Raises:
        InputError: when a name is unknown, a file there is not CREMI's, or no source gives a file (the message says why).

    Example:
        >>> SAMPLES["A+_padded"].file
        'sample_A+_padded_20160601.hdf'
    """
    folder = Path(expand(dest))
    wanted = [_sample(name) for name in dict.fromkeys(samples)]
    return [
        fetch(RemoteFile(sample.file, "CREMI file", _inspect, sample.sha256), folder, [*mirrors, SITE])
        for sample in wanted
    ]


def _sample(name: str) -> Sample:
    if name not in SAMPLES:
        raise InputError(f"CREMI has no sample '{name}'; {nearest(name, list(SAMPLES))}")
    return SAMPLES[name]


def _inspect(path: Path) -> str:
    """Check a file of which no checksum is known as a CREMI file, and return the verdict in words.

    Raises:
        InputError: when it has an error, or is no HDF5 file at all.
    """
    findings = check_cremi(path)
    verdict = overall(findings)
    if verdict == "error":
        raise InputError(next(finding.text for finding in findings if finding.verdict == "error"))
    warned = "".join(f"; {finding}" for finding in findings if finding.verdict == "warning")
    return f"no checksum of it is known, so it was checked as a CREMI file: {verdict}{warned}"
