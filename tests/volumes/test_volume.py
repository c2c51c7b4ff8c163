from pathlib import Path

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import LABELS, Volume, as_volume, open_volume, write_volume

PART = Box((0, 0, 0), (1, 2, 2))
VALUES = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)


@pytest.fixture(params=["array", "cropped", "a.hdf", "a.zarr", "a.tif"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    """`VALUES` as a volume in memory, as a part of a larger one, or in a file."""
    if request.param == "array":
        return Volume(VALUES)
    if request.param == "cropped":
        return Volume(np.pad(VALUES, 1)).crop(Box((1, 1, 1), (5, 6, 7)))
    write_volume(Volume(VALUES), tmp_path / request.param)
    return open_volume(tmp_path / request.param)


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(2),
        slice(None),
        slice(1, 3),
        slice(-2, None),
        slice(3, 1),
        slice(2, 100),
        (1, 2, 3),
        (slice(1, 3), slice(None), slice(2, -1)),
        (slice(None), -5),
        (slice(0, 2), 3, slice(5, 6, 1)),
        ...,
        (..., 2),
        (0, ..., slice(1, 2)),
        (0, 1, 2, ...),
        (),
    ],
    ids=str,
)
def test_a_volume_is_indexed_as_a_numpy_array_is(volume, index):
    found = volume[index]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, VALUES[index], strict=True)


@pytest.mark.parametrize(
    ("index", "line"),
    [
        (4, "array: index 4 along z is outside -4 to 3"),
        ((0, -6), "array: index -6 along y is outside -5 to 4"),
        (slice(None, None, 2), "array: step 2 along z; read with step 1, then slice the array"),
        ((0, 0, slice(None, None, -1)), "array: step -1 along x; read with step 1, then slice the array"),
        ((0, 0, 0, 0), "index (0, 0, 0, 0) is for more than the three axes z y x"),
        ((..., ...), "is for more than the three axes z y x"),
        (True, "array: a bool is no index along z; expected a Box, or integers, slices and ..."),
        (None, "array: a NoneType is no index along z"),
        ((0, [1, 2]), "array: a list is no index along y"),
        (1.0, "array: a float is no index along z"),
        (VALUES > 3, "array: a ndarray is no index along z"),
        (Box((0, 0, 0), (5, 1, 1)), "region 0:5,0:1,0:1 reaches outside array, which is 0:4,0:5,0:6"),
    ],
)
def test_an_index_that_cannot_be_read_is_an_error_of_one_line(index, line):
    with pytest.raises(InputError) as caught:
        Volume(VALUES)[index]
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numpy_reads_the_whole_volume(volume):
    np.testing.assert_array_equal(np.asarray(volume), VALUES, strict=True)
    assert np.asarray(volume, np.float32).dtype == np.float32
    assert np.mean(volume) == VALUES.mean()


def test_an_array_of_a_volume_in_memory_is_copied_only_on_request():
    assert np.shares_memory(np.asarray(Volume(VALUES)), VALUES)
    assert not np.shares_memory(np.array(Volume(VALUES)), VALUES)


def test_a_volume_has_the_length_size_and_slices_of_an_array(volume):
    assert (len(volume), volume.ndim, volume.size) == (4, 3, 120)
    np.testing.assert_array_equal(list(volume), VALUES)


def test_as_volume_takes_a_volume_an_address_or_an_array(tmp_path):
    volume = Volume(VALUES, (40, 4, 4))
    assert as_volume(volume) is volume
    assert as_volume(volume, voxel_size_nm=(40, 4, 4)) is volume
    in_memory = as_volume(VALUES, voxel_size_nm=(50, 4.6, 4.6))
    assert in_memory.store is VALUES
    assert in_memory.voxel_size_nm == (50, 4.6, 4.6)
    assert as_volume(VALUES).voxel_size is None
    write_volume(Volume(VALUES), tmp_path / "a.hdf", default=LABELS[0])
    for address in (tmp_path / "a.hdf", str(tmp_path / "a.hdf")):
        opened = as_volume(address, voxel_size_nm=(40, 4, 4), default=LABELS)
        np.testing.assert_array_equal(opened, VALUES)
        assert opened.voxel_size_nm == (40, 4, 4)


@pytest.mark.parametrize(
    ("source", "voxel_size_nm", "line"),
    [
        (Volume(VALUES, (40, 4, 4)), (50, 4, 4), r"contradicts voxel_size_nm=\(50, 4, 4\)"),
        (VALUES, (40, 4), r"voxel_size_nm=\(40, 4\) must be three positive lengths"),
        (VALUES, 40, "voxel_size_nm=40 must be three positive lengths"),
        (VALUES[0], None, r"array has shape \(5, 6\); expected three axes z y x"),
        (VALUES.astype(str), None, "the array holds <U5, not numbers"),
        ([[[1]]], None, "a list is no volume; expected a Volume, an address such as 'A.hdf', or a NumPy array z y x"),
        (None, None, "a NoneType is no volume"),
    ],
)
def test_as_volume_refuses_anything_else_in_one_line(source, voxel_size_nm, line):
    with pytest.raises(InputError, match=line) as caught:
        as_volume(source, voxel_size_nm=voxel_size_nm)
    assert "\n" not in str(caught.value)


def test_volumes_in_memory_and_their_parts_are_identified_by_their_values():
    zeros, ones, again = (Volume(np.full((2, 2, 2), value, np.uint8)) for value in (0, 1, 0))
    assert zeros.identity() == again.identity() != ones.identity()
    assert zeros.crop(PART).identity() == again.crop(PART).identity() != ones.crop(PART).identity()
    assert zeros.crop(PART).identity() != zeros.identity()


def test_a_file_is_identified_by_its_absolute_address_and_a_url_by_itself(tmp_path, monkeypatch):
    class Elsewhere:
        shape, dtype = (1, 1, 1), np.dtype(np.uint8)

    monkeypatch.chdir(tmp_path)
    assert Volume(Elsewhere(), address="a.hdf/raw").identity() == str(tmp_path / "a.hdf/raw")
    assert Volume(Elsewhere(), address="s3://lab/fly.zarr").identity() == "s3://lab/fly.zarr"
