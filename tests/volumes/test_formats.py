"""The contract that every format keeps: each test runs over all rows of the table of formats."""

import math
import multiprocessing
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import (
    ArraySpec,
    LayoutSettings,
    Volume,
    create_volumes,
    list_arrays,
    open_volume,
    write_cremi,
    write_volume,
)

ADDRESSES = (
    "out.hdf/volumes/raw",
    "out.h5/main",
    "out.tif",
    "out/*.tif",
    "out.zarr",
    "out.zarr/raw",
    "out3.zarr",
    "out.n5/volumes/raw",
    "precomputed://out",
)
LAYOUTS = {"out3.zarr": LayoutSettings(zarr=3)}
DTYPES = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
REFUSED = {"out.n5/volumes/raw": {"float16"}, "precomputed://out": {"float16", "int64", "float64"}}
SIZES_NM = st.sampled_from([4.0, 4.6, 10.0, 0.5, 1000 / 3, 40.0, 50.0])

every_format = pytest.mark.parametrize("address", ADDRESSES)
drawn = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def at(folder, address):
    scheme, _, rest = address.rpartition("://")
    return f"{scheme}://{folder}/{rest}" if scheme else folder / address


def write(volume, folder, address, **kwargs):
    """Write to one of `ADDRESSES` below a folder; precomputed, which cannot do without, gets a voxel size."""
    if volume.voxel_size is None and address.startswith("precomputed"):
        volume = replace(volume, voxel_size=(40.0, 4.0, 4.0))
    write_volume(volume, at(folder, address), layout=LAYOUTS.get(address), **kwargs)


def has_bool(address):
    return "hdf" in address or "h5" in address or "zarr" in address


