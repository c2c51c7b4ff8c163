"""The table for CAVE and CATMAID, read back."""

import json

import numpy as np
import pandas as pd
import pytest

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.volumes import Volume, write_volume

SIZE_NM, OFFSET_NM = (40.0, 4.0, 5.0), (80.0, 40.0, 50.0)  # the first voxel is number 2 10 10


@pytest.fixture
def prediction():
    """Two synapses: 3 voxels in section 1 around y 2, x 4, and 12 voxels in section 2."""
    values = np.zeros((4, 20, 30), np.uint8)
    values[1, 2, 3:6] = 204
    values[2, 9:12, 20:24] = 255
    return Volume(values, SIZE_NM, OFFSET_NM, provenance={"synapses": {"threshold": 0.5}})


def test_a_cave_table_has_positions_in_voxels_x_y_z_sizes_and_scores(prediction, tmp_path):
    found = find_synapses(prediction, tmp_path, formats=["cave"])
    table = pd.read_csv(tmp_path / "synapses_cave.csv")
    assert list(table) == ["id", "ctr_pt_position", "size", "score"]
    assert table["id"].tolist() == [1, 2]
    assert json.loads(table["ctr_pt_position"][0]) == [10 + 4, 10 + 2, 2 + 1]
    assert table["size"].tolist() == [3, 12]
    assert table["score"].tolist() == pytest.approx(found.table["score"], abs=1e-5)
    about = json.loads((tmp_path / "synapses_cave.json").read_text())
    assert (about["schema_type"], about["voxel_resolution"]) == ("synapse", [5, 4, 40])


def test_positions_and_sizes_of_a_cave_table_may_be_in_other_voxels(prediction, tmp_path):
    """In voxels of 40×8×10 nm, twice as large along y and x: 14 becomes 7, 12 becomes 6, and 12 voxels become 3."""
    find_synapses(prediction, tmp_path, formats=["cave:40,8,10"])
    table = pd.read_csv(tmp_path / "synapses_cave.csv")
    assert json.loads(table["ctr_pt_position"][0]) == [7, 6, 3]
    assert table["size"].tolist() == [1, 3]
    assert json.loads((tmp_path / "synapses_cave.json").read_text())["voxel_resolution"] == [10, 8, 40]


def test_catmaid_connectors_have_positions_in_nm_and_a_confidence_of_1_to_5(prediction, tmp_path):
    find_synapses(prediction, tmp_path, formats=["catmaid"])
    table = pd.read_csv(tmp_path / "connectors.csv")
    assert list(table) == ["connector_id", "x", "y", "z", "confidence", "score"]
    assert table.loc[0, ["connector_id", "x", "y", "z"]].tolist() == [1, 50 + 4 * 5, 40 + 2 * 4, 80 + 1 * 40]
    assert table["confidence"].tolist() == [5, 5]  # 0.8 and 1
    weak = Volume(
        np.where(prediction.read() > 0, 77, 0).astype(np.uint8), SIZE_NM, provenance={"synapses": {"threshold": 0.3}}
    )
    find_synapses(weak, tmp_path / "weak", settings=SynapseSettings(threshold=0.1), formats=["catmaid"])
    assert pd.read_csv(tmp_path / "weak/connectors.csv")["confidence"].tolist() == [2, 2]  # 0.302


def test_neurons_are_listed_where_a_segmentation_is_given(prediction, tmp_path):
    ids = np.full(prediction.shape, 7, np.uint64)
    ids[:, 10:] = 2**40
    settings = SynapseSettings(segmentation=Volume(ids, SIZE_NM, OFFSET_NM))
    found = find_synapses(prediction, tmp_path, settings=settings, formats=["cave", "catmaid"]).table
    for name in ("synapses_cave.csv", "connectors.csv"):
        table = pd.read_csv(tmp_path / name)
        assert table["segment_a"].tolist() == found["segment_a"].tolist()
        assert table["segment_b"].tolist() == found["segment_b"].tolist()


def test_an_empty_table_has_a_header(tmp_path):
    find_synapses(Volume(np.zeros((2, 3, 4), np.uint8), SIZE_NM), tmp_path, formats=["cave", "catmaid"])
    assert len(pd.read_csv(tmp_path / "synapses_cave.csv")) == len(pd.read_csv(tmp_path / "connectors.csv")) == 0


@pytest.mark.parametrize("name", ["cave:40", "cave:", "cave:0,4,4", "cave:a,b,c", "cave:40,4,nan"])
def test_a_resolution_that_is_none_is_refused(prediction, tmp_path, name):
    with pytest.raises(InputError, match="expected three lengths in nm"):
        find_synapses(prediction, tmp_path, formats=[name])


def test_the_command_writes_them_and_does_not_replace_others(prediction, tmp_path, capsys):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/synapses_cave.json").write_text("mine")
    arguments = ["synapses", f"{tmp_path}/p.hdf", f"{tmp_path}/out", "--format", "cave:40,4,4", "--format", "catmaid"]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "synapses_cave.json exists already" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--overwrite"])
    assert (tmp_path / "out/synapses_cave.csv").exists()
    assert (tmp_path / "out/connectors.csv").exists()
