"""Conversion from one format to another: names, ids, types, geometry and chunks."""

import json

import h5py
import numpy as np
import pytest

from cleftnet.cli import main
from cleftnet.datasets import check_cremi, overall
from cleftnet.errors import InputError
from cleftnet.volumes import (
    CREMI_BACKGROUND,
    INVALID,
    LABELS,
    PREDICTION,
    LayoutSettings,
    Volume,
    convert,
    describe,
    list_arrays,
    open_volume,
    write_cremi,
    write_volume,
)

SIZE_NM = (40.0, 4.0, 4.0)
IDS = np.array([[[0, 7, INVALID]]], np.uint64)
RAW = np.array([[[1, 2, 3]]], np.uint8)


def in_file(path, dataset):
    with h5py.File(path) as file:
        return file[dataset][:].tolist(), dict(file[dataset].attrs), "file_format" in file.attrs


@pytest.fixture
def cremi(tmp_path):
    """A CREMI file with raw and labels of three voxels, the labels placed by an offset."""
    write_cremi(tmp_path / "A.hdf", Volume(RAW, SIZE_NM), Volume(IDS, SIZE_NM))
    return tmp_path / "A.hdf"


def test_labels_in_a_cremi_file_get_cremis_ids(tmp_path):
    write_volume(Volume(np.array([[[0, 7, 9]]], np.uint32), SIZE_NM), tmp_path / "ids.tif")
    convert(tmp_path / "ids.tif", tmp_path / "B.hdf")
    values, attributes, is_cremi = in_file(tmp_path / "B.hdf", "volumes/labels/clefts")
    assert values == [[[CREMI_BACKGROUND, 7, 9]]]
    assert attributes["resolution"].tolist() == list(SIZE_NM)
    assert is_cremi


def test_labels_leave_a_cremi_file_with_background_zero(cremi, tmp_path):
    convert(cremi, tmp_path / "ids.tif", labels=True)
    assert open_volume(tmp_path / "ids.tif").read().tolist() == IDS.tolist()


def test_labels_go_from_cremi_to_cremi_as_they_are(cremi, tmp_path):
    convert(f"{cremi}/volumes/labels/clefts", tmp_path / "B.hdf")
    values, _, is_cremi = in_file(tmp_path / "B.hdf", "volumes/labels/clefts")
    assert values == in_file(cremi, "volumes/labels/clefts")[0]
    assert is_cremi


def test_a_named_dataset_is_written_into_a_plain_hdf5_file(cremi, tmp_path):
    convert(cremi, tmp_path / "B.hdf/my/labels", labels=True)
    values, _, is_cremi = in_file(tmp_path / "B.hdf", "my/labels")
    assert values == IDS.tolist()
    assert not is_cremi


def test_a_mask_of_bytes_becomes_labels_with_labels_true(tmp_path):
    write_volume(Volume(np.array([[[0, 255]]], np.uint8), SIZE_NM), tmp_path / "mask.tif")
    convert(tmp_path / "mask.tif", tmp_path / "B.hdf", labels=True)
    assert in_file(tmp_path / "B.hdf", "volumes/labels/clefts")[0] == [[[CREMI_BACKGROUND, 255]]]
    convert(tmp_path / "mask.tif", tmp_path / "C.hdf")
    assert in_file(tmp_path / "C.hdf", "volumes/raw")[0] == [[[0, 255]]]


def test_gray_values_become_a_valid_cremi_file(tmp_path):
    write_volume(Volume(RAW), tmp_path / "raw.tif")
    convert(tmp_path / "raw.tif", tmp_path / "B.hdf", voxel_size_nm=SIZE_NM)
    assert overall(check_cremi(tmp_path / "B.hdf")) == "ok"
    assert open_volume(tmp_path / "B.hdf").read().tolist() == RAW.tolist()


def test_a_cremi_file_alone_means_its_raw(cremi, tmp_path):
    convert(cremi, tmp_path / "raw.tif")
    assert open_volume(tmp_path / "raw.tif").read().tolist() == RAW.tolist()


