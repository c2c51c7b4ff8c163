"""Zarr v2 and v3, as other programs write it and as we do: files made and read by hand, byte by byte."""

import json

import imagecodecs
import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import (
    LABELS,
    PREDICTION,
    ArraySpec,
    LayoutSettings,
    Volume,
    create_volumes,
    list_arrays,
    open_volume,
    write_volume,
)

Z, Y, X = np.ogrid[:3, :4, :5]
SPELLED = (100 * Z + 10 * Y + X).astype("<u2")  # a voxel's value spells its place


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def array_v2(folder, values, **attributes):
    """One uncompressed chunk, C order, as the specification of Zarr v2 has it."""
    metadata = {
        "zarr_format": 2,
        "shape": values.shape,
        "chunks": values.shape,
        "dtype": values.dtype.str,
        "order": "C",
    }
    put(
        folder / ".zarray",
        {**metadata, "compressor": None, "fill_value": 0, "filters": None, "dimension_separator": "."},
    )
    put(folder / ".zattrs", attributes)
    (folder / ".".join("0" * values.ndim)).write_bytes(values.tobytes())


def array_v3(folder, values, **metadata):
    grid = {"name": "regular", "configuration": {"chunk_shape": values.shape}}
    put(
        folder / "zarr.json",
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": values.shape,
            "data_type": values.dtype.name,
            "chunk_grid": grid,
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "fill_value": 0,
            **metadata,
        },
    )
    chunk = folder.joinpath("c", *"0" * values.ndim)
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(values.tobytes())


ARRAYS = pytest.mark.parametrize("array", [array_v2, array_v3])


@ARRAYS
def test_an_array_of_another_program_is_read_z_y_x(tmp_path, array):
    array(tmp_path / "vol.zarr" / "raw", SPELLED)
    volume = open_volume(tmp_path / "vol.zarr/raw")
    assert volume[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]
    assert (volume.shape, volume.dtype, volume.voxel_size) == ((3, 4, 5), np.uint16, None)


@ARRAYS
def test_an_array_may_be_the_whole_zarr(tmp_path, array):
    array(tmp_path / "vol.zarr", SPELLED)
    assert open_volume(tmp_path / "vol.zarr", default=LABELS).read().tolist() == SPELLED.tolist()
    assert list_arrays(tmp_path / "vol.zarr") == [str(tmp_path / "vol.zarr")]


@ARRAYS
def test_axes_of_length_one_before_z_y_x_are_left_out(tmp_path, array):
    array(tmp_path / "vol.zarr", SPELLED[None, None])
    assert open_volume(tmp_path / "vol.zarr")[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]


@ARRAYS
def test_several_channels_are_refused(tmp_path, array):
    array(tmp_path / "vol.zarr", np.stack([SPELLED, SPELLED]))
    with pytest.raises(InputError, match=r"has shape \(2, 3, 4, 5\), 2 volumes; expected one"):
        open_volume(tmp_path / "vol.zarr")


def test_big_endian_values_arrive_in_this_machines_order(tmp_path):
    array_v2(tmp_path / "vol.zarr", SPELLED.astype(">u2"))
    volume = open_volume(tmp_path / "vol.zarr")
    assert (volume.dtype, volume.read().tolist()) == (np.dtype(np.uint16), SPELLED.tolist())


@pytest.mark.parametrize("name", ["resolution", "voxel_size"])
def test_attributes_carry_the_geometry_in_nm_or_their_units(tmp_path, name):
    array_v2(tmp_path / "a.zarr", SPELLED, **{name: [40, 4, 4], "offset": [80, 8, 12]})
    array_v2(tmp_path / "b.zarr", SPELLED, **{name: [0.04, 0.004, 0.004], "units": ["um"] * 3})
    assert open_volume(tmp_path / "a.zarr").voxel_size == (40, 4, 4)
    assert open_volume(tmp_path / "a.zarr").offset_nm == (80, 8, 12)
    assert open_volume(tmp_path / "b.zarr").voxel_size == pytest.approx((40, 4, 4))


