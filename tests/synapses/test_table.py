"""The geometry of known plates, and what every column says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cleftnet.synapses import COLUMNS, SynapseSettings, find_synapses, write_table
from cleftnet.volumes import Volume

VNC_NM, CUBES_NM = (50.0, 4.6, 4.6), (4.0, 4.0, 4.0)
ANY_SIZE = SynapseSettings(min_size_nm3=0)


def plate(normal, shape, size_nm, sides_nm=(400.0, 300.0), thickness_nm=30.0):
    """Return a mask: the voxels whose centers lie in a box of these sides, its thickness along `normal`, in the middle."""
    normal = np.array(normal) / np.linalg.norm(normal)
    across = np.cross(normal, (0, 0, 1) if abs(normal[2]) < 0.9 else (0, 1, 0))
    across /= np.linalg.norm(across)
    axes = np.stack([normal, across, np.cross(normal, across)])
    middle = (np.array(shape) - 1) / 2
    where = (np.stack(np.indices(shape), -1) - middle) * size_nm
    return (np.abs(where @ axes.T) <= np.array([thickness_nm, *sides_nm]) / 2).all(-1)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 1, 1), (1, -2, 0.5)])
def test_a_flat_plate_of_400_by_300_nm_in_cubic_voxels(tmp_path, normal):
    """Area to 4 %, normal to 1 degree, longest extent (its diagonal, 501 nm with the thickness) to 5 %."""
    mask = plate(normal, (140, 140, 140), CUBES_NM)
    table = find_synapses(Volume(mask, CUBES_NM), tmp_path).table
    assert len(table) == 1
    assert table["area_nm2"][0] == pytest.approx(400 * 300, rel=0.04)
    assert table["extent_nm"][0] == pytest.approx(501, rel=0.05)
    found = np.array([table[f"normal_{axis}"][0] for axis in "zyx"])
    assert abs(found @ normal) / np.linalg.norm(normal) >= np.cos(np.deg2rad(1))
    assert found[np.abs(found).argmax()] > 0


@pytest.mark.parametrize(
    ("normal", "degrees", "share"), [((0, 1, 0), 1, 0.04), ((0, 1, 1), 1, 0.04), ((1, 0, 0), 1, 0.07)]
)
def test_a_flat_plate_in_sections_of_50_nm(tmp_path, normal, degrees, share):
    """A plate across the sections keeps its area to 4 %; one within a section is as thick as that, which adds 2 %."""
    mask = plate(normal, (21, 141, 141), VNC_NM, sides_nm=(450.0, 450.0), thickness_nm=32.0)
    table = find_synapses(Volume(mask, VNC_NM), tmp_path).table
    assert len(table) == 1
    assert table["area_nm2"][0] == pytest.approx(450 * 450, rel=share)
    found = np.array([table[f"normal_{axis}"][0] for axis in "zyx"])
    assert abs(found @ normal) / np.linalg.norm(normal) >= np.cos(np.deg2rad(degrees))


def test_a_single_voxel(tmp_path):
    """At 1 2 3 of voxels of 50×4×4 nm, whose first lies at 100 40 80 nm."""
    values = np.zeros((3, 5, 7), np.uint8)
    values[1, 2, 3] = 255
    table = find_synapses(Volume(values, (50.0, 4.0, 4.0), (100.0, 40.0, 80.0)), tmp_path, settings=ANY_SIZE).table
    said = {name: float(table[name][0]) for name in table.columns}
    assert [said[name] for name in ("z_nm", "y_nm", "x_nm")] == [150, 48, 92]
    assert [said[name] for name in ("z", "y", "x")] == [1, 2, 3]
    assert [said[name] for name in ("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop")] == [
        1,
        2,
        3,
        2,
        3,
        4,
    ]
    assert said["volume_nm3"] == 800
    assert said["sections"] == 1
    assert said["touches_border"] == 0
    assert said["mean_probability"] == said["max_probability"] == said["sum_probability"] == said["score"] == 1


@pytest.mark.parametrize("corner", [(0, 2, 3), (2, 2, 3), (1, 0, 3), (1, 4, 3), (1, 2, 0), (1, 2, 6)])
def test_a_synapse_at_any_face_touches_the_border(tmp_path, corner):
    values = np.zeros((3, 5, 7), np.uint8)
    values[corner] = 255
    table = find_synapses(Volume(values, (50.0, 4.0, 4.0)), tmp_path, settings=ANY_SIZE).table
    assert table["touches_border"].tolist() == [True]


def test_the_documentation_lists_every_column_with_its_meaning():
    said = (Path(__file__).parents[2] / "docs" / "synapses.md").read_text()
    assert "".join(f"| `{column.name}` | {column.meaning} |\n" for column in COLUMNS) in said


def test_the_table_has_the_columns_that_are_declared(tmp_path):
    values = np.full((2, 3, 4), 255, np.uint8)
    table = find_synapses(Volume(values, (50.0, 4.0, 4.0)), tmp_path, settings=ANY_SIZE).table
    assert list(table.columns) == [column.name for column in COLUMNS]


def test_the_table_is_a_dataframe_and_its_file_holds_it_rounded_to_the_decimals_of_its_columns(tmp_path):
    mask = plate((0, 1, 1), (21, 141, 141), VNC_NM)
    mask[:3, :9, :9] = True
    table = find_synapses(Volume(mask, VNC_NM), tmp_path).table
    assert isinstance(table, pd.DataFrame)
    read = pd.read_csv(tmp_path / "synapses.csv")
    for column in COLUMNS:
        expected = table[column.name].astype(float).round(column.decimals or 0)
        np.testing.assert_allclose(read[column.name], expected, atol=1e-9)


def test_a_file_has_the_bytes_that_its_columns_say(tmp_path, monkeypatch):
    """Fixed decimals, no -0, whole numbers without a point, flags as 0 and 1; written in pieces of two rows."""
    monkeypatch.setattr("cleftnet.synapses.table.ROWS", 2)
    table = pd.DataFrame(
        {
            "synapse_id": [1, 2, 3],
            "z_nm": [-0.001, 2.5, 1e7 / 3],
            "touches_border": [True, False, True],
            "segment_a": np.array([2**63 + 1, 0, 7], np.uint64),
            "contact_a": [0.5, 0.0, 1 / 3],
        }
    )
    write_table(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().splitlines() == [
        b"synapse_id,z_nm,touches_border,segment_a,contact_a",
        b"1,0.00,1,9223372036854775809,0.5000",
        b"2,2.50,0,0,0.0000",
        b"3,3333333.33,1,7,0.3333",
    ]
