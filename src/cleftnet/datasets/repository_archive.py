"""Reads files of a Git repository from the ZIP archive of one commit, each only if its SHA-256 is the listed one.

Nothing is unpacked: files are read into memory. An archive with paths that lead outside of its folder is refused all the same.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from cleftnet.errors import InputError

LARGEST_BYTES = 2**26  # of one file; a hostile archive may claim any size

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class RepositoryArchive:
    """An open archive of a commit.

    Attributes:
        zipped: The archive.
        members: Its files by their paths in the repository.
        checksums: SHA-256 of the files that may be read, by path.
    """

    zipped: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    checksums: Mapping[str, str]

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            InputError: when the archive lacks it, or its SHA-256 is not the listed one.
        """
        member = self.members.get(path)
        if member is None:
            raise InputError(f"it has no file {path}")
        if member.file_size > LARGEST_BYTES:
            raise InputError(f"{path} is said to have {member.file_size:,} bytes, which is too large")
        try:
            content = self.zipped.read(member)
        except _DAMAGED as error:
            raise InputError(f"{path} cannot be unpacked: {error}") from None
        if hashlib.sha256(content).hexdigest() != self.checksums[path]:
            raise InputError(f"{path} has another SHA-256 than the published one")
        return content


@contextmanager
def open_archive(path: Path, commit: str, checksums: Mapping[str, str]) -> Iterator[RepositoryArchive]:
    """Open the archive of a commit, as `git archive` and GitHub make it: all files in one folder, the commit as comment.

    Args:
        path: The ZIP file.
        commit: The commit, 40 hexadecimal digits.
        checksums: SHA-256 of every file that may be read, by its path in the repository.

    Raises:
        InputError: when it is no ZIP file, of another commit, or has a path that leads outside of its folder.
    """
    try:
        zipped = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise InputError(f"it cannot be opened as a ZIP archive: {error}") from None
    with zipped:
        said = zipped.comment.decode("ascii", "replace").strip()
        if said and said != commit:
            raise InputError(f"it is the archive of commit {said[:40]}, not of {commit}")
        files = [member for member in zipped.infolist() if not member.is_dir()]
        for member in files:
            _check_inside(zipped, member)
        members = {member.filename.partition("/")[2]: member for member in files}
        yield RepositoryArchive(zipped, members, checksums)


def _check_inside(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise `InputError` where a member, or the target of a symbolic link, lies outside of the archive's folder."""
    name = member.orig_filename
    windows = PureWindowsPath(name)
    folder = name.partition("/")[0]
    if windows.drive or windows.root or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise InputError(f"its path {name!r} leads outside of the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        target = zipped.read(member).decode("utf-8", "replace") if member.file_size < 2**16 else "/"
        reached = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if not reached.startswith(f"{folder}/"):
            raise InputError(f"its link {name!r} leads outside of the archive")