@pytest.mark.parametrize("zarr", [2, 3])
def test_written_files_follow_the_specification(tmp_path, zarr):
    """One blosc chunk of the voxels in C order, at the place the metadata names."""
    write_volume(Volume(SPELLED, (40, 4, 4.6), (80, 0, 0)), tmp_path / "vol.zarr/raw", layout=LayoutSettings(zarr=zarr))
    raw = tmp_path / "vol.zarr" / "raw"
    if zarr == 2:
        metadata, attributes = (json.loads((raw / name).read_text()) for name in (".zarray", ".zattrs"))
        assert (metadata["zarr_format"], metadata["shape"], metadata["order"]) == (2, [3, 4, 5], "C")
        chunk = raw / "0" / "0" / "0"
    else:
        metadata = json.loads((raw / "zarr.json").read_text())
        assert (metadata["zarr_format"], metadata["shape"], metadata["dimension_names"]) == (
            3,
            [3, 4, 5],
            ["z", "y", "x"],
        )
        attributes, chunk = metadata["attributes"], raw / "c" / "0" / "0" / "0"
    assert np.frombuffer(imagecodecs.blosc_decode(chunk.read_bytes()), "<u2").tolist() == SPELLED.ravel().tolist()
    assert attributes["resolution"] == attributes["voxel_size"] == [40, 4, 4.6]
    assert attributes["offset"] == [80, 0, 0]


@pytest.mark.parametrize("zarr", [2, 3])
def test_a_prediction_holds_two_arrays_and_its_threshold(tmp_path, zarr):
    with create_volumes(tmp_path / "out.zarr", layout=LayoutSettings(zarr=zarr)) as new:
        for name, value, threshold in (("volumes/probability", 7, 0.75), ("volumes/distance", 9, None)):
            made = new.create(ArraySpec(name, (4, 5, 6), np.uint8, voxel_size_nm=(40, 4, 4), threshold=threshold))
            made[0:4, 0:5, 0:6] = value
    prediction = open_volume(tmp_path / "out.zarr", default=PREDICTION)
    assert (prediction.threshold, int(prediction.read().max())) == (0.75, 7)
    assert int(open_volume(tmp_path / "out.zarr/volumes/distance").read().max()) == 9
    assert [a.rsplit("/", 1)[1] for a in list_arrays(tmp_path / "out.zarr")] == ["distance", "probability"]


def test_raw_is_not_taken_for_labels(tmp_path):
    write_volume(Volume(SPELLED, (40, 4, 4)), tmp_path / "vol.zarr")
    with pytest.raises(InputError, match=r"has no volumes/labels/clefts; it has volumes/raw; name one, as in"):
        open_volume(tmp_path / "vol.zarr", default=LABELS)


