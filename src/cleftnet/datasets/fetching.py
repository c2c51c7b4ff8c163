"""Fetches one file from the first of several sources that has it: resumes, shows progress, and verifies the file.

A file takes its place when its SHA-256 is the known one, or, where none is known, when an inspection of its content finds no
fault. TLS certificates are always checked, and no switch turns that off (docs/evaluation.md says why).
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pooch
import requests

from cleftnet.errors import InputError
from cleftnet.progress import bar

log = logging.getLogger(__name__)

TIMEOUT_S = (15, 60)  # to connect, and between two pieces
PIECE_BYTES = 2**16  # an interrupted piece is fetched again


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch, and how it is told from a wrong or damaged one.

    Attributes:
        name: Its name, on the server and in the folder.
        kind: What it is, for messages, such as "CREMI file".
        inspect: Returns how a file that is there was verified, in words; raises `InputError` with what is wrong with it.
        sha256: Its SHA-256, where it is known.
        certain: Whether `inspect` recognizes every change of the file. If so, a part is continued even where the server does
            not confirm that its file is still the same.
    """

    name: str
    kind: str
    inspect: Callable[[Path], str]
    sha256: str | None = None
    certain: bool = False


def fetch(file: RemoteFile, folder: Path, sources: Sequence[str]) -> Path:
    """Fetch one file from the first source that gives it whole; a file that is there already is only verified.

    Args:
        file: The file.
        folder: Where it shall be; made where it is missing.
        sources: Addresses of folders that hold the file, tried in turn.

    Raises:
        InputError: when a wrong file is in its place, or no source gives the file (the message says why).
    """
    path = folder / file.name
    if path.exists():
        log.info(f"{path} is there already; {_verify(path, file)}")
        return path
    pooch.get_logger().setLevel(logging.WARNING)  # its messages would say less than ours
    known_hash = file.sha256 and f"sha256:{file.sha256}"
    download = _Resuming(folder / f"{file.name}.part", file)
    answers = []
    for source in dict.fromkeys(sources):
        url = f"{source.rstrip('/')}/{quote(file.name)}"
        try:
            pooch.retrieve(url, known_hash, fname=file.name, path=folder, downloader=download)
        except (requests.RequestException, _RefusedError) as error:
            answers.append(f"{source} {_reason(error)}")
        except ValueError:  # raised by pooch when the checksum differs; it has deleted the file
            answers.append(f"{source} sent a file whose SHA-256 is not the known one; it was deleted")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; choose another dest=...") from error
        else:
            log.info(f"{path} is complete; {_verify(path, file)}")
            return path
    raise InputError(
        f"cannot fetch {file.name}: {'; '.join(answers)}; try again later (what has come is kept), name "
        f"another source with mirrors=[URL], or put the file into {folder} yourself"
    )


def _verify(path: Path, file: RemoteFile) -> str:
    """Return how a file that is there was verified.

    Raises:
        InputError: when it is another file.
    """
    try:
        if file.sha256 is None:
            return file.inspect(path)
        if pooch.file_hash(str(path)) == file.sha256:
            return "its SHA-256 is the known one"
        raise InputError("its SHA-256 differs")
    except InputError as error:
        raise InputError(
            f"{path} is not the {file.kind} expected ({error}); move it away, or choose another dest=..."
        ) from None


class _RefusedError(Exception):
    """A source answered with something other than the file."""


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that resumes an earlier download; the bytes received so far are kept in `FILE.part`.

    A part is resumed only where the whole is checked in the end: by its checksum, by an inspection that recognizes every
    change, or else by the server, which is asked to send the rest only if its file is still the same (`If-Range` with a
    strong ETag, RFC 9110 §13.1.5).

    Args:
        part: The file that collects the bytes.
        file: What it will be.
    """

    part: Path
    file: RemoteFile

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
        if self.file.sha256 is None:
            self._inspect()
        self.part.replace(output_file)
        self._drop()
        return None

    def _inspect(self) -> None:
        try:
            self.file.inspect(self.part)
        except InputError as error:
            self._drop()
            raise _RefusedError(f"sent a file that is no valid {self.file.kind} ({error}); it was deleted") from None

    def _range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest of the file; none where the download has to begin anew."""
        if not self.part.exists() or not self.part.stat().st_size:
            return {}
        rest = {"Range": f"bytes={self.part.stat().st_size}-"}
        if self.file.sha256 is not None or self.file.certain:
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
