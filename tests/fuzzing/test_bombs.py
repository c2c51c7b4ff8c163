"""Decompression bombs end in one line, in the memory of a sound volume."""

import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.volumes import open_volume
from tools.fuzzing.bombs import zeros

ROOT = Path(__file__).parents[2]


def test_a_stream_of_zeros_unpacks_to_its_size():
    assert zlib.decompress(zeros(2**25)) == bytes(2**25)
    assert zlib.decompress(zeros(2**25, gzipped=True), wbits=31) == bytes(2**25)
    assert len(zeros(2**25)) < 2**25 / 500


def test_every_bomb_ends_in_one_line_and_little_memory():
    command = [sys.executable, "-m", "tools.fuzzing.bombs", "--mib", "1024"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " bombs, 0 problems" in done.stdout


@pytest.mark.parametrize("surplus", [-1, 0, 1])
def test_a_chunk_is_refused_when_it_unpacks_to_more_than_its_voxels(tmp_path, monkeypatch, surplus):
    """A sound chunk passes when it is looked into, and so does a short one, which HDF5 itself reports."""
    monkeypatch.setattr("cleftnet.volumes.chunk_limits._SURPLUS_BYTES", -(2**30))
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", (4, 8, 8), np.uint8, chunks=(2, 8, 8), compression="gzip")
        raw[:] = 7
        raw.id.write_direct_chunk((2, 0, 0), zlib.compress(b"\x05" * (2 * 8 * 8 + surplus)))
    volume = open_volume(tmp_path / "a.hdf")
    assert (volume[:2] == 7).all()
    if surplus > 0:
        with pytest.raises(InputError, match="has a chunk at 2,0,0 that unpacks to more than its voxels"):
            volume[1:4]
    elif surplus == 0:
        assert (volume[2:] == 5).all()


def test_a_chunk_that_is_not_compressed_although_its_dataset_is_reads_well(tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.volumes.chunk_limits._SURPLUS_BYTES", -(2**30))
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", (2, 8, 8), np.uint8, chunks=(2, 8, 8), compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), b"\x78\x9c" * 64, filter_mask=1)
    assert open_volume(tmp_path / "a.hdf").read().sum() == 64 * (0x78 + 0x9C)


def test_a_chunk_longer_than_its_voxels_and_one_compressed_twice_are_refused(tmp_path):
    with h5py.File(tmp_path / "long.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", (2, 8, 8), np.uint8, chunks=(2, 8, 8), compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), bytes(2**17))
    with pytest.raises(InputError, match="has a chunk at 0,0,0 that unpacks to more than its voxels"):
        open_volume(tmp_path / "long.hdf").read()
    with h5py.File(tmp_path / "twice.hdf", "w") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((2, 8, 8))
        how.set_deflate(1)
        how.set_deflate(1)
        space = h5py.h5s.create_simple((2, 8, 8))
        h5py.h5d.create(file.create_group("volumes").id, b"raw", h5py.h5t.NATIVE_UINT8, space, how)
    with pytest.raises(InputError, match="is compressed 2 times over"):
        open_volume(tmp_path / "twice.hdf").read()
