"""Writes an output block by block; until it is complete, its arrays and its journal lie in `OUT.unfinished` beside it.

These arrays are chunked, so that several processes can write them and a crash does not damage them. When every block is
finished they become the output in one step: a folder (Zarr, N5) is renamed, an HDF5 file is written whole or not at all.
Buckets cannot rename. The arrays lie at their final address there from the beginning, and the journal lies in the working
directory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cleftnet.blockwise.journal import TASK, Journal, Task
from cleftnet.errors import InputError
from cleftnet.files import refuse_existing
from cleftnet.geometry import IntZYX
from cleftnet.progress import bar
from cleftnet.volumes import (
    Address,
    ArraySpec,
    WritableVolume,
    copy_into,
    create_volumes,
    is_remote,
    list_arrays,
    locate,
    open_volume,
    open_writable,
    remove_remote,
)

UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Output:
    """The arrays of an unfinished output, and its finished blocks.

    Attributes:
        arrays: The arrays by name, to be written at multiples of `chunk`.
        journal: The finished blocks.
        chunk: Sides z y x in voxels of a chunk, which only one process may write at a time.
    """

    arrays: Mapping[str, WritableVolume]
    journal: Journal
    chunk: IntZYX


@contextmanager
def unfinished(
    out: Address,
    arrays: Sequence[ArraySpec],
    task: Task,
    overwrite: bool = False,
    accept_changed_input: bool = False,
) -> Iterator[Output]:
    """Yield an output to fill; it is moved into place when the body succeeds, and kept for the next run when it fails.

    Args:
        out: Output, in the format of its ending: HDF5, Zarr or N5.
        arrays: Arrays to create.
        task: Settings that decide the result, and the blocks; a later run needs the same settings to complete the output.
        overwrite: Replace an existing output, and discard another task that was begun there.
        accept_changed_input: Complete an output that was begun with other voxels of the inputs.

    Raises:
        InputError: when the output exists, another task was begun there, an input has changed since, or its format holds no
            such arrays.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from cleftnet.geometry import Box
        >>> from cleftnet.volumes import Volume
        >>> raw = Volume(np.zeros((4, 5, 6), np.uint8), (40, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     task = Task(settings={}, block=(4, 4, 4))
        ...     with unfinished(f"{folder}/out.hdf", [ArraySpec.like(raw, "volumes/raw")], task) as output:
        ...         output.arrays["volumes/raw"][Box((0, 0, 0), (4, 5, 6))] = 7
        ...     open_volume(f"{folder}/out.hdf").read().max(), [p.name for p in Path(folder).iterdir()]
        (np.uint8(7), ['out.hdf'])
    """
    paths = _OutputPaths.of(out)
    paths.prepare(overwrite)
    begun = (paths.folder / TASK).exists()
    with Journal(paths.folder, task, overwrite, accept_changed_input) as journal:
        try:
            if not journal or not paths.has_arrays():
                journal.clear()
                paths.create(arrays, overwrite or begun)
            targets = {array.name: open_writable(f"{paths.arrays}/{array.name}") for array in arrays}
            yield Output(targets, journal, next(iter(targets.values())).chunk_shape)
            paths.finish(overwrite)
        except BaseException:
            if not journal:
                paths.remove()
            raise
        shutil.rmtree(paths.folder)


@dataclass(frozen=True)
class _OutputPaths:
    """Where the output will be, and where its parts lie until it is complete.

    Attributes:
        out: Address of the output.
        arrays: Address of the arrays until the output is complete.
        folder: Folder of the journal.
    """

    out: str
    arrays: str
    folder: Path

    @classmethod
    def of(cls, out: Address) -> _OutputPaths:
        row, location = locate(out, new=True)
        if location.inside or row.name not in ("HDF5", "Zarr", "N5"):
            raise InputError(f"{out} cannot be written block by block; choose a name ending in .hdf or .zarr")
        if is_remote(location.path):
            if not row.folder:
                raise InputError(f"{out}: only Zarr and N5 can be written to a bucket; choose a name ending in .zarr")
            return cls(location.path, location.path, Path(PurePosixPath(location.path).name + UNFINISHED))
        folder = Path(location.path + UNFINISHED)
        return cls(location.path, str(folder / ("arrays.n5" if row.name == "N5" else "arrays.zarr")), folder)

    @property
    def remote(self) -> bool:
        return self.out == self.arrays

    def prepare(self, overwrite: bool) -> None:
        """Create the folder; refuse an existing output that must not be replaced."""
        if not self.remote:
            refuse_existing(Path(self.out), overwrite)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot create the folder {self.folder}: {error.strerror}; choose another output"
            ) from None

    def has_arrays(self) -> bool:
        return self.remote or Path(self.arrays).exists()

    def create(self, arrays: Sequence[ArraySpec], overwrite: bool) -> None:
        with create_volumes(self.arrays, overwrite or not self.remote) as new:
            for array in arrays:
                new.create(array)

    def finish(self, overwrite: bool) -> None:
        """Move the finished arrays into place."""
        if self.remote:
            return
        out, arrays = Path(self.out), Path(self.arrays)
        if out.suffix != arrays.suffix:
            self._copy(overwrite)
            return
        if out.exists():
            out.replace(self.folder / "replaced")
        arrays.replace(out)

    def _copy(self, overwrite: bool) -> None:
        with create_volumes(self.out, overwrite) as new, bar(f"writing {Path(self.out).name}") as progress:
            for address in list_arrays(self.arrays):
                volume = open_volume(address)
                spec = ArraySpec.copying(volume, address.removeprefix(f"{self.arrays}/"))
                copy_into(volume, new.create(spec), progress=progress)

    def remove(self) -> None:
        if self.remote:
            remove_remote(self.arrays)
        shutil.rmtree(self.folder, ignore_errors=True)
