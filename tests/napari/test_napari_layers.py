"""Readers and the writer of the plugin: the right voxels at the right place, and back."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import cleftnet
from cleftnet.errors import InputError
from cleftnet.volumes import INVALID, Volume, open_volume, write_cremi, write_volume

pytest.importorskip(
    "napari.qt.threading",
    reason="napari is not installed, or Qt misses a library of the system: pip install 'cleftnet[napari]'",
    exc_type=ImportError,
)

from napari.layers import Image, Labels, Layer

from cleftnet.napari.layer_data import as_volume_of
from cleftnet.napari.reading import get_reader, read_layers
from cleftnet.napari.writing import write_cremi_layers

SIZE_NM, OFFSET_NM = (40.0, 5.0, 4.0), (80.0, 10.0, 12.0)
RAW = (np.arange(6 * 7 * 11) % 251).astype(np.uint8).reshape(6, 7, 11)
LABELS = np.where(RAW % 5 == 0, RAW.astype(np.uint64), 0)


@pytest.fixture(scope="module")
def cremi(tmp_path_factory):
    path = tmp_path_factory.mktemp("napari") / "A.hdf"
    labels = LABELS.copy()
    labels[0, 0, 0] = INVALID
    write_cremi(path, raw=Volume(RAW, SIZE_NM, OFFSET_NM), clefts=Volume(labels, SIZE_NM, OFFSET_NM))
    return path


def layers(path):
    return [Layer.create(*data) for data in get_reader(str(path))(str(path))]


def test_a_cremi_file_is_opened_with_scale_and_translation_in_nm(cremi):
    raw, labels = layers(cremi)
    assert (type(raw), type(labels)) == (Image, Labels)
    for layer in (raw, labels):
        assert layer.scale.tolist() == list(SIZE_NM)
        assert layer.translate.tolist() == list(OFFSET_NM)
        assert {str(unit) for unit in layer.units} == {"nanometer"}
    np.testing.assert_array_equal(np.asarray(raw.data), RAW)
    assert np.asarray(labels.data)[0, 0, 0] == INVALID
    np.testing.assert_array_equal(np.asarray(labels.data)[1:], LABELS[1:])
    assert labels.data.flags.writeable  # so that it can be painted


@pytest.mark.parametrize("name", ["a.zarr", "a.n5", "a.hdf"])
def test_predictions_and_labels_are_opened_from_every_format(tmp_path, name):
    write_volume(Volume(LABELS, SIZE_NM, OFFSET_NM), tmp_path / name, default="volumes/labels/clefts")
    (labels,) = layers(tmp_path / name)
    assert isinstance(labels, Labels)
    assert labels.translate.tolist() == list(OFFSET_NM)
    np.testing.assert_array_equal(labels.data, LABELS)


def test_gray_values_beside_raw_do_not_cover_it(cremi, tmp_path):
    more = shutil.copy(cremi, tmp_path / "A.hdf")
    with h5py.File(more, "a") as file:
        file["volumes/tissue"] = RAW
    layers = get_reader(str(more))(str(more))
    assert [(arguments["name"].split()[-1], arguments.get("visible", True)) for _, arguments, _ in layers] == [
        ("raw", True),
        ("tissue", False),
        ("clefts", True),
    ]


def test_an_image_is_read_only_where_it_is_looked_at(tmp_path):
    large = tmp_path / "large.hdf"
    write_volume(Volume(np.zeros((40, 300, 600), np.uint8), SIZE_NM), large)
    ((data, _, _),) = read_layers(str(large))
    assert data.chunks == ((16, 16, 8), (256, 44), (256, 256, 88))


def test_a_layer_becomes_the_volume_that_it_shows(cremi):
    raw, labels = layers(cremi)
    volume = as_volume_of(raw)
    assert (volume.voxel_size, volume.offset_nm, volume.address) == (SIZE_NM, OFFSET_NM, f"{cremi}/volumes/raw")
    labels.units = ("um",) * 3
    assert as_volume_of(labels).voxel_size == pytest.approx([1000 * side for side in SIZE_NM])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Image(RAW), "layer.scale"),
        (Image(RAW[0], units=("nm",) * 2), "expected three"),
        (Image(RAW, units=("nm",) * 3, rotate=(0, 0, 30)), "rotated"),
    ],
)
def test_a_layer_without_a_place_in_nm_is_refused(layer, message):
    with pytest.raises(InputError, match=message):
        as_volume_of(layer)


def test_what_is_written_is_the_file_that_was_read(cremi, tmp_path):
    data = [layer.as_layer_data_tuple() for layer in layers(cremi)]
    path = str(tmp_path / "written.hdf")
    assert write_cremi_layers(path, data) == [path]
    for name in ("volumes/raw", "volumes/labels/clefts"):
        written, read = open_volume(f"{path}/{name}"), open_volume(f"{cremi}/{name}")
        assert (written.voxel_size, written.offset_nm) == (read.voxel_size, read.offset_nm)
        np.testing.assert_array_equal(written.read(), read.read())


def test_painted_labels_are_what_is_written(cremi, tmp_path):
    labels = layers(cremi)[1]
    labels.data[2, 3, 4] = 77
    write_cremi_layers(str(tmp_path / "b.hdf"), [labels.as_layer_data_tuple()])
    assert open_volume(f"{tmp_path}/b.hdf/volumes/labels/clefts")[2, 3, 4] == 77


def test_two_layers_of_labels_are_refused(cremi, tmp_path):
    data = layers(cremi)[1].as_layer_data_tuple()
    with pytest.raises(InputError, match="at most one"):
        write_cremi_layers(str(tmp_path / "b.hdf"), [data, data])


@pytest.mark.parametrize("opened", ["synapses", "synapses/labels.zarr"])
def test_synapses_bring_their_table_along(tmp_path, opened):
    probability = Volume((LABELS > 0).astype(np.uint8) * 200, SIZE_NM, OFFSET_NM)
    found = cleftnet.find_synapses(
        probability, tmp_path / "synapses", settings=cleftnet.SynapseSettings(min_size_nm3=0)
    )
    (labels,) = layers(tmp_path / opened)
    assert labels.features["score"].tolist() == pytest.approx(found.table["score"].tolist(), abs=1e-5)
    assert labels.features["index"].tolist() == found.table["synapse_id"].tolist()


def test_what_is_no_volume_is_left_to_other_readers(tmp_path):
    (tmp_path / "a.hdf").write_text("no HDF5")
    assert get_reader(str(tmp_path / "a.hdf")) is None
    assert get_reader([str(tmp_path)]) is None


def test_the_manifest_is_valid_and_all_that_it_names_is_there():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(Path(cleftnet.__file__).parent / "napari/napari.yaml")
    manifest.validate_imports()
    assert {widget.display_name for widget in manifest.contributions.widgets} >= {
        "Find synapses",
        "Score against labels",
    }
