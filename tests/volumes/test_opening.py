"""Addresses: the array that each one opens, and the error where it opens none."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from cleftnet.errors import InputError
from cleftnet.volumes import (
    LABELS,
    PREDICTION,
    RAW,
    ArraySpec,
    Volume,
    create_volumes,
    describe,
    list_arrays,
    locate,
    open_volume,
    write_volume,
)

BOX = np.zeros((2, 3, 4), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A.hdf with raw, clefts and what is no volume; main.h5 with one dataset of another name; three slices in stack/."""
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file["volumes/raw"] = BOX + 1
        file["volumes/labels/clefts"] = BOX.astype(np.uint64) + 2
        file["annotations/ids"] = np.arange(5)
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["main"] = BOX + 3
    (tmp_path / "stack").mkdir()
    for n in range(3):
        tifffile.imwrite(tmp_path / "stack" / f"{n}.tif", BOX[0] + n, metadata=None)
    return tmp_path


def first(address, **kwargs):
    return int(open_volume(address, **kwargs).read().flat[0])


def test_a_file_alone_means_raw_or_labels_as_the_caller_wants(folder):
    assert first(folder / "A.hdf") == 1
    assert first(folder / "A.hdf", default=LABELS) == 2
    assert first(str(folder / "A.hdf") + "/") == 1


def test_a_prediction_is_its_probability_or_else_its_labels(folder):
    assert first(folder / "A.hdf", default=PREDICTION) == 2
    with h5py.File(folder / "A.hdf", "a") as file:
        file["volumes/probability"] = BOX + 9
    assert first(folder / "A.hdf", default=PREDICTION) == 9


def test_a_named_dataset_wins_over_the_default(folder):
    assert first(folder / "A.hdf/volumes/labels/clefts", default=RAW) == 2
    assert first(folder / "main.h5/main") == 3


def test_a_folder_a_pattern_and_a_single_slice_are_volumes(folder):
    assert open_volume(folder / "stack").read()[:, 0, 0].tolist() == [0, 1, 2]
    assert open_volume(folder / "stack" / "*.tif").read()[:, 0, 0].tolist() == [0, 1, 2]
    assert open_volume(folder / "stack" / "2.tif").shape == (1, 3, 4)


def test_folders_may_have_endings_of_files_and_endings_may_be_capital(folder):
    (folder / "data.h5").mkdir()
    (folder / "A.hdf").rename(folder / "data.h5" / "A.HDF")
    assert first(folder / "data.h5" / "A.HDF" / "volumes/labels/clefts") == 2
    (folder / "stack").rename(folder / "stack.tif")
    assert open_volume(folder / "stack.tif").shape == (3, 3, 4)


