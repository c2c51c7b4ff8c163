"""Downloads vnc-l3, the public ssTEM stack of a *Drosophila* nerve cord, and makes HDF5 files in CREMI's layout of it.

Source: S. Gerhard, J. Funke, J. Martel, A. Cardona, R. Fetter, "Segmented anisotropic ssTEM dataset of neural tissue",
figshare 856713 (2013), and the Git repository of the same files, of which one commit is fetched.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from scipy import ndimage

from cleftnet.datasets.fetching import RemoteFile, fetch
from cleftnet.datasets.repository_archive import RepositoryArchive, open_archive
from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.progress import track
from cleftnet.volumes import (
    CLEFTS_NAME,
    FILE_FORMAT,
    RAW_NAME,
    Address,
    ArraySpec,
    expand,
    new_hdf5,
    reading_hdf5,
    to_cremi,
)

log = logging.getLogger(__name__)

REPOSITORY = "groundtruth-drosophila-vnc"
COMMIT = "4a5f051466d24d8dc1e855ab55658bb1b1dcd6bf"
SITE = f"https://github.com/unidesigner/{REPOSITORY}/archive"
FOLDER = "$CLEFTNET_DATA/vnc-l3"  # where the recipes look for it
LABELED, UNLABELED = "vnc-l3.hdf", "vnc-l3-stack2.hdf"

VOXEL_SIZE_NM: FloatZYX = (50.0, 4.6, 4.6)
SOURCE = f"https://github.com/unidesigner/{REPOSITORY}, commit {COMMIT}; figshare 856713"
TERMS = "CC BY-NC-SA 3.0; cite Gerhard, Funke, Martel, Cardona, Fetter: Segmented anisotropic ssTEM dataset of neural tissue"

TISSUE_NAME = "volumes/tissue"
TISSUE = {  # code in our file: its name, and the gray values of it in `stack1/labels`
    0: ("intracellular", (255,)),
    1: ("membrane", (0, 32, 64, 96, 128)),  # by orientation
    2: ("glia or extracellular", (159,)),
    3: ("mitochondrion", (191,)),
    4: ("synaptic junction", (223,)),
}

Gray = npt.NDArray[np.uint8]


def download_vnc_l3(dest: Address = FOLDER, *, mirrors: Sequence[str] = ()) -> list[Path]:
    """Download vnc-l3 and make `vnc-l3.hdf` (raw, clefts, tissue) and `vnc-l3-stack2.hdf` (raw alone) of it.

    The archive of one commit is fetched, every file in it is checked against its published SHA-256, and it is deleted when
    both files are made. An interrupted download is resumed. Files that are there already are not made again.

    Args:
        dest: The folder for both files; made where it is missing.
        mirrors: Addresses of folders that hold the same archive (`COMMIT.zip`), tried in turn before GitHub.

    Returns:
        The two files.

    Raises:
        InputError: when a file of such a name but of another origin is there, no source gives the archive, or a file in it is
            not the published one (the message names it).
    """
    folder = Path(expand(dest))
    paths = [folder / LABELED, folder / UNLABELED]
    missing = [path for path in paths if not _is_ours(path)]
    if missing:
        archive = RemoteFile(f"{COMMIT}.zip", f"archive of {REPOSITORY}", _inspect, certain=True)
        path = fetch(archive, folder, [*mirrors, SITE])
        with open_archive(path, COMMIT, checksums()) as opened:
            for wanted in missing:
                _write(wanted, _ARRAYS[wanted.name](opened))
        path.unlink()
    log.info(f"vnc-l3 may be used under {TERMS} ({SOURCE})")
    return paths


@functools.cache
def checksums() -> Mapping[str, str]:
    """Return the SHA-256 of every file of the two stacks, by its path in the repository."""
    lines = files("cleftnet.datasets").joinpath("vnc-l3-files.sha256").read_text().splitlines()
    return {path: digest for digest, path in (line.split() for line in lines)}


def _inspect(path: Path) -> str:
    """Check every listed file of an archive.

    Raises:
        InputError: when the archive is of another commit, or one of its files is missing or another one.
    """
    listed = checksums()
    with open_archive(path, COMMIT, listed) as archive:
        for name in track(listed, "checking", len(listed)):
            archive.read(name)
    return f"all {len(listed)} files in it have their published SHA-256"


def _is_ours(path: Path) -> bool:
    """Return whether a file made from the same commit is there.

    Raises:
        InputError: when there is another file of this name.
    """
    if not path.exists():
        return False
    with reading_hdf5(path) as file:
        source = file.attrs.get("source")
    if source != SOURCE:
        raise InputError(
            f"{path} was not made from commit {COMMIT} of {REPOSITORY}; move it away, or choose another dest=..."
        )
    log.info(f"{path} is there already, made from the same commit")
    return True


@dataclass(frozen=True)
class _NewArray:
    """An array to be written, with attributes of its own."""

    name: str
    values: npt.NDArray[Any]
    attributes: Mapping[str, str]


def _write(path: Path, arrays: Sequence[_NewArray]) -> None:
    with new_hdf5(path) as file:
        file.attrs.update({"file_format": FILE_FORMAT, "source": SOURCE, "terms": TERMS})
        for array in arrays:
            spec = ArraySpec(array.name, array.values.shape, array.values.dtype, VOXEL_SIZE_NM)
            file.create(spec)[0 : spec.shape[0], 0 : spec.shape[1], 0 : spec.shape[2]] = array.values
            file[array.name].attrs.update(array.attributes)
    log.info(f"made {path}: {'×'.join(map(str, arrays[0].values.shape))} voxels")


def _labeled(archive: RepositoryArchive) -> list[_NewArray]:
    raw = _stack(archive, "stack1/raw/")
    clefts = clefts_of(_stack(archive, "stack1/synapses/"))
    tissue = tissue_of(_stack(archive, "stack1/labels/"))
    if not raw.shape == clefts.shape == tissue.shape:
        raise InputError(f"raw, synapses and labels differ in shape: {raw.shape}, {clefts.shape}, {tissue.shape}")
    names = ", ".join(f"{code} {name}" for code, (name, _) in TISSUE.items())
    comment = "junction masks, 26-connected components of the published binary masks"
    return [
        _NewArray(RAW_NAME, raw, {}),
        _NewArray(CLEFTS_NAME, to_cremi(clefts), {"comment": comment}),
        _NewArray(TISSUE_NAME, tissue, {"classes": names}),
    ]


def _unlabeled(archive: RepositoryArchive) -> list[_NewArray]:
    return [_NewArray(RAW_NAME, _stack(archive, "stack2/raw/"), {})]


_ARRAYS = {LABELED: _labeled, UNLABELED: _unlabeled}


def clefts_of(masks: Gray) -> npt.NDArray[np.uint64]:
    """Return ids of the junctions: 26-connected components of the mask, numbered by first voxel in z y x order.

    Args:
        masks: Published masks z y x; one section is coded 0 and 255, the others 0 and 1.

    Example:
        >>> clefts_of(np.array([[[0, 255, 0, 0, 1]], [[0, 0, 1, 0, 0]]], np.uint8)).tolist()
        [[[0, 1, 0, 0, 2]], [[0, 0, 1, 0, 0]]]
    """
    components, number = ndimage.label(masks > 0, np.ones((3, 3, 3)))
    _, first = np.unique(components[components > 0], return_index=True)  # of id 1, 2, 3, ...
    ids = np.zeros(number + 1, np.uint64)
    ids[1 + np.argsort(first)] = np.arange(1, number + 1)
    return ids[components]


def tissue_of(labels: Gray) -> Gray:
    """Return the code of `TISSUE` for each gray value of the published label images.

    Raises:
        InputError: when there is another gray value.

    Example:
        >>> tissue_of(np.array([[[255, 96, 159, 191, 223]]], np.uint8)).tolist()
        [[[0, 1, 2, 3, 4]]]
    """
    codes = np.full(256, 255, np.uint8)
    for code, (_, grays) in TISSUE.items():
        codes[list(grays)] = code
    tissue = codes[labels]
    unknown = np.unique(labels[tissue == 255])
    if unknown.size:
        raise InputError(f"stack1/labels has the gray value {unknown[0]}, which stands for no tissue")
    return tissue


def _stack(archive: RepositoryArchive, folder: str) -> Gray:
    """Return the sections of a folder, z y x, in the order of their names."""
    names = sorted(name for name in archive.checksums if name.startswith(folder))
    sections = [_section(name, archive.read(name)) for name in names]
    shapes = {section.shape for section in sections}
    if len(shapes) != 1:
        raise InputError(f"the sections of {folder} differ in shape: {sorted(shapes)}")
    return np.stack(sections)


def _section(name: str, content: bytes) -> Gray:
    """Decode one image: gray values of 8 bits, or a mask of 1 bit."""
    try:
        decode = tifffile.imread if name.endswith(".tif") else Image.open
        image = np.asarray(decode(io.BytesIO(content)))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from None
    if image.ndim == 3 and (image[..., :3] == image[..., :1]).all():
        image = image[..., 0]  # gray, stored as red, green and blue
    if image.ndim != 2 or image.dtype not in (np.uint8, np.bool_):
        raise InputError(f"{name} is {image.dtype} of shape {image.shape}; expected gray values of 8 bits, y x")
    return image.astype(np.uint8)
