"""Downloads the volumes of the CREMI challenge: resumes, tries several sources, and checks every file.

A file takes its place when its SHA-256 is the known one; where none is known, when it is a valid CREMI file. TLS certificates
are always checked, and no switch turns that off (docs/evaluation.md says why).
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pooch
import requests

from cleftnet.datasets.validation import Finding, check_cremi, overall
from cleftnet.errors import InputError, nearest
from cleftnet.progress import bar
from cleftnet.volumes import Address, expand

log = logging.getLogger(__name__)

SITE = "https://cremi.org/static/data"
TIMEOUT_S = (15, 60)  # to connect, and between two pieces
PIECE_BYTES = 2**16  # an interrupted piece is fetched again

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
    samples: Sequence[str] = ("A", "B", "C"), dest: Address = "cremi", *, mirrors: Sequence[str] = ()
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
    return [_fetch(sample, folder, [*mirrors, SITE]) for sample in wanted]


def _sample(name: str) -> Sample:
    if name not in SAMPLES:
        raise InputError(f"CREMI has no sample '{name}'; {nearest(name, list(SAMPLES))}")
    return SAMPLES[name]


def _fetch(sample: Sample, folder: Path, sources: Sequence[str]) -> Path:
    """Fetch one file from the first source that gives it whole."""
    path = folder / sample.file
    if path.exists():
        log.info(f"{path} is there already; {_verify(path, sample)}")
        return path
    pooch.get_logger().setLevel(logging.WARNING)  # its messages would say less than ours
    known_hash = sample.sha256 and f"sha256:{sample.sha256}"
    download = _Resuming(folder / f"{sample.file}.part", has_checksum=known_hash is not None)
    answers = []
    for source in dict.fromkeys(sources):
        url = f"{source.rstrip('/')}/{quote(sample.file)}"
        try:
            pooch.retrieve(url, known_hash, fname=sample.file, path=folder, downloader=download)
        except (requests.RequestException, _RefusedError) as error:
            answers.append(f"{source} {_reason(error)}")
        except ValueError:  # raised by pooch when the checksum differs; it has deleted the file
            answers.append(f"{source} sent a file whose SHA-256 is not the known one; it was deleted")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; choose another dest=...") from error
        else:
            log.info(f"{path} is complete; {_verify(path, sample)}")
            return path
    raise InputError(
        f"cannot fetch {sample.file}: {'; '.join(answers)}; try again later (what has come is kept), name "
        f"another source with mirrors=[URL], or put the file into {folder} yourself"
    )


def _verify(path: Path, sample: Sample) -> str:
    """Return how a file that is there was verified.

    Raises:
        InputError: when it is not CREMI's file.
    """
    if sample.sha256 is not None:
        if pooch.file_hash(str(path)) == sample.sha256:
            return "its SHA-256 is the known one"
        fault = "its SHA-256 differs"
    else:
        findings = _findings(path)
        verdict = overall(findings)
        if verdict != "error":
            warned = "".join(f"; {finding}" for finding in findings if finding.verdict == "warning")
            return f"no checksum of it is known, so it was checked as a CREMI file: {verdict}{warned}"
        fault = _first_error(findings)
    raise InputError(f"{path} is not CREMI's file ({fault}); move it away, or choose another dest=...")


def _findings(path: Path) -> list[Finding]:
    try:
        return check_cremi(path)
    except InputError as error:  # not an HDF5 file at all
        return [Finding("error", str(error))]


def _first_error(findings: Sequence[Finding]) -> str:
    return next((finding.text for finding in findings if finding.verdict == "error"), "")


class _RefusedError(Exception):
    """A source answered with something other than the file."""


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that resumes an earlier download; the bytes received so far are kept in `FILE.part`.

    A part is resumed only where the whole is checked in the end: by its checksum, or, where none is known, by the server,
    which is asked to send the rest only if its file is still the same (`If-Range` with a strong ETag, RFC 9110 §13.1.5).

    Args:
        part: The file that collects the bytes.
        has_checksum: Whether pooch checks the whole file.
    """

    part: Path
    has_checksum: bool

    def __call__(self, url: str, output_file: str, pooch_itself: Any) -> None:
        """Fetch the rest of a file, check it where pooch cannot, and move it to its place."""
        headers = self._range_headers()
        with requests.get(
            url, headers={"Accept-Encoding": "identity"} | headers, stream=True, timeout=TIMEOUT_S
        ) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise _RefusedError(f"sends on to {response.url}, which is not encrypted")
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._drop()  # the part is not the beginning of this file
                return self(url, output_file, pooch_itself)
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _RefusedError("answers with a web page instead of the file")
            self._receive(response)
        fault = "" if self.has_checksum else _first_error(_findings(self.part))
        if fault:
            self._drop()
            raise _RefusedError(f"sent a file that is no valid CREMI file ({fault}); it was deleted")
        self.part.replace(output_file)
        self._drop()
        return None

    def _range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest of the file; none where the download has to begin anew."""
        if not self.part.exists() or not self.part.stat().st_size:
            return {}
        rest = {"Range": f"bytes={self.part.stat().st_size}-"}
        if self.has_checksum:
            return rest
        return rest | {"If-Range": self._etag.read_text()} if self._etag.exists() else {}

    def _receive(self, response: requests.Response) -> None:
        """Append the bytes received to the part, or begin it anew where the server sends the whole file."""
        begun = self.part.stat().st_size if response.status_code == requests.codes.partial else 0
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if begun and (span is None or int(span[1]) != begun):
            raise _RefusedError("sends another part of the file than the one asked for")
        length = int(response.headers.get("Content-Length", 0))
        total = int(span[2]) if begun and span else length
        etag = response.headers.get("ETag", "")
        self._etag.unlink(missing_ok=True)
        if etag.startswith('"'):  # a weak one, W/"...", does not promise the same bytes
            self._etag.write_text(etag)
        with self.part.open("ab" if begun else "wb") as file, bar(self.part.stem, in_bytes=True) as progress:
            for piece in response.iter_content(PIECE_BYTES):
                file.write(piece)
                progress(file.tell(), total)
        if total and self.part.stat().st_size != total:
            raise _RefusedError(f"sent {self.part.stat().st_size:,} of {total:,} bytes")

    @property
    def _etag(self) -> Path:
        return self.part.with_suffix(".etag")

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self._etag.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Return in a few words why a source did not give the file."""
    if isinstance(error, _RefusedError):
        return str(error)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a certificate that cannot be trusted ({cause.verify_message}), and TLS checks stay on"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or any(isinstance(cause, TimeoutError) for cause in _causes(error)):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "stopped in the middle"
    if isinstance(error, requests.ConnectionError):
        said = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
        return f"cannot be reached ({said[-1]})" if said else "cannot be reached"
    return f"cannot be used ({error})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
