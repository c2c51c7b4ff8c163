"""tensorstore in worker processes: forked before its first use, forked after it, spawned; all of them read and write."""

import multiprocessing
import os

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import LayoutSettings, Volume, open_volume, open_writable, write_volume
from cleftnet.volumes.forks import run

VALUES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
BOX = Box((2, 0, 4), (4, 8, 8))


@pytest.fixture(params=["vol.zarr", "vol.n5", "precomputed://vol"])
def address(tmp_path, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(VALUES, (40, 4, 4)), request.param, layout=LayoutSettings(chunk=(2, 4, 4)))
    return request.param


def in_process(start, function, *args):
    with multiprocessing.get_context(start).Pool(1) as pool:
        return pool.apply_async(function, args).get(60)


def read(volume):
    return volume[BOX], os.getpid()


def open_and_read(address):
    return read(open_volume(address))


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_a_worker_reads_what_its_parent_opened_and_read(address, start):
    volume = open_volume(address)
    volume.read()
    for function, argument in ((read, volume), (open_and_read, address)):
        values, process = in_process(start, function, argument)
        assert process != os.getpid()
        np.testing.assert_array_equal(values, VALUES[BOX.slices])


def read_twice_in_a_fork(volume):
    values, _ = in_process("fork", read, volume)
    np.testing.assert_array_equal(values, VALUES[BOX.slices])
    read(volume)
    again, _ = in_process("fork", read, volume)  # a fork of a process that has its helper
    return values, again


def test_forks_of_a_process_that_never_used_tensorstore_and_of_one_that_did(address):
    process = multiprocessing.get_context("spawn").Process(target=read_twice_in_a_fork, args=(open_volume(address),))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def write_in_a_worker(address):
    open_writable(address)[BOX] = 7


def test_a_forked_worker_writes_too(address):
    open_volume(address).read()
    in_process("fork", write_in_a_worker, address)
    expected = VALUES.copy()
    expected[BOX.slices] = 7
    np.testing.assert_array_equal(open_volume(address).read(), expected)


def read_outside_its_metadata(address):
    open_volume(address).store[0:1, 0:1, 0:9]


def test_errors_of_a_forked_worker_keep_their_type(address):
    open_volume(address).read()
    with pytest.raises((InputError, IndexError)):
        in_process("fork", read_outside_its_metadata, address)


def test_run_is_an_ordinary_call_where_nothing_was_forked():
    assert run(os.getpid) == os.getpid()
