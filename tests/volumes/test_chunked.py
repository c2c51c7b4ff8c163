"""Arrays written by several processes at once."""

import errno
import itertools
import json
import multiprocessing

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import ArraySpec, LayoutSettings, Volume, create_volumes, open_volume, open_writable, write_volume
from cleftnet.volumes.chunked import unwritable

SHAPE, CHUNK = (6, 20, 24), (2, 8, 8)
ADDRESSES = pytest.mark.parametrize("address", ["out.zarr", "out3.zarr", "out.n5", "precomputed://out"])


def create(address, dtype="uint16"):
    """Make an array of zeros, with which a block-wise writer begins."""
    with create_volumes(address, layout=LayoutSettings(chunk=CHUNK, zarr=3 if "3" in str(address) else None)) as new:
        new.create(ArraySpec("volumes/probability", SHAPE, dtype, voxel_size_nm=(40, 4, 4), threshold=0.5))


def blocks():
    corners = itertools.product(*(range(0, n, c) for n, c in zip(SHAPE, CHUNK, strict=True)))
    return [Box.at(corner, CHUNK).intersect(Box.of(SHAPE)) for corner in corners]


def fill(address, worker, workers):
    """Write the blocks of one of several workers, each in another order; the value of a voxel is the number of its block."""
    target = open_writable(address, default=["volumes/probability"])
    own = [(n, box) for n, box in enumerate(blocks(), start=1) if n % workers == worker]
    for n, box in reversed(own) if worker else own:
        target[box] = n


@ADDRESSES
def test_processes_write_disjoint_chunks_of_one_array_at_the_same_time(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    create(address)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=fill, args=(address, n, 2)) for n in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(60)
    assert [process.exitcode for process in workers] == [0, 0]
    expected = np.zeros(SHAPE, np.uint16)
    for n, box in enumerate(blocks(), start=1):
        expected[box.slices] = n
    np.testing.assert_array_equal(open_volume(address, default=["volumes/probability"]).read(), expected)


@ADDRESSES
def test_a_writable_volume_knows_its_chunks_and_reads_what_it_wrote(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    create(address)
    target = open_writable(address, default=["volumes/probability"])
    assert (target.chunk_shape, target.volume.shape, target.volume.threshold) == (CHUNK, SHAPE, 0.5)
    box = Box((1, 3, 5), (4, 9, 17))  # cuts chunks: they are read first
    target[box] = np.arange(3 * 6 * 12).reshape(3, 6, 12)
    assert target[box].ravel().tolist() == list(range(3 * 6 * 12))
    assert int(target.volume.read().sum()) == sum(range(3 * 6 * 12))


def test_the_chunk_shape_of_a_sharded_array_is_its_shard(tmp_path):
    """Zarr v3 of others: shards of 4×16×16 hold chunks of 2×8×8, and only one process may write a shard."""
    plain = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {"chunk_shape": CHUNK, "codecs": [plain], "index_codecs": [plain, {"name": "crc32c"}]}
    codec = {"name": "sharding_indexed", "configuration": sharding}
    grid = {"name": "regular", "configuration": {"chunk_shape": [4, 16, 16]}}
    metadata = {"zarr_format": 3, "node_type": "array", "shape": SHAPE, "data_type": "uint8", "fill_value": 0}
    metadata |= {"chunk_grid": grid, "codecs": [codec], "chunk_key_encoding": {"name": "default"}}
    (tmp_path / "vol.zarr").mkdir()
    (tmp_path / "vol.zarr/zarr.json").write_text(json.dumps(metadata))
    target = open_writable(tmp_path / "vol.zarr")
    assert target.chunk_shape == (4, 16, 16)
    target[Box((0, 0, 0), (4, 16, 16))] = 3
    assert int(open_volume(tmp_path / "vol.zarr").read().sum()) == 3 * 4 * 16 * 16


def test_values_and_boxes_that_do_not_fit_are_refused(tmp_path):
    create(tmp_path / "out.zarr", "uint8")
    target = open_writable(tmp_path / "out.zarr/volumes/probability")
    with pytest.raises(InputError, match=r"holds uint8 and cannot take float64; scale and round it first"):
        target[Box((0, 0, 0), (1, 1, 1))] = 0.5
    with pytest.raises(InputError, match=r"region 0:7,0:1,0:1 reaches outside .*0:6,0:20,0:24"):
        target[Box((0, 0, 0), (7, 1, 1))] = 1
    with pytest.raises(InputError, match=r"no array 'volumes/probably'; .*did you mean 'volumes/probability'\?"):
        open_writable(tmp_path / "out.zarr/volumes/probably")


def test_a_format_of_one_file_cannot_be_shared(tmp_path):
    for name in ("out.hdf", "out.tif"):
        write_volume(Volume(np.zeros((2, 3, 4), np.uint8)), tmp_path / name)
        with pytest.raises(InputError, match=r"can be written by one process only; choose an output ending in \.zarr"):
            open_writable(tmp_path / name)


@pytest.mark.parametrize(
    "message",
    [
        "Error writing 'a/0' [OS error 28: ENOSPC No space left on device] [os_error_code='28']",
        "Error writing a/0.__lock [OS error: No space left on device]",  # TensorStore 0.1.60
    ],
)
def test_a_full_disk_is_known_by_the_words_of_every_tensorstore_allowed(message):
    error = unwritable("a", ValueError(message))
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC


def test_another_failure_to_write_is_wrong_input():
    assert isinstance(unwritable("a", ValueError("Error writing 'a/0' [OS error: Permission denied]")), InputError)