def test_gray_values_of_two_bytes_stay_an_ordinary_dataset(tmp_path):
    write_volume(Volume(RAW.astype(np.uint16) * 257, SIZE_NM), tmp_path / "raw.tif")
    convert(tmp_path / "raw.tif", tmp_path / "B.hdf")
    values, _, is_cremi = in_file(tmp_path / "B.hdf", "volumes/raw")
    assert (values, is_cremi) == ([[[257, 514, 771]]], False)


def test_a_probability_keeps_its_name_threshold_and_place(tmp_path):
    probability = Volume(RAW, SIZE_NM, (40.0, 0.0, 8.0), threshold=0.7)
    write_volume(probability, tmp_path / "p.hdf", default=PREDICTION[0])
    convert(tmp_path / "p.hdf", tmp_path / "q.hdf")
    there = open_volume(tmp_path / "q.hdf", default=PREDICTION)
    assert there.address.endswith("q.hdf/volumes/probability")
    assert (there.threshold, there.offset_nm, there.voxel_size) == (0.7, (40.0, 0.0, 8.0), SIZE_NM)
    assert not in_file(tmp_path / "q.hdf", "volumes/probability")[2]


def test_offsets_travel_with_labels(tmp_path):
    write_cremi(tmp_path / "A.hdf", clefts=Volume(IDS, SIZE_NM, (1480.0, 3644.0, 3644.0)))
    convert(tmp_path / "A.hdf", tmp_path / "B.hdf", labels=True)
    assert open_volume(tmp_path / "B.hdf", default=LABELS).offset_nm == (1480.0, 3644.0, 3644.0)


def test_a_cremi_file_needs_a_voxel_size_and_a_new_name(tmp_path):
    write_volume(Volume(RAW), tmp_path / "raw.tif")
    with pytest.raises(InputError, match="voxel_size_nm="):
        convert(tmp_path / "raw.tif", tmp_path / "B.hdf")
    convert(tmp_path / "raw.tif", tmp_path / "B.hdf/plain")  # no CREMI file, no need
    with pytest.raises(InputError, match="exists already"):
        convert(tmp_path / "raw.tif", tmp_path / "B.hdf/plain")
    with pytest.raises(InputError, match=r"format '\.png' is unknown"):
        convert(tmp_path / "raw.tif", tmp_path / "B.png")


def test_floats_are_no_labels(tmp_path):
    write_volume(Volume(RAW.astype(np.float32), SIZE_NM), tmp_path / "p.tif")
    with pytest.raises(InputError, match="float32; expected label ids"):
        convert(tmp_path / "p.tif", tmp_path / "B.hdf", labels=True)
    assert not (tmp_path / "B.hdf").exists()


def test_progress_ends_at_all_voxels(cremi, tmp_path):
    seen = []
    convert(cremi, tmp_path / "B.hdf", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


FORMATS = ("vol.hdf", "vol.tif", "vol.zarr", "vol.n5", "precomputed://vol")


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_raw_goes_from_any_format_to_any_other_in_its_place(tmp_path, monkeypatch, source, target):
    values = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "to").mkdir()
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(values, SIZE_NM, (80.0, 8.0, 12.0)), source)
    scheme, _, name = target.rpartition("vol")
    convert(source, f"{scheme}to/vol{name}")
    there = open_volume(f"{scheme}to/vol{name}")
    assert there.read().tolist() == values.tolist()
    assert (there.voxel_size, there.offset_nm) == (SIZE_NM, pytest.approx((80.0, 8.0, 12.0)))


@pytest.mark.parametrize("target", ["out.zarr", "out.n5", "precomputed://out"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64])
def test_labels_become_a_label_file_of_uint64_with_background_zero(tmp_path, monkeypatch, target, dtype):
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(np.array([[[0, 7, 9]]], dtype), SIZE_NM), "ids.tif")
    convert("ids.tif", target, labels=True)
    volume = open_volume(target, default=LABELS)
    assert (volume.dtype, volume.read().tolist()) == (np.uint64, [[[0, 7, 9]]])
    assert "precomputed" in target or volume.address.endswith("volumes/labels/clefts")


