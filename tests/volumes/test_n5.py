"""N5: blocks and attributes x y z on disk, made and read by hand."""

import gzip
import json
import struct

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import LABELS, Volume, list_arrays, open_volume, write_volume

Z, Y, X = np.ogrid[:3, :4, :5]
SPELLED = (100 * Z + 10 * Y + X).astype(np.uint16)


def put(path, **attributes):
    path.mkdir(parents=True, exist_ok=True)
    (path / "attributes.json").write_text(json.dumps(attributes))


def n5_array(path, **attributes):
    """One uncompressed block as the specification has it: a big-endian header, then the values, x fastest."""
    layout = {"dimensions": [5, 4, 3], "blockSize": [5, 4, 3], "dataType": "uint16", "compression": {"type": "raw"}}
    put(path, **layout, **attributes)
    (path / "0" / "0").mkdir(parents=True)
    header = struct.pack(">HHIII", 0, 3, 5, 4, 3)
    (path / "0" / "0" / "0").write_bytes(header + SPELLED.astype(">u2").tobytes())


def test_an_array_of_another_program_is_read_z_y_x(tmp_path):
    n5_array(tmp_path / "vol.n5" / "raw")
    volume = open_volume(tmp_path / "vol.n5/raw")
    assert volume.shape == (3, 4, 5)
    assert volume[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]


def test_written_files_follow_the_specification(tmp_path):
    write_volume(Volume(SPELLED, (40, 4, 4.6), (80, 8, 0)), tmp_path / "vol.n5/raw")
    root, own = (json.loads((tmp_path / p / "attributes.json").read_text()) for p in ("vol.n5", "vol.n5/raw"))
    assert root == {"n5": "2.0.0"}
    assert (own["dimensions"], own["axes"]) == ([5, 4, 3], ["x", "y", "z"])
    assert own["resolution"] == own["pixelResolution"]["dimensions"] == [4.6, 4, 40]
    assert (own["offset"], own["pixelResolution"]["unit"]) == ([0, 8, 80], "nm")
    block = (tmp_path / "vol.n5/raw/0/0/0").read_bytes()
    assert struct.unpack(">HHIII", block[:16]) == (0, 3, 5, 4, 3)
    assert np.frombuffer(gzip.decompress(block[16:]), ">u2").tolist() == SPELLED.ravel().tolist()


def test_a_group_of_resolutions_means_its_highest(tmp_path):
    n5_array(tmp_path / "vol.n5/raw/s0")
    n5_array(tmp_path / "vol.n5/raw/s1")
    assert open_volume(tmp_path / "vol.n5/raw").address.endswith("vol.n5/raw/s0")
    assert list_arrays(tmp_path / "vol.n5") == [f"{tmp_path}/vol.n5/raw/s0", f"{tmp_path}/vol.n5/raw/s1"]
    assert list_arrays(tmp_path / "vol.n5/raw/s1") == [f"{tmp_path}/vol.n5/raw/s1"]


@pytest.mark.parametrize(
    ("group", "own", "size", "offset"),
    [
        ({}, {"resolution": [4, 5, 40]}, (40, 5, 4), (0, 0, 0)),
        ({}, {"resolution": [0.004, 0.005, 0.04], "units": ["um"] * 3}, (40, 5, 4), (0, 0, 0)),
        ({}, {"pixelResolution": {"dimensions": [4, 5, 40], "unit": "nm"}}, (40, 5, 4), (0, 0, 0)),
        ({}, {"resolution": [4, 5, 40], "offset": [8, 0, 80]}, (40, 5, 4), (80, 0, 8)),
        ({"resolution": [4, 5, 40]}, {"downsamplingFactors": [2, 2, 1]}, (40, 10, 8), (0, 2.5, 2)),
        ({"resolution": [4, 5, 40], "scales": [[1, 1, 1], [2, 2, 1]]}, {}, (40, 10, 8), (0, 2.5, 2)),
        (
            {
                "pixelResolution": {"dimensions": [4, 5, 40], "unit": "nm"},
                "downsamplingFactors": [[1, 1, 1], [2, 1, 1]],
            },
            {},
            (40, 5, 8),
            (0, 0, 2),
        ),
        # OpenOrganelle: every level has its own pixelResolution, and the group's scales must not count once more
        (
            {"scales": [[1, 1, 1], [2, 2, 2]]},
            {"pixelResolution": {"dimensions": [8, 8, 8], "unit": "nm"}},
            (8, 8, 8),
            (0, 0, 0),
        ),
        (
            {},
            {"transform": {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "translate": [1, 2, 3], "units": ["nm"] * 3}},
            (40, 5, 4),
            (1, 2, 3),
        ),
        ({}, {}, None, (0, 0, 0)),
    ],
)
def test_voxel_size_and_offset_come_from_the_attributes_of_array_and_groups(tmp_path, group, own, size, offset):
    n5_array(tmp_path / "vol.n5/raw/s1", **own)
    put(tmp_path / "vol.n5/raw", **group)
    volume = open_volume(tmp_path / "vol.n5/raw/s1")
    assert volume.voxel_size == (size and pytest.approx(size))
    assert volume.offset_nm == pytest.approx(offset)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("vol.n5", r"has no volumes/labels/clefts; it has raw; name one, as in .*vol\.n5/raw"),
        ("vol.n5/rwa", r"no array 'rwa'; it has raw; did you mean 'raw'\?"),
        ("vul.n5/raw", r"vul\.n5 does not exist; its folder holds"),
        ("empty.n5/raw", r"has no array 'raw', nor does it list any"),
        ("odd.n5/raw", r"'downsamplingFactors' is \[2\]; expected three factors x y z"),
        ("transform.n5/raw", r"attribute 'transform' cannot be understood"),
    ],
)
def test_an_array_that_cannot_be_opened_is_an_error_of_one_line(tmp_path, address, line):
    n5_array(tmp_path / "vol.n5/raw")
    put(tmp_path / "empty.n5", n5="2.0.0")
    n5_array(tmp_path / "odd.n5/raw", resolution=[4, 4, 40], downsamplingFactors=[2])
    n5_array(tmp_path / "transform.n5/raw", transform={"scale": [1, 1, 1]})
    with pytest.raises(InputError, match=line) as caught:
        open_volume(tmp_path / address, default=LABELS)
    assert "\n" not in str(caught.value)


def test_types_that_n5_does_not_have_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"N5 holds no float16, only uint8, .*; choose \.zarr or \.hdf"):
        write_volume(Volume(SPELLED.astype(np.float16)), tmp_path / "vol.n5/raw")
    assert list(tmp_path.iterdir()) == []