def asymmetric(shape=(3, 4, 5)):
    """A voxel's value spells its place: 100 z + 10 y + x."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (100 * z + 10 * y + x).astype(np.uint16)


@st.composite
def boxes(draw, shape):
    bounds = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in shape]
    return Box(tuple(a for a, _ in bounds), tuple(max(b, a + 1) for a, b in bounds))


@every_format
def test_axes_are_z_y_x(tmp_path, address):
    write(Volume(asymmetric()), tmp_path, address)
    volume = open_volume(at(tmp_path, address))
    assert volume.shape == (3, 4, 5)
    assert volume[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]
    assert volume[Box((1, 0, 2), (3, 2, 3))].ravel().tolist() == [102, 112, 202, 212]


@every_format
@drawn
@given(data=st.data())
def test_any_box_of_any_type_reads_back_as_written(tmp_path_factory, address, data):
    shape = data.draw(st.tuples(st.integers(1, 11), st.integers(1, 9), st.integers(1, 9)))
    dtype = np.dtype(data.draw(st.sampled_from([d for d in DTYPES if d not in REFUSED.get(address, ())])))
    seed = data.draw(st.integers(0, 1000))
    bits = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    values = bits.view(dtype)[..., 0] if dtype.kind != "f" else (bits[..., 0] / 7).astype(dtype)
    values = bits[..., 0] > 127 if dtype.kind == "b" else values
    folder = tmp_path_factory.mktemp("volume")
    write(Volume(values), folder, address)
    box = data.draw(boxes(shape))
    volume = open_volume(at(folder, address))
    expected = values.astype(np.uint8) if dtype.kind == "b" and not has_bool(address) else values
    assert volume.dtype == expected.dtype
    np.testing.assert_array_equal(volume[box], expected[box.slices])


@every_format
@drawn
@given(size=st.tuples(SIZES_NM, SIZES_NM, SIZES_NM), start=st.tuples(*[st.integers(-2000, 2000)] * 3))
def test_voxel_size_and_offset_come_back(tmp_path_factory, address, size, start):
    offset = tuple(s * v for s, v in zip(start, size, strict=True))
    folder = tmp_path_factory.mktemp("volume")
    write(Volume(asymmetric(), size, offset), folder, address)
    volume = open_volume(at(folder, address))
    assert volume.voxel_size == pytest.approx(size, rel=1e-9)
    assert volume.offset_nm == pytest.approx(offset, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("address", [a for a in ADDRESSES if "tif" not in a and "mrc" not in a])
def test_threshold_and_provenance_of_a_prediction_come_back(tmp_path, address):
    provenance = {
        "rescaled": True,
        "gray_range": [12.0, 200.5],
        "predicted_at_nm": [50.0, 4.6, 4.6],
        "gray_values": None,
    }
    write(Volume(asymmetric(), (50, 4, 4), threshold=0.3, provenance=provenance), tmp_path, address)
    volume = open_volume(at(tmp_path, address))
    assert (volume.threshold, volume.provenance) == (0.3, provenance)


@every_format
@settings(drawn, max_examples=5)
@given(data=st.data())
def test_boxes_can_be_written_in_any_order(tmp_path_factory, address, data):
    values = asymmetric((5, 6, 7))
    folder = tmp_path_factory.mktemp("volume")
    path = at(folder, address.removesuffix("/volumes/raw").removesuffix("/main").removesuffix("/raw"))
    order = data.draw(st.permutations([Box.at((z, 3 * y, 3 * x), (3, 3, 4)) for z, y, x in np.ndindex(3, 2, 2)]))
    with create_volumes(path, layout=LAYOUTS.get(address)) as new:
        target = new.create(ArraySpec("volumes/raw", (5, 6, 7), np.uint16, voxel_size_nm=(40, 4, 4)))
        for box in order:
            target[box.slices] = values[box.slices]
    np.testing.assert_array_equal(open_volume(path).read(), values)


@pytest.mark.parametrize("address", [a for a in ADDRESSES if not a.startswith("precomputed")])
def test_no_voxel_size_stays_none_and_the_given_one_is_taken(tmp_path, address):
    write(Volume(asymmetric()), tmp_path, address)
    assert open_volume(at(tmp_path, address)).voxel_size is None
    assert open_volume(at(tmp_path, address), voxel_size_nm=(50, 4.6, 4.6)).voxel_size_nm == (50, 4.6, 4.6)


@every_format
def test_a_voxel_size_that_contradicts_the_file_is_refused_and_the_same_one_is_not(tmp_path, address):
    write(Volume(asymmetric(), (50, 4.6, 4.6)), tmp_path, address)
    assert open_volume(at(tmp_path, address), voxel_size_nm=(50, 4.6, 4.6)).voxel_size_nm == pytest.approx(
        (50, 4.6, 4.6)
    )
    with pytest.raises(InputError, match=r"50,4\.6,4\.6 nm, which contradicts voxel_size_nm=\(40, 4, 4\)"):
        open_volume(at(tmp_path, address), voxel_size_nm=(40, 4, 4))


@every_format
def test_a_volume_travels_to_another_process_and_another_folder(tmp_path, address, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(asymmetric(), (40, 4, 4)), address)
    volume = open_volume(address)
    volume.read()  # so that an open handle, were there one in the pickle, would break it
    pickled = pickle.dumps(volume)
    assert len(pickled) < 2000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        copy = pool.apply(pickle.loads, (pickled,))
    np.testing.assert_array_equal(copy.read(), asymmetric())


@every_format
def test_threads_may_read_one_volume_at_once(tmp_path, address):
    values = asymmetric((16, 20, 20))
    write(Volume(values), tmp_path, address)
    volume = open_volume(at(tmp_path, address))
    wanted = [Box((z, y, 0), (z + 1, y + 1, 20)) for z in range(16) for y in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for box, read in zip(wanted, pool.map(volume.__getitem__, wanted), strict=True):
            np.testing.assert_array_equal(read, values[box.slices])


@every_format
def test_an_output_that_exists_is_refused_and_stays_as_it_is(tmp_path, address):
    write(Volume(asymmetric()), tmp_path, address)
    with pytest.raises(InputError, match="add overwrite=True or choose another name"):
        write(Volume(asymmetric() + 1), tmp_path, address)
    np.testing.assert_array_equal(open_volume(at(tmp_path, address)).read(), asymmetric())


@every_format
def test_overwrite_replaces_all_of_it(tmp_path, address):
    write(Volume(asymmetric((6, 4, 5))), tmp_path, address)
    before = open_volume(at(tmp_path, address))
    before.read()
    write(Volume(asymmetric() + 1), tmp_path, address, overwrite=True)
    np.testing.assert_array_equal(open_volume(at(tmp_path, address)).read(), asymmetric() + 1)


class _Interrupting:
    """A store that is interrupted when its second slab is read."""

    shape = (64, 1024, 1024)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, index):
        if index[0].start > 0:
            raise KeyboardInterrupt
        return np.zeros([s.stop - s.start for s in index], np.uint8)


@every_format
@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_write_leaves_what_was_there_and_nothing_else(tmp_path, address, exists):
    if exists:
        write(Volume(asymmetric()), tmp_path, address)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        write(Volume(_Interrupting()), tmp_path, address, overwrite=exists)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    if exists:
        np.testing.assert_array_equal(open_volume(at(tmp_path, address)).read(), asymmetric())


@every_format
def test_listed_addresses_open(tmp_path, address):
    write(Volume(asymmetric()), tmp_path, address)
    (listed,) = list_arrays(at(tmp_path, address))
    assert open_volume(listed).shape == (3, 4, 5)


@every_format
def test_progress_counts_every_voxel_once(tmp_path, address):
    calls = []
    write(Volume(asymmetric()), tmp_path, address, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(60, 60)]


@pytest.mark.parametrize("name", ["out.hdf", "out.zarr", "out.n5"])
def test_a_killed_write_leaves_nothing_under_the_final_name(tmp_path, name):
    """SIGKILL runs no clean-up: the half file may stay, but hidden and never under the name that was asked for."""
    script = (
        "import os, signal, sys\n"
        "from cleftnet.volumes import ArraySpec, create_volumes\n"
        "with create_volumes(sys.argv[1]) as new:\n"
        "    new.create(ArraySpec('volumes/raw', (4, 5, 6), 'uint8'))[0:1, 0:5, 0:6] = 1\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / name], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / name).exists()
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())


@every_format
def test_a_full_disk_is_one_line_and_leaves_nothing_and_crashes_nothing(tmp_path, address):
    """A limit on any file stands for the disk (chunks have 49 KB); the exit code tells that HDF5 closed without a crash."""
    limit = 1_000_000 if "hdf" in address or "h5" in address or "tif" in address else 10_000
    script = (
        "import resource, sys, numpy as np\n"
        "from cleftnet.volumes import ArraySpec, Volume, write_volume\n"
        "volume = Volume(np.random.default_rng(0).integers(0, 256, (3, 1024, 1024), np.uint8), (40, 4, 4))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "try:\n"
        "    write_volume(volume, sys.argv[1])\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(at(tmp_path, address)), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(" (File too large); free some space or choose another disk, and try again\n")
    assert list(tmp_path.iterdir()) == []


def test_a_cremi_file_is_a_format_like_the_others(tmp_path):
    values = asymmetric().astype(np.uint64)
    write_cremi(tmp_path / "A.hdf", clefts=Volume(values, (40, 4, 4), (80, 8, 12)))
    volume = open_volume(tmp_path / "A.hdf/volumes/labels/clefts")
    assert (volume.voxel_size, volume.offset_nm) == ((40, 4, 4), (80, 8, 12))
    assert volume[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]
    assert math.prod(volume.shape) == 60
    assert pickle.loads(pickle.dumps(volume)).read().tolist() == values.tolist()