def test_labels_of_a_cremi_file_reach_zarr_with_background_zero_and_come_back(cremi, tmp_path):
    convert(cremi, tmp_path / "labels.zarr", labels=True)
    assert open_volume(tmp_path / "labels.zarr", default=LABELS).read().tolist() == IDS.tolist()
    convert(tmp_path / "labels.zarr", tmp_path / "B.hdf", labels=True)
    assert in_file(tmp_path / "B.hdf", "volumes/labels/clefts")[0] == in_file(cremi, "volumes/labels/clefts")[0]


@pytest.mark.parametrize(
    ("values", "line"),
    [(np.array([[[-1, 7]]], np.int32), "label id -1 is negative"), (np.ones((1, 1, 2), np.float32), "holds float32")],
)
def test_values_that_are_no_ids_are_not_written_as_labels_to_zarr(tmp_path, values, line):
    write_volume(Volume(values, SIZE_NM), tmp_path / "ids.tif")
    with pytest.raises(InputError, match=line):
        convert(tmp_path / "ids.tif", tmp_path / "out.zarr", labels=True)
    assert not (tmp_path / "out.zarr").exists()


def test_a_probability_keeps_name_threshold_and_place_in_zarr(tmp_path):
    write_volume(Volume(RAW, SIZE_NM, (40.0, 0.0, 8.0), threshold=0.7), tmp_path / "p.hdf", default=PREDICTION[0])
    convert(tmp_path / "p.hdf", tmp_path / "q.zarr")
    there = open_volume(tmp_path / "q.zarr", default=PREDICTION)
    assert there.address.endswith("q.zarr/volumes/probability")
    assert (there.threshold, there.offset_nm, there.voxel_size) == (0.7, (40.0, 0.0, 8.0), SIZE_NM)


def test_convert_makes_chunks_and_a_pyramid(cremi, tmp_path):
    convert(cremi, tmp_path / "raw.hdf", layout=LayoutSettings(chunk=(1, 1, 2)))
    with h5py.File(tmp_path / "raw.hdf") as file:
        assert file["volumes/raw"].chunks == (1, 1, 2)
        assert "file_format" in file.attrs
    convert(cremi, tmp_path / "raw.zarr", layout=LayoutSettings(chunk=(1, 1, 1), pyramid=True))
    assert [a.rsplit("/", 1)[1] for a in list_arrays(tmp_path / "raw.zarr")] == ["s0", "s1", "s2"]
    assert open_volume(tmp_path / "raw.zarr").read().tolist() == RAW.tolist()
    with pytest.raises(InputError, match="HDF5 has no option 'pyramid'"):
        convert(cremi, tmp_path / "more.hdf", layout=LayoutSettings(pyramid=True))


def test_the_verb_takes_chunks_the_version_of_zarr_and_a_pyramid(cremi, tmp_path, capsys):
    options = ["--chunk", "1,1,2", "--zarr", "3", "--pyramid"]
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(cremi), str(tmp_path / "out.zarr"), *options])
    assert ended.value.code == 0
    metadata = json.loads((tmp_path / "out.zarr/volumes/raw/s0/zarr.json").read_text())
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1, 2]
    assert (tmp_path / "out.zarr/volumes/raw/s1/zarr.json").exists()
    assert capsys.readouterr().out == f"{tmp_path}/out.zarr\n"


def test_the_verb_refuses_a_chunk_that_is_none(cremi, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(cremi), str(tmp_path / "out.zarr"), "--chunk", "64,64"])
    assert ended.value.code == 2
    assert (
        "error: --chunk '64,64' is not three sides in voxels, z,y,x; try --chunk 16,128,128" in capsys.readouterr().err
    )


def test_info_lists_what_a_container_holds(tmp_path):
    write_volume(Volume(IDS[..., :2], SIZE_NM), tmp_path / "vol.zarr/volumes/labels/clefts")
    write_volume(Volume(IDS[..., :2], SIZE_NM), f"precomputed://{tmp_path}/vol")
    for address in (tmp_path / "vol.zarr", f"precomputed://{tmp_path}/vol"):
        (found,) = [d.to_json() for d in describe(address)]
        assert (found["shape"], found["clefts"], found["voxel_size_nm"]) == ([1, 1, 2], 1, [40, 4, 4])
