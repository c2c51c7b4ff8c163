"""Layers of a viewer: what each address gives, what it is called, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from cleftnet.errors import InputError
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.viewing import LayerKind, open_layers
from cleftnet.volumes import (
    CLEFTS_NAME,
    DISTANCE_NAME,
    PROBABILITY_NAME,
    ArraySpec,
    Volume,
    create_volumes,
    write_cremi,
    write_volume,
)

SIZE_NM = (40.0, 4.0, 4.0)
SHAPE = (4, 20, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CREMI file, a prediction with a distance, its synapses, and a TIFF of a mask without a voxel size."""
    path = tmp_path_factory.mktemp("layers")
    clefts = np.zeros(SHAPE, np.uint64)
    clefts[1:3, 4:10, 5:15] = 3
    raw = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    write_cremi(path / "A.hdf", raw=Volume(raw, SIZE_NM), clefts=Volume(clefts, SIZE_NM))
    probability = (clefts > 0).astype(np.uint8) * 200
    specs = [ArraySpec(name, SHAPE, "uint8", SIZE_NM) for name in (PROBABILITY_NAME, DISTANCE_NAME)]
    with create_volumes(path / "out.hdf") as file:
        for spec in specs:
            file.create(spec)[:, :, :] = probability
    find_synapses(str(path / "out.hdf"), path / "synapses", settings=SynapseSettings(min_size_nm3=0))
    write_volume(Volume((clefts > 0).astype(np.uint8)), path / "mask.tif")
    return path


def kinds(shown):
    return {layer.name: layer.kind.value for layer in shown.layers}


def test_a_prediction_file_gives_probability_and_distance_and_a_folder_labels_and_table(folder):
    shown = open_layers(folder / "A.hdf", [folder / "out.hdf", folder / "synapses"])
    assert kinds(shown) == {name: name for name in ("raw", "probability", "distance", "labels")}
    assert list(shown.table["synapse_id"]) == [1]
    assert np.unique(shown.first(LayerKind.LABELS).volume.read()).tolist() == [0, 1]


def test_a_name_says_what_a_layer_holds(folder):
    shown = open_layers(folder / "A.hdf", [f"truth={folder}/A.hdf", f"labels={folder}/mask.tif"])
    assert kinds(shown) == {"raw": "raw", "truth": "truth", "labels": "labels"}
    assert shown.first(LayerKind.TRUTH).volume.address.endswith(CLEFTS_NAME)
    assert shown.first(LayerKind.LABELS).volume.voxel_size == SIZE_NM  # a TIFF carries none: that of raw


def test_a_kind_can_be_given_for_any_other_name(folder):
    shown = open_layers(folder / "A.hdf", {"mine": folder / "mask.tif"}, kinds={"mine": "labels"})
    assert kinds(shown) == {"raw": "raw", "mine": "labels"}


def test_arrays_are_told_apart_by_their_type():
    raw = np.zeros(SHAPE, np.uint8)
    layers = [np.zeros(SHAPE, np.uint64), np.zeros(SHAPE, np.float32), raw]
    shown = open_layers(raw, layers, voxel_size_nm=SIZE_NM)
    assert kinds(shown) == {"raw": "raw", "labels": "labels", "probability": "probability", "raw 2": "raw"}


def test_a_table_alone_is_a_list_without_labels(folder):
    shown = open_layers(folder / "A.hdf", folder / "synapses/synapses.csv")
    assert kinds(shown) == {"raw": "raw"}
    assert len(shown.table) == 1


def test_a_path_with_an_equals_sign_that_exists_is_an_address(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_volume(Volume(np.zeros(SHAPE, np.uint64), SIZE_NM), "a=b.hdf")
    assert kinds(open_layers("A.hdf", ["a=b.hdf/volumes/raw"])) == {"raw": "raw", "labels": "labels"}


@pytest.mark.parametrize(
    ("layers", "kinds", "message"),
    [
        (["{folder}/nothing.hdf"], None, "does not exist"),
        ([], {"mine": "labels"}, "there is no layer named 'mine'"),
        ({"mine": "{folder}/mask.tif"}, {"mine": "label"}, "did you mean 'labels'"),
        (["{folder}/synapses", "{folder}/synapses"], None, "second table of synapses"),
        (["{folder}/other.csv"], None, "has no column synapse_id, z_nm"),
        (["{folder}/nothing.csv"], None, "does not exist"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(folder, layers, kinds, message):
    pd.DataFrame({"x": [1]}).to_csv(folder / "other.csv", index=False)
    fill = lambda text: text.format(folder=folder)  # noqa: E731
    given = {k: fill(v) for k, v in layers.items()} if isinstance(layers, dict) else [fill(v) for v in layers]
    with pytest.raises(InputError, match=message) as error:
        open_layers(folder / "A.hdf", given, kinds=kinds)
    assert "\n" not in str(error.value)


def test_a_volume_without_a_voxel_size_is_refused():
    with pytest.raises(InputError, match="voxel_size_nm"):
        open_layers(np.zeros(SHAPE, np.uint8))