def test_chunks_are_as_given_and_no_larger_than_the_array(tmp_path):
    write_volume(Volume(SPELLED), tmp_path / "vol.zarr", layout=LayoutSettings(chunk=(2, 64, 3)))
    assert json.loads((tmp_path / "vol.zarr/volumes/raw/.zarray").read_text())["chunks"] == [2, 4, 3]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("vol.zarr/volumes/rwa", r"no array 'volumes/rwa'; it has volumes/raw; did you mean 'volumes/raw'\?"),
        ("vol.zarr/volumes", r"no array 'volumes'; it has volumes/raw"),
        ("vul.zarr", r"vul\.zarr does not exist; its folder holds vol\.zarr"),
        ("empty.zarr", r"is no Zarr: it has neither zarr\.json nor \.zgroup nor \.zarray"),
        ("empty.zarr/raw", r"has no array 'raw', nor does it list any"),
        ("broken.zarr", r"zarr\.json is no JSON .*damaged"),
        ("list.zarr", r"zarr\.json holds no JSON object"),
        ("text.zarr", r"holds string, not numbers"),
        ("xyz.zarr", r"its axes are x y z; expected z y x"),
        ("flat.zarr", r"has shape \(5, 4\); expected three axes"),
        ("shapeless.zarr", r"its metadata gives the shape None"),
        ("odd.zarr", r"attribute 'resolution' is \[4, 4\]; expected three positive lengths"),
        ("zero.zarr", r"attribute 'resolution' is \[0, 4, 4\]; expected three positive lengths"),
        ("two.zarr", r"'resolution' \(40.0, 4.0, 4.0\) and 'voxel_size' \(50.0, 4.0, 4.0\) differ"),
        ("miles.zarr", r"the unit 'mile' of an axis is unknown; known are nanometer"),
    ],
)
def test_an_array_that_cannot_be_opened_is_an_error_of_one_line(tmp_path, address, line):
    write_volume(Volume(SPELLED), tmp_path / "vol.zarr")
    (tmp_path / "empty.zarr").mkdir()
    for name, text in (("broken", "{"), ("list", "[]")):
        (tmp_path / f"{name}.zarr").mkdir()
        (tmp_path / f"{name}.zarr" / "zarr.json").write_text(text)
    array_v3(tmp_path / "text.zarr", SPELLED, data_type="string")
    array_v3(tmp_path / "xyz.zarr", SPELLED, dimension_names=["x", "y", "z"])
    array_v3(tmp_path / "flat.zarr", SPELLED[0].T)
    array_v3(tmp_path / "shapeless.zarr", SPELLED, shape=None)
    array_v2(tmp_path / "odd.zarr", SPELLED, resolution=[4, 4])
    array_v2(tmp_path / "zero.zarr", SPELLED, resolution=[0, 4, 4])
    array_v2(tmp_path / "two.zarr", SPELLED, resolution=[40, 4, 4], voxel_size=[50, 4, 4])
    array_v2(tmp_path / "miles.zarr", SPELLED, resolution=[40, 4, 4], units=["mile"] * 3)
    with pytest.raises(InputError, match=line) as caught:
        open_volume(tmp_path / address)
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_named_with_the_box_that_was_wanted(tmp_path):
    write_volume(
        Volume(np.ones((4, 8, 8), np.uint8)), tmp_path / "vol.zarr/raw", layout=LayoutSettings(chunk=(2, 4, 4))
    )
    (tmp_path / "vol.zarr/raw/1/0/1").write_bytes(b"garbage")
    volume = open_volume(tmp_path / "vol.zarr/raw")
    assert volume[Box((0, 0, 0), (2, 8, 8))].all()
    with pytest.raises(InputError, match=r"raw cannot be read at 2:4,0:4,4:8 \(.*raw/1/0/1.*blosc.*damaged") as caught:
        volume[Box((2, 0, 4), (4, 4, 8))]
    assert "\n" not in str(caught.value)


def test_metadata_that_tensorstore_refuses_is_one_line(tmp_path):
    array_v3(tmp_path / "vol.zarr", SPELLED, codecs=[{"name": "no-such-codec"}])
    with pytest.raises(InputError, match=r"cannot be opened \(.*no-such-codec") as caught:
        open_volume(tmp_path / "vol.zarr").read()
    assert "\n" not in str(caught.value)


def test_overwriting_one_array_does_not_take_others_along(tmp_path):
    with create_volumes(tmp_path / "vol.zarr") as new:
        for name in ("a", "b"):
            new.create(ArraySpec(name, (3, 4, 5), np.uint16))
    with pytest.raises(InputError, match=r"holds other arrays \(a\), which would go"):
        write_volume(Volume(SPELLED), tmp_path / "vol.zarr/b", overwrite=True)
    assert len(list_arrays(tmp_path / "vol.zarr")) == 2
    write_volume(Volume(SPELLED), tmp_path / "vol.zarr", overwrite=True)
    assert list_arrays(tmp_path / "vol.zarr") == [f"{tmp_path}/vol.zarr/volumes/raw"]


@pytest.mark.parametrize(
    ("name", "layout", "line"),
    [
        ("out.n5", LayoutSettings(pyramid=True), "N5 has no option 'pyramid', only chunk"),
        ("out.tif", LayoutSettings(chunk=(1, 2, 3)), "TIFF has no option 'chunk', none of its kind"),
        ("out.hdf", LayoutSettings(zarr=3), "HDF5 has no option 'zarr', only chunk"),
        ("out.zarr", LayoutSettings(pyramid=True), "a pyramid needs a voxel size; .*voxel_size_nm=\\(40, 4, 4\\)"),
    ],
)
def test_a_layout_that_a_format_does_not_have_is_refused(tmp_path, name, layout, line):
    with pytest.raises(InputError, match=line):
        write_volume(Volume(SPELLED), tmp_path / name, layout=layout)
    assert list(tmp_path.iterdir()) == []


def test_a_layout_that_makes_no_sense_is_refused():
    with pytest.raises(InputError, match=r"chunk\.0: .* greater than 0"):
        LayoutSettings(chunk=(0, 1, 1))
    with pytest.raises(InputError, match="zarr: Input should be 2 or 3"):
        LayoutSettings(zarr=4)
