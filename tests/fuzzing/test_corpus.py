"""What once ended in a traceback, a hang or several lines; each ends with exit code 2 and one line."""

import json
import os
import shutil
from pathlib import Path

import pytest

from cleftnet.cli import main
from tools.fuzzing.samples import make_volumes

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("sound"), Path.cwd()
    os.chdir(folder)
    try:
        make_volumes(folder)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Run the command line in a folder, and return its one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def _refused(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        *warnings, last = capsys.readouterr().err.splitlines()
        assert done.value.code == 2
        assert last.startswith("error: ")
        assert all(line.startswith("warning: ") for line in warnings)
        return last

    return _refused


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


ADDRESSES = {"pre": "precomputed://pre"}
BAD_SHAPES = (None, "x", [], [0, 4, 4], [-1, 4, 4], [1.5, 4, 4], [True, 4, 4], [2**70, 4, 4], ["4", 4, 4])


@pytest.mark.parametrize("shape", BAD_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("volume", "file", "key"),
    [
        ("two.zarr", ".zarray", "shape"),
        ("three.zarr", "zarr.json", "shape"),
        ("vol.n5", "attributes.json", "dimensions"),
    ],
)
def test_a_shape_that_is_no_shape(sound, tmp_path, refused, volume, file, key, shape):
    shutil.copytree(sound / volume, tmp_path / volume)
    found = [f for f in (tmp_path / volume).rglob(file) if key in json.loads(f.read_text())]
    assert found
    for one in found:
        edit(one, **{key: shape})
    refused("info", volume)


@pytest.mark.parametrize(
    "changes",
    [{"scales": None}, {"scales": {}}, {"scales": ["x"]}, {"scales": []}, {"data_type": 3}, {"num_channels": "x"}],
    ids=str,
)
def test_an_info_that_makes_no_sense(sound, tmp_path, refused, changes):
    shutil.copytree(sound / "pre", tmp_path / "pre")
    edit(tmp_path / "pre" / "info", **changes)
    refused("info", "precomputed://pre")


@pytest.mark.parametrize("size", BAD_SHAPES, ids=str)
def test_a_size_in_an_info_that_is_no_size(sound, tmp_path, refused, size):
    shutil.copytree(sound / "pre", tmp_path / "pre")
    scale = json.loads((tmp_path / "pre" / "info").read_text())["scales"][0]
    edit(tmp_path / "pre" / "info", scales=[scale | {"size": size}])
    refused("info", "precomputed://pre")


def test_what_cleftnet_keeps_in_an_info_may_be_anything(sound, tmp_path, monkeypatch, capsys):
    shutil.copytree(sound / "pre", tmp_path / "pre")
    edit(tmp_path / "pre" / "info", cleftnet=[1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["info", "precomputed://pre"])
    assert done.value.code == 0


@pytest.mark.parametrize(
    ("volume", "file"),
    [("two.zarr", ".zattrs"), ("three.zarr", "zarr.json"), ("vol.n5", "attributes.json"), ("pre", "info")],
)
@pytest.mark.parametrize("text", [DEEP, "{", "[]", "\x00", "1" * 5000], ids=["deep", "cut", "list", "zero", "digits"])
def test_metadata_that_is_no_json_object(sound, tmp_path, refused, volume, file, text):
    shutil.copytree(sound / volume, tmp_path / volume)
    for one in (tmp_path / volume).rglob(file):
        one.write_text(text)
    refused("info", ADDRESSES.get(volume, volume))


@pytest.mark.parametrize("attributes", [[1], "x", 3])
def test_attributes_of_zarr_3_that_are_no_object(sound, tmp_path, refused, attributes):
    shutil.copytree(sound / "three.zarr", tmp_path / "three.zarr")
    for file in (tmp_path / "three.zarr").rglob("zarr.json"):
        edit(file, attributes=attributes)
    refused("info", "three.zarr")


@pytest.mark.parametrize("name", ["resolution", "voxel_size", "offset", "threshold", "units", "pixelResolution"])
@pytest.mark.parametrize(
    "value", [[10**400] * 3, 10**400, [1e308, 1e308, 1e308], {"unit": []}, ["m"] * 3, [[1]]], ids=str
)
def test_lengths_that_are_none_end_in_one_line_or_are_read(sound, tmp_path, monkeypatch, capsys, name, value):
    shutil.copytree(sound / "vol.n5", tmp_path / "vol.n5")
    for file in (tmp_path / "vol.n5").rglob("attributes.json"):
        edit(file, **{name: value})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["info", "vol.n5"])
    said = capsys.readouterr().err.splitlines()
    assert done.value.code in (0, 2)
    assert len(said) == (1 if done.value.code else 0)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]", "a: &a {b: *a}"], ids=["many", "list", "mapping"])
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_recipe_whose_aliases_multiply_it(tmp_path, refused, verb, text):
    (tmp_path / "odd.yaml").write_text(text)
    assert "is not YAML: its aliases make more than 100,000 values" in refused(verb, "odd.yaml", "--dry-run")


