"""HDF5 files: damaged ones, attributes, and how new datasets are stored."""

import errno
import multiprocessing

import h5py
import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import ArraySpec, Volume, list_arrays, open_volume, write_cremi, write_volume
from cleftnet.volumes.hdf5 import new_hdf5, open_hdf5


def read_plane(volume, z):
    return volume[Box((z, 0, 0), (z + 1, *volume.shape[1:]))].sum()


@pytest.fixture
def noise(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (32, 128, 128), np.uint8)
    write_volume(Volume(values), tmp_path / "noise.hdf")
    return tmp_path / "noise.hdf", values


def test_only_the_chunks_of_a_box_are_read(noise):
    """Destroy the bytes of one chunk (slices 8-15): boxes elsewhere read well, a box there says what is damaged."""
    path, values = noise
    with h5py.File(path) as file:
        chunk = file["volumes/raw"].id.get_chunk_info(1)
        assert chunk.chunk_offset == (8, 0, 0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume[Box((0, 0, 0), (8, 128, 128))], values[:8])
    np.testing.assert_array_equal(volume[Box((16, 5, 5), (32, 9, 9))], values[16:, 5:9, 5:9])
    with pytest.raises(InputError, match=r"noise\.hdf/volumes/raw cannot be read at 7:9,0:1,0:1 .* damaged"):
        volume[Box((7, 0, 0), (9, 1, 1))]


def test_forked_workers_read_what_the_parent_opened(noise):
    path, values = noise
    volume = open_volume(path)
    read_plane(volume, 0)  # the parent's handle is open when it forks
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.starmap(read_plane, [(volume, z) for z in range(32)], chunksize=1)
    assert sums == values.sum(axis=(1, 2)).tolist()


def test_a_file_that_is_not_hdf5_is_refused(tmp_path):
    (tmp_path / "A.hdf").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"A\.hdf cannot be opened as HDF5: it is no HDF5 file"):
        open_volume(tmp_path / "A.hdf")


def test_a_truncated_file_is_refused(noise):
    path, _ = noise
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"truncated file.*copied or downloaded whole"):
        open_volume(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", [40, 4]),
        ("resolution", 4.0),
        ("resolution", "40 4 4"),
        ("resolution", [40, 4, np.nan]),
        ("resolution", [40, 0, 4]),
        ("offset", [1.0, 2.0]),
        ("threshold", "high"),
    ],
)
def test_an_attribute_that_makes_no_sense_is_named(tmp_path, name, value):
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file["volumes/raw"] = np.zeros((1, 2, 3), np.uint8)
        file["volumes/raw"].attrs[name] = value
    with pytest.raises(InputError, match=f"attribute '{name}' is .*; expected"):
        open_volume(tmp_path / "A.hdf")


def test_a_dataset_of_text_is_refused(tmp_path):
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file["volumes/raw"] = np.full((1, 2, 3), b"text")
    with pytest.raises(InputError, match="not numbers"):
        open_volume(tmp_path / "A.hdf")


def test_big_endian_files_read_in_the_byte_order_of_the_machine(tmp_path):
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file["volumes/raw"] = np.array([[[1, 256]]], ">u2")
    volume = open_volume(tmp_path / "A.hdf")
    assert volume.dtype == volume.read().dtype == np.dtype(np.uint16)
    assert volume.read().tolist() == [[[1, 256]]]


def test_a_new_dataset_is_chunked_compressed_and_carries_its_geometry(tmp_path):
    with new_hdf5(tmp_path / "out.hdf") as file:
        file.create(ArraySpec("volumes/raw", (20, 300, 90), np.uint8, voxel_size_nm=(40, 4, 4), offset_nm=(0, 8, 0)))
    with h5py.File(tmp_path / "out.hdf") as file:
        dataset = file["volumes/raw"]
        assert (dataset.chunks, dataset.compression) == ((8, 128, 90), "gzip")
        assert dataset.attrs["resolution"].tolist() == [40, 4, 4]
        assert dataset.attrs["offset"].tolist() == [0, 8, 0]


def write_after_the_disk_failed(path):
    with new_hdf5(path) as file:
        written = file.create(ArraySpec("volumes/raw", (2, 3, 4), np.uint8))
        file.disk.failure = OSError(errno.ENOSPC, "No space left on device")
        written[0:1, 0:3, 0:4] = 1
        pytest.fail("the write went on, and hours later all of it would have been for nothing")


def test_a_write_fails_as_soon_as_the_disk_does(tmp_path):
    with pytest.raises(InputError, match="No space left on device"):
        write_after_the_disk_failed(tmp_path / "out.hdf")
    assert list(tmp_path.iterdir()) == []


def test_an_offset_of_zero_leaves_the_attribute_out(tmp_path):
    with new_hdf5(tmp_path / "out.hdf") as file:
        file.create(ArraySpec("volumes/raw", (1, 2, 3), np.uint8, voxel_size_nm=(40, 4, 4)))
    with h5py.File(tmp_path / "out.hdf") as file:
        assert list(file["volumes/raw"].attrs) == ["resolution"]
    assert open_hdf5(tmp_path / "out.hdf", "volumes/raw").offset_nm == (0, 0, 0)


def test_a_file_opened_before_it_was_replaced_keeps_its_voxels(tmp_path):
    write_volume(Volume(np.zeros((1, 2, 3), np.uint8)), tmp_path / "out.hdf")
    before = open_volume(tmp_path / "out.hdf")
    write_volume(Volume(np.ones((1, 2, 3), np.uint8)), tmp_path / "out.hdf", overwrite=True)
    assert (before.read().sum(), open_volume(tmp_path / "out.hdf").read().sum()) == (0, 6)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.hdf"
    clefts = Volume(np.ones((4, 8, 8), np.uint64), (40, 4, 4))
    write_cremi(path, raw=Volume(np.full((4, 8, 8), 7, np.uint8), (40, 4, 4)), clefts=clefts)
    return path.read_bytes()


@pytest.mark.parametrize("signature", [b"TREE", b"HEAP", b"SNOD"])
def test_a_damaged_symbol_table_is_reported_in_one_line(sound, tmp_path, signature):
    path = tmp_path / "a.hdf"
    path.write_bytes(sound.replace(signature, b"XXXX"))
    for read in (open_volume, list_arrays):
        with pytest.raises(InputError, match=r"a.hdf is damaged \(.*\); check that it was copied or downloaded whole"):
            read(path)


def test_voxels_that_are_another_file_are_refused(tmp_path):
    """HDF5 allows a dataset to be the bytes of any file that its reader may read."""
    (tmp_path / "secret.txt").write_bytes(bytes(range(24)))
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file.create_dataset("volumes/raw", (2, 3, 4), np.uint8, external=[(str(tmp_path / "secret.txt"), 0, 24)])
    with pytest.raises(InputError, match=r"keeps its voxels in another file \('.*secret\.txt'\)"):
        open_volume(tmp_path / "a.hdf")
