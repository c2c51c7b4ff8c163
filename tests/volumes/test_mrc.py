"""MRC files written by mrcfile and read as volumes."""

import pickle

import mrcfile
import numpy as np
import pytest

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import convert, list_arrays, open_volume

VALUES = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)  # z y x


@pytest.fixture
def write(tmp_path):
    """Write an MRC file with voxels of 500×46×40 Å whose first one lies at 5000, 460, 80 Å; `change` may alter it."""

    def _write(values=VALUES, change=lambda file: None, name="vol.mrc"):
        with mrcfile.new(tmp_path / name, overwrite=True) as file:
            file.set_data(values)
            if values.ndim == 3:
                file.set_volume()
            file.voxel_size = (40, 46, 500)  # x y z
            file.header.origin.x, file.header.origin.y, file.header.origin.z = 80, 460, 5000
            change(file)
        return tmp_path / name

    return _write


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32", "float16"])
def test_voxels_size_and_position_are_those_of_the_file_in_nm(write, dtype):
    volume = open_volume(write(VALUES.astype(dtype)))
    assert (volume.shape, volume.dtype) == ((3, 4, 5), np.dtype(dtype))
    assert volume.voxel_size == pytest.approx((50, 4.6, 4))
    assert volume.offset_nm == pytest.approx((500, 46, 8))
    np.testing.assert_array_equal(volume.read(), VALUES.astype(dtype))
    np.testing.assert_array_equal(volume[Box((1, 2, 0), (3, 3, 4))], VALUES[1:3, 2:3, 0:4].astype(dtype))


def test_only_the_indexed_voxels_are_read_and_the_volume_can_travel_to_another_process(write):
    volume = pickle.loads(pickle.dumps(open_volume(write())))
    assert volume[2, 3, 4] == VALUES[2, 3, 4]


@pytest.mark.parametrize("ending", ["mrc", "rec", "map", "MRC"])
def test_the_usual_endings_are_known(write, ending):
    path = write(name=f"vol.{ending}")
    assert list_arrays(path) == [str(path)]
    assert open_volume(path).shape == (3, 4, 5)


def test_axes_in_another_order_are_read_as_z_y_x(write):
    """Columns are z, rows are y and sections are x."""

    def turned(file):
        file.header.mapc, file.header.mapr, file.header.maps = 3, 2, 1
        file.header.mx, file.header.mz = 3, 5
        file.header.cella.x, file.header.cella.z = 3 * 40, 5 * 500

    volume = open_volume(write(change=turned))
    assert volume.shape == (5, 4, 3)
    assert volume.voxel_size == pytest.approx((50, 4.6, 4))
    np.testing.assert_array_equal(volume.read(), VALUES.transpose(2, 1, 0))
    np.testing.assert_array_equal(volume[1:3, 2:4, 0:1], VALUES.transpose(2, 1, 0)[1:3, 2:4, 0:1])


@pytest.mark.parametrize(("flags", "dtype"), [(0, "uint8"), (1, "int8")])
def test_bytes_are_unsigned_where_imod_says_so(write, flags, dtype):
    def stamp(file):
        extra = bytearray(file.header.extra2.tobytes())
        extra[40:48] = (1146047817).to_bytes(4, "little") + flags.to_bytes(4, "little")
        file.header["extra2"] = np.void(bytes(extra))

    volume = open_volume(write(np.full((2, 3, 4), -56, np.int8), stamp))
    assert volume.dtype == dtype
    assert volume[0, 0, 0] == (200 if dtype == "uint8" else -56)


def test_a_file_of_the_other_byte_order_is_read(tmp_path, write):
    header, swapped = np.fromfile(write(), "u1")[:1024], tmp_path / "big.mrc"
    from mrcfile.dtypes import HEADER_DTYPE

    turned = np.frombuffer(header.tobytes(), HEADER_DTYPE).astype(HEADER_DTYPE.newbyteorder(">"))
    turned["machst"] = [[0x11, 0x11, 0, 0]]
    swapped.write_bytes(turned.tobytes() + VALUES.astype(">u2").tobytes())
    volume = open_volume(swapped)
    np.testing.assert_array_equal(volume.read(), VALUES)
    assert volume.voxel_size == pytest.approx((50, 4.6, 4))


def test_an_extended_header_is_skipped(write):
    volume = open_volume(write(change=lambda file: file.set_extended_header(np.zeros(96, "u1"))))
    np.testing.assert_array_equal(volume.read(), VALUES)


def test_one_section_is_a_volume_too(write):
    assert open_volume(write(VALUES[0])).shape == (1, 4, 5)


def test_without_lengths_in_the_header_there_is_no_voxel_size(write):
    path = write(change=lambda file: setattr(file, "voxel_size", 0))
    assert open_volume(path).voxel_size is None
    assert open_volume(path, voxel_size_nm=(50, 4, 4)).voxel_size == (50, 4, 4)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), r"cut short: it ends before its last section"),
        (lambda path: path.write_bytes(b"no MRC at all" * 100), r"cannot be read as MRC"),
        (lambda path: path.write_bytes(b"short"), r"cannot be read as MRC"),
        (lambda path: path.unlink(), r"does not exist"),
    ],
)
def test_damaged_and_missing_files_are_one_line(write, make, line):
    path = write()
    make(path)
    with pytest.raises(InputError, match=line) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)


def test_complex_numbers_and_several_volumes_are_refused(write, tmp_path):
    with pytest.raises(InputError, match="holds complex64 values; expected gray values"):
        open_volume(write(np.zeros((2, 3, 4), np.complex64)))
    with mrcfile.new(tmp_path / "many.mrc") as file:
        file.set_data(np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(InputError, match="holds 2 volumes; expected one"):
        open_volume(tmp_path / "many.mrc")


def test_without_mrcfile_the_message_says_what_to_install(write, monkeypatch):
    path = write()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'cleftnet\[mrc\]'"):
        open_volume(path)


def test_a_round_trip_by_way_of_other_formats_keeps_voxels_size_and_position(write, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["convert", str(write()), str(tmp_path / "vol.zarr")])
    back = open_volume(tmp_path / "vol.zarr")
    np.testing.assert_array_equal(back.read(), VALUES)
    assert back.voxel_size == pytest.approx((50, 4.6, 4))
    assert back.offset_nm == pytest.approx((500, 46, 8))


def test_mrc_is_not_written(tmp_path, write):
    with pytest.raises(InputError, match=r"read and not written; choose an output ending in \.hdf"):
        convert(write(), tmp_path / "out.mrc")
    assert not (tmp_path / "out.mrc").exists()