@pytest.mark.parametrize("section", ["net", "training", "augment"])
def test_a_key_that_is_no_text(refused, section):
    said = refused("train", "vnc-l3-quick", "--dry-run", "--set", f"{section}={{name: unet3d, 1: 2}}")
    assert said.startswith(f"error: recipe vnc-l3-quick: unknown key '{section}.")


@pytest.mark.parametrize("name", ["[unet3d]", "{unet3d: 1}", "3", "null"])
def test_a_network_whose_name_is_no_text(refused, name):
    assert "unknown network" in refused("train", "vnc-l3-quick", "--dry-run", "--set", f"net.name={name}")


@pytest.mark.parametrize("text", [DEEP, "net: 2001-99-99", "a: !!python/object:os.system x", "\x00"], ids=str)
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_recipe_that_is_no_yaml(tmp_path, refused, verb, text):
    (tmp_path / "odd.yaml").write_text(text)
    refused(verb, "odd.yaml", "--dry-run")


def test_a_change_that_is_no_yaml(refused):
    assert "is not YAML" in refused("train", "vnc-l3-quick", "--set", f"net.name={DEEP[:5000]}")


def test_an_address_with_a_line_break_is_one_line(refused):
    assert "a\\nb" in refused("info", "a\nb.hdf")


@pytest.mark.parametrize("at", range(0, 400, 3))
def test_a_tiff_header_of_zeros(sound, tmp_path, monkeypatch, capsys, at):
    for name in ("ome.tif", "packed.tif"):
        data = bytearray((sound / name).read_bytes())
        data[at : at + 6] = bytes(6)
        (tmp_path / name).write_bytes(data)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as done:
            main(["info", name])
        assert len(capsys.readouterr().err.splitlines()) == (1 if done.value.code else 0)
        assert done.value.code in (0, 2)


@pytest.mark.parametrize(
    "words",
    [
        ("synapses", "pred.hdf", "s3://bucket/found"),
        ("review", "found", "file://127.0.0.1:9/a"),
        ("train", "vnc-l3-quick", "--out", "gs://bucket/run"),
        ("compare", "tables-vnc-l3-folds", "--out", "https://host/tables"),
    ],
    ids=lambda words: words[0],
)
def test_an_address_where_files_are_written_here_is_refused(sound, tmp_path, refused, words):
    shutil.copy(sound / "pred.hdf", tmp_path)
    before = sorted(tmp_path.iterdir())
    assert "is an address, and this output is written to this machine only" in refused(*words)
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_whose_columns_have_other_names(sound, tmp_path, refused):
    shutil.copy(sound / "pred.hdf", tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["synapses", "pred.hdf", "found"])
    table = tmp_path / "found/synapses.csv"
    table.write_text(table.read_text().replace("synapse_id", "synapse_ib"))
    assert "has no column synapse_id" in refused("review", "found", "looks")