def test_variables_and_the_home_folder_are_expanded(folder, monkeypatch):
    monkeypatch.setenv("CLEFTNET_TEST_DATA", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    for address in ("$CLEFTNET_TEST_DATA/A.hdf", "${CLEFTNET_TEST_DATA}/A.hdf", "~/A.hdf", Path("~/A.hdf")):
        assert first(address) == 1


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("CLEFTNET_TEST_DATA", raising=False)
    with pytest.raises(InputError, match="uses the variable CLEFTNET_TEST_DATA, which is not set"):
        open_volume("$CLEFTNET_TEST_DATA/A.hdf")


def test_list_arrays_names_what_has_three_axes_and_each_opens(folder):
    assert list_arrays(folder / "A.hdf") == [f"{folder}/A.hdf/volumes/labels/clefts", f"{folder}/A.hdf/volumes/raw"]
    assert list_arrays(folder / "A.hdf/volumes/raw") == [f"{folder}/A.hdf/volumes/raw"]
    assert list_arrays(folder / "stack") == [str(folder / "stack")]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("A_.hdf", r"A_\.hdf does not exist; its folder holds A\.hdf; check the name"),
        ("nowhere/A.hdf", r"does not exist: there is no folder .*nowhere; check the path"),
        ("A.hdf/volumes/labels/cleft", r"no array 'volumes/labels/cleft'; it has volumes/labels/clefts, volumes/raw"),
        ("A.hdf/volumes", r"no array 'volumes'; it has volumes/labels/clefts, volumes/raw"),
        ("main.h5", r"has no volumes/raw; it has main; name one, as in .*main\.h5/main"),
        ("A.hdf/annotations/ids", r"has shape \(5,\); expected three axes z y x"),
        ("vol.zarr/raw", r"vol\.zarr does not exist; its folder holds"),
        ("scan.nrrd", r"format '\.nrrd' is unknown; known are HDF5 .*; TIFF"),
        ("stac", r"stac does not exist; its folder holds stack; check the name"),
        ("stack/*.tiff", r"no TIFF file matches .*stack/\*\.tiff; the folder holds 0\.tif, 1\.tif, 2\.tif"),
        ("stacks/*.tif", r"stacks does not exist; its folder holds stack"),
        ("stack/0.tif/raw", r"is a TIFF and holds one array; leave out /raw"),
        ("", r"no TIFF file matches"),
    ],
)
def test_an_address_that_cannot_be_opened_is_an_error_of_one_line(folder, address, line):
    with pytest.raises(InputError, match=line) as caught:
        open_volume(folder / address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://bucket/vol.nrrd", "ftp://site/vol.zarr", "dvid://site/vol"])
def test_a_url_in_no_known_format_lists_the_formats(address):
    with pytest.raises(InputError, match=r"is unknown; known are HDF5 .*; Zarr .*; N5 .*; precomputed"):
        open_volume(address)


def test_a_file_behind_a_url_is_to_be_downloaded_first():
    with pytest.raises(InputError, match="HDF5 is read from local files only; download it first"):
        open_volume("https://site/A.hdf/volumes/raw")


@pytest.mark.parametrize(
    ("address", "name", "path", "inside"),
    [
        ("s3://bucket/a/vol.zarr/volumes/raw", "Zarr", "s3://bucket/a/vol.zarr", "volumes/raw"),
        ("https://site:8000/vol.n5/raw/s0/", "N5", "https://site:8000/vol.n5", "raw/s0"),
        ("gs://bucket/vol.OME.ZARR", "Zarr", "gs://bucket/vol.OME.ZARR", ""),
        ("file:///data/vol.zarr/0", "Zarr", "/data/vol.zarr", "0"),
        ("precomputed://gs://bucket/vol", "precomputed", "gs://bucket/vol", ""),
        ("precomputed://vol/8_8_40", "precomputed", "vol/8_8_40", ""),
        ("precomputed:///data/vol/", "precomputed", "/data/vol", ""),
        ("precomputed://file:///data/vol", "precomputed", "/data/vol", ""),
    ],
)
def test_an_address_is_a_format_a_place_and_a_name_inside(address, name, path, inside):
    row, location = locate(address)
    assert (row.name, location.path, location.inside) == (name, path, inside)


def test_listing_what_is_not_there_fails_as_opening_does(folder):
    with pytest.raises(InputError, match="no array 'volumes/rau'"):
        list_arrays(folder / "A.hdf/volumes/rau")
    with pytest.raises(InputError, match="does not exist"):
        list_arrays(folder / "B.tif")


def test_a_voxel_size_of_zero_is_refused(folder):
    with pytest.raises(InputError, match=r"\(0, 4, 4\) must be three positive lengths"):
        open_volume(folder / "stack", voxel_size_nm=(0, 4, 4))


def test_an_empty_address_is_refused():
    with pytest.raises(InputError, match="the address is empty"):
        open_volume("")


def test_a_new_file_needs_an_ending_that_tells_its_format(tmp_path):
    with pytest.raises(InputError, match="no ending that tells the format; known are HDF5"):
        write_volume(Volume(BOX), tmp_path / "out")
    with pytest.raises(InputError, match="name the output file alone"), create_volumes(tmp_path / "out.hdf/raw"):
        pass


def create_two(address):
    with create_volumes(address) as new:
        for name in ("volumes/probability", "volumes/distance"):
            new.create(ArraySpec(name, (2, 3, 4), np.uint8, voxel_size_nm=(40, 4, 4)))


def test_two_arrays_go_into_one_hdf5_file_and_not_into_one_tiff(tmp_path):
    create_two(tmp_path / "out.hdf")
    assert len(list_arrays(tmp_path / "out.hdf")) == 2
    with pytest.raises(InputError, match="a TIFF holds one array"):
        create_two(tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


def test_the_threshold_of_a_probability_is_kept(tmp_path):
    write_volume(Volume(BOX, (40, 4, 4), threshold=0.75), tmp_path / "out.hdf", default="volumes/probability")
    assert open_volume(tmp_path / "out.hdf", default=PREDICTION).threshold == 0.75


def test_neurons_of_a_cremi_file_are_told_as_neurons_and_clefts_as_clefts(tmp_path):
    """A CREMI file holds both below volumes/labels: 2 clefts, 3 neurons, and 1 object of another name."""
    ids = np.full((2, 4, 8), 2**64 - 1, np.uint64)
    arrays = {"clefts": [(0, 1), (4, 2)], "neuron_ids": [(0, 5), (2, 6), (4, 9)], "mitochondria": [(1, 3)]}
    with h5py.File(tmp_path / "A.hdf", "w") as file:
        file.attrs["file_format"] = "0.2"
        for name, objects in arrays.items():
            values = ids.copy()
            for x, number in objects:
                values[0, 0:2, x : x + 2] = number
            file[f"volumes/labels/{name}"] = values
            file[f"volumes/labels/{name}"].attrs["resolution"] = (40.0, 4.0, 4.0)
    found = {d.volume.address.rpartition("/")[2]: d.to_json() for d in describe(tmp_path / "A.hdf")}
    assert (found["clefts"]["clefts"], found["clefts"].get("neurons")) == (2, None)
    assert (found["neuron_ids"]["neurons"], found["neuron_ids"]["clefts"]) == (3, None)
    assert (found["mitochondria"]["objects"], found["mitochondria"]["clefts"]) == (1, None)
    assert found["neuron_ids"]["neuron_voxels"] == 12
    assert found["neuron_ids"]["neuron_size_nm3_min_median_max"] == [4 * 640.0] * 3
    assert found["neuron_ids"]["cleft_voxels"] is None
