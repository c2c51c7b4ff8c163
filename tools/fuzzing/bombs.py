"""Unpacks decompression bombs: small files that unpack to far more than they say, or that say they hold far too much.

`python -m tools.fuzzing.bombs` writes them and runs `cleftnet convert` on each in a forked process. Each must end with exit
code 2, one line and no output, and may take 512 MiB beyond the imported program (Blosc: 2.5 GiB).
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import json
import os
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import tifffile

from cleftnet.volumes import Volume, write_volume
from tools.warm import import_ahead, start_command

PEAK_BYTES = 2**29
_PEAKS = {"blosc.zarr": 2**31 + 2**29}  # unpacked as its header says, which cannot say more than 2 GiB
_SHAPE = (8, 64, 64)
_PIECE = 2**24
_HUGE = 10**5  # voxels along each axis of a chunk that no memory holds


def zeros(size: int, gzipped: bool = False) -> bytes:
    """Return a zlib or gzip stream of this many zero bytes, a multiple of 2^24, about a thousandth of that long."""
    packer = zlib.compressobj(9, wbits=-15)
    pieces = packer.compress(bytes(_PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = pieces * (size // _PIECE) + b"\x03\x00"
    if gzipped:
        return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + body + struct.pack("<II", _crc(size), size % 2**32)
    return b"\x78\xda" + body + struct.pack(">I", size % 65521 << 16 | 1)


def _crc(size: int) -> int:
    crc = 0
    for _ in range(size // _PIECE):
        crc = zlib.crc32(bytes(_PIECE), crc)
    return crc


def _hdf5(path: Path, size: int) -> None:
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("volumes/raw", _SHAPE, np.uint8, chunks=_SHAPE, compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), zeros(size))


def _hdf5_packed_twice(path: Path, size: int) -> None:
    with h5py.File(path, "w") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk(_SHAPE)
        how.set_deflate(9)
        how.set_deflate(9)
        group = file.create_group("volumes")
        raw = h5py.h5d.create(group.id, b"raw", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(_SHAPE), how)
        h5py.Dataset(raw).id.write_direct_chunk((0, 0, 0), zlib.compress(zeros(size), 9))


def _hdf5_chunk(path: Path, _size: int) -> None:
    side = (1, 2**16, 2**16 - 1)  # the most that HDF5 allows
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("volumes/raw", side, np.uint8, chunks=side, compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), zeros(2**32))


def _tiff_tile(path: Path, size: int) -> None:
    tile = iter([zeros(size)])
    tifffile.imwrite(path, tile, shape=(64, 64), dtype=np.uint8, tile=(64, 64), compression="zlib")


def _tiff_strip(path: Path, size: int) -> None:
    tifffile.imwrite(path, iter([zeros(size)]), shape=(64, 64), dtype=np.uint8, rowsperstrip=64, compression="zlib")


def _tiff_jpeg(path: Path, _size: int) -> None:
    tile = iter([_jpeg(0)])
    tifffile.imwrite(path, tile, shape=(512, 64), dtype=np.uint8, tile=(512, 64), compression="jpeg")


def _tiff_png(path: Path, size: int) -> None:
    tifffile.imwrite(path, iter([_png(size)]), shape=(512, 64), dtype=np.uint8, tile=(512, 64), compression="png")


def _tiff_page(path: Path, _size: int) -> None:
    side, tile = 2**16, zlib.compress(bytes(2**26), 9)
    tiles = iter([tile] * 128)
    tifffile.imwrite(
        path, tiles, shape=(side, side), dtype=np.uint16, tile=(2**13, 2**12), compression="zlib", bigtiff=True
    )


def _zarr(
    compressor: dict[str, object], chunk: Callable[[int], bytes], sides: tuple[int, int, int] = _SHAPE
) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        path.mkdir()
        about = {
            "zarr_format": 2, "shape": sides, "chunks": sides, "dtype": "|u1", "compressor": compressor, "fill_value": 0,
            "order": "C", "filters": None,
        }  # fmt: skip
        (path / ".zarray").write_text(json.dumps(about))
        (path / "0.0.0").write_bytes(chunk(size))

    return write


def _n5(size: int, sides: tuple[int, int, int]) -> bytes:
    return struct.pack(">HHIII", 0, 3, *sides) + zeros(size, gzipped=True)


def _write_n5(path: Path, size: int, sides: tuple[int, int, int] = _SHAPE) -> None:
    (path / "0" / "0").mkdir(parents=True)
    about = {"dimensions": _SHAPE, "blockSize": _SHAPE, "dataType": "uint8", "compression": {"type": "gzip"}}
    (path / "attributes.json").write_text(json.dumps(about))
    (path / "0" / "0" / "0").write_bytes(_n5(size, sides))


def _png(size: int) -> bytes:
    """Return a PNG of gray zeros of 2^14 columns and as many rows as make about this many bytes."""
    width = 2**14 - 1  # a byte more in every row names its filter
    rows = size // 2**14

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zeros(size)) + part(b"IEND", b"")


def _jpeg(_size: int) -> bytes:
    """Return a JPEG whose header says that it has 65,500 rows and columns."""
    content = bytearray(imagecodecs.jpeg8_encode(np.zeros((512, 64), np.uint8)))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(content)


def _precomputed(encoding: str, chunk: Callable[[int], bytes]) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        z, y, x = _SHAPE
        scale = {
            "key": "s0", "size": [x, y, z], "chunk_sizes": [[x, y, z]], "resolution": [4, 4, 40], "encoding": encoding,
            "voxel_offset": [0, 0, 0],
        }  # fmt: skip
        about = {
            "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8", "num_channels": 1,
            "scales": [scale],
        }  # fmt: skip
        (path / "s0").mkdir(parents=True)
        (path / "info").write_text(json.dumps(about))
        (path / "s0" / f"0-{x}_0-{y}_0-{z}").write_bytes(chunk(size))

    return write


def _repeated(packed: bytes) -> Callable[[int], bytes]:
    return lambda size: packed * (size // _PIECE)


BOMBS: dict[str, Callable[[Path, int], None]] = {
    "stream.hdf": _hdf5,
    "twice.hdf": _hdf5_packed_twice,
    "chunk.hdf": _hdf5_chunk,
    "tile.tif": _tiff_tile,
    "strip.tif": _tiff_strip,
    "jpeg.tif": _tiff_jpeg,
    "png.tif": _tiff_png,
    "page.tif": _tiff_page,
    "zlib.zarr": _zarr({"id": "zlib", "level": 1}, zeros),
    "gzip.zarr": _zarr({"id": "gzip", "level": 1}, lambda size: zeros(size, gzipped=True)),
    "bz2.zarr": _zarr({"id": "bz2", "level": 1}, _repeated(bz2.compress(bytes(_PIECE)))),
    "zstd.zarr": _zarr({"id": "zstd", "level": 1}, _repeated(bytes(imagecodecs.zstd_encode(bytes(_PIECE))))),
    "blosc.zarr": _zarr(
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0},
        lambda size: bytes(imagecodecs.blosc_encode(bytes(min(size, 2**31 - _PIECE)))),
    ),
    "chunk.zarr": _zarr({"id": "zlib", "level": 1}, zeros, (_HUGE,) * 3),
    "stream.n5": _write_n5,
    "chunk.n5": lambda path, size: _write_n5(path, size, (2**16,) * 3),
    "png.precomputed": _precomputed("png", _png),
    "jpeg.precomputed": _precomputed("jpeg", _jpeg),
}


def main(arguments: list[str] | None = None) -> int:
    """Run every bomb, print how it ended, and return 1 when one ended badly."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzzing.bombs", description=__doc__)
    parser.add_argument(
        "--mib", type=int, default=4096, help="what a stream unpacks to, a multiple of 16 (default: 4096)"
    )
    parser.add_argument("--only", help="only these, separated by commas (default: all)")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(BOMBS)
    problems = 0
    with tempfile.TemporaryDirectory(prefix="bombs-") as name:
        folder = Path(name)
        import_ahead(lambda: _rehearse(folder), folder)
        for bomb in names:
            BOMBS[bomb](folder / bomb, given.mib * 2**20)
        base = _convert(folder, "sound.hdf")[1]
        print(f"{'bomb':18s} {'code':>5s} {'MiB':>6s} {'s':>5s}  message")
        for bomb in names:
            code, peak, seconds, said = _convert(folder, bomb)
            ended = code == 2 and said.startswith("error: ") and "\n" not in said
            sound = ended and peak - base < _PEAKS.get(bomb, PEAK_BYTES) and not (folder / "out.zarr").exists()
            problems += not sound
            print(f"{bomb:18s} {code:5d} {max(0, peak - base) / 2**20:6.0f} {seconds:5.1f}  {said[-200:]}", flush=True)
    print(f"{len(names)} bombs, {problems} problems")
    return 1 if problems else 0


def _rehearse(folder: Path) -> None:
    """Write a sound volume, and convert it from every format, so that all modules are imported."""
    from cleftnet.cli import main as cleftnet

    sound = Volume(np.zeros(_SHAPE, np.uint8), (40.0, 4.0, 4.0))
    write_volume(sound, folder / "sound.hdf", default="volumes/raw")
    for name in ("sound.zarr", "sound.n5", "sound.tif"):
        write_volume(sound, folder / name)
        with contextlib.suppress(SystemExit):
            cleftnet(["convert", name, f"again-{name}"])


def _convert(folder: Path, name: str) -> tuple[int, int, float, str]:
    """Convert a volume; return the exit code, the peak memory in bytes, the seconds and the messages."""
    address = f"precomputed://{name}" if name.endswith(".precomputed") else name
    begin = time.monotonic()
    process = start_command(("convert", address, "out.zarr"), folder, Path(os.devnull), folder / "said")
    _, status, used = os.wait4(process, 0)
    if name == "sound.hdf":
        shutil.rmtree(folder / "out.zarr")
    said = (folder / "said").read_text().strip()
    return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024, time.monotonic() - begin, said


if __name__ == "__main__":
    sys.exit(main())
