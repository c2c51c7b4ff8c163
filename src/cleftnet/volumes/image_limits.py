"""Limits on what a slice of a TIFF, or an image inside it, may unpack to; `chunk_limits` has those of chunks."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import tifffile

from cleftnet.errors import InputError

LARGEST_PAGE_BYTES = 2**32  # of a compressed page, which is unpacked whole to read any voxel of it
_IMAGE_CODECS = (
    "OJPEG", "JPEG", "JPEG_LOSSY", "ALT_JPEG", "PNG", "JPEG2000", "JPEG_2000_LOSSY", "APERIO_JP2000_RGB", "APERIO_JP2000_YCBC",
)  # fmt: skip
_IMAGES = {tifffile.COMPRESSION[name] for name in _IMAGE_CODECS if name in tifffile.COMPRESSION.__members__}


def check_page(page: tifffile.TiffPage, path: Path) -> None:
    """Refuse a compressed page that takes too much memory to read.

    Args:
        page: A page of gray values of a known type.
        path: Path of the file, for messages.

    Raises:
        InputError: when it is more than `LARGEST_PAGE_BYTES`.
    """
    assert page.dtype is not None
    height, width = page.shape
    size = height * width * page.dtype.itemsize
    if not page.is_memmappable and size > LARGEST_PAGE_BYTES:
        raise InputError(
            f"{path} has compressed slices of {height}×{width} voxels, each of which takes {size / 2**30:.0f} GiB of memory "
            f"to read; save it uncompressed, or as Zarr"
        )


def check_images(page: Any, path: str) -> None:
    """Refuse a page whose tiles or strips are images with far more pixels than a tile or strip has.

    An image codec takes the sides from the header of the image, the other codecs stop at the size of the tile.

    Args:
        page: The page, of an open file.
        path: Path of the file, for messages.

    Raises:
        InputError: when there is such a tile or strip.
    """
    if page.compression not in _IMAGES:
        return
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    most = 2 * min(rows, max(page.imagelength, page.tilelength)) * columns + 2**20
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(start)
        found = pixels_in_header(page.parent.filehandle.read(size))
        if found > most:
            raise InputError(
                f"{path}: a tile of {rows}×{columns} voxels is an image of {found:,}; the file is damaged or was made to "
                f"exhaust the memory: fetch it again"
            )


def pixels_in_header(image: bytes) -> int:
    r"""Return how many pixels a JPEG, PNG or JPEG 2000 image says it has; 0 where it is none of them.

    Example:
        >>> pixels_in_header(b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x20\x01")
        512
        >>> pixels_in_header(b"no image")
        0
    """
    try:
        if image.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", image, 16)
        elif image.startswith(b"\xff\xd8"):
            width, height = _jpeg_sides(image)
        elif (at := image.find(b"\xff\x4f\xff\x51")) >= 0:  # the code stream of JPEG 2000, alone or in a JP2 file
            width, height = struct.unpack_from(">II", image, at + 8)
        else:
            return 0
    except struct.error:  # cut short, which the decoder says
        return 0
    return int(width) * int(height)


def _jpeg_sides(image: bytes) -> tuple[int, int]:
    """Return width and height from the frame header of a JPEG (ITU-T T.81, B.2.2); zeros where there is none."""
    at = image.find(b"\xff", 2)
    while 0 <= at < len(image) - 1:
        kind = image[at + 1]
        if kind == 0xFF:  # a byte that fills
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", image, at + 5)
            return width, height
        else:
            alone = kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD9  # markers without a segment
            length = 0 if alone else struct.unpack_from(">H", image, at + 2)[0]
            at = image.find(b"\xff", at + 2 + length)
    return 0, 0
