"""The annotations read back by neuroglancer's specification, byte by byte."""

import json
import struct

import numpy as np
import pytest

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.volumes import Volume, write_volume

SIZE_NM, OFFSET_NM = (50.0, 4.0, 5.0), (100.0, 40.0, 50.0)  # the first voxel is number 2 10 10
FORMATS = {"float32": "f"}


@pytest.fixture
def prediction():
    """Two synapses, of 2 and of 12 voxels."""
    values = np.zeros((4, 20, 30), np.uint8)
    values[1, 2, 3:5] = 204
    values[2, 9:12, 20:24] = 255
    return Volume(values, SIZE_NM, OFFSET_NM)


def one(data, info):
    """Return place, properties and what follows of the single encoding: float32le vectors, values, padding."""
    layout = "<3f" + "".join(FORMATS[entry["type"]] for entry in info["properties"])
    values = struct.unpack_from(layout, data)
    names = [entry["id"] for entry in info["properties"]]
    return values[:3], dict(zip(names, values[3:], strict=True)), data[struct.calcsize(layout) :]


def several(data, info):
    """Return places and properties by id of the multiple encoding: count, annotations, ids."""
    (count,) = struct.unpack_from("<Q", data)
    rest, found = data[8:], []
    for _ in range(count):
        place, properties, rest = one(rest, info)
        found.append((place, properties))
    ids = struct.unpack(f"<{count}Q", rest)  # and nothing after them
    return dict(zip(ids, found, strict=True))


def related(data, info):
    """Return the neurons of each relationship: a count, then ids."""
    found = {}
    for entry in info["relationships"]:
        (count,) = struct.unpack_from("<I", data)
        found[entry["id"]] = list(struct.unpack_from(f"<{count}Q", data, 4))
        data = data[4 + 8 * count :]
    assert not data
    return found


def test_every_index_holds_the_points_of_the_table(prediction, tmp_path):
    ids = np.full(prediction.shape, 7, np.uint64)
    ids[2:, 10:] = 2**40
    settings = SynapseSettings(segmentation=Volume(ids, SIZE_NM, OFFSET_NM))
    table = find_synapses(prediction, tmp_path, settings=settings, formats=["annotations"]).table
    folder = tmp_path / "annotations"
    info = json.loads((folder / "info").read_text())
    assert info["@type"] == "neuroglancer_annotations_v1"
    assert info["dimensions"] == {"x": [5e-9, "m"], "y": [4e-9, "m"], "z": [5e-8, "m"]}
    assert (info["lower_bound"], info["upper_bound"]) == ([10, 10, 2], [40, 30, 6])
    assert info["annotation_type"] == "POINT"
    (level,) = info["spatial"]
    assert [g * c for g, c in zip(level["grid_shape"], level["chunk_size"], strict=True)] == [30, 20, 4]
    everywhere = several((folder / level["key"] / "0_0_0").read_bytes(), info)
    assert sorted(everywhere) == [1, 2]
    assert level["limit"] >= 2
    for row, synapse in enumerate((1, 2)):
        place, properties, rest = one((folder / info["by_id"]["key"] / str(synapse)).read_bytes(), info)
        assert (place, properties) == everywhere[synapse]
        assert properties == {name: np.float32(table[name][row]) for name in properties}
        meeting = {name: [int(table[name][row])] if table[name][row] else [] for name in ("segment_a", "segment_b")}
        assert related(rest, info) == meeting
        for entry in info["relationships"]:
            for segment in meeting[entry["id"]]:
                assert synapse in several((folder / entry["key"] / str(segment)).read_bytes(), info)
    # voxels 3 and 4 along x reach from 13 to 15 with the offset, their centroid is in the middle
    assert everywhere[1][0] == (14, 12.5, 3.5)
    assert everywhere[1][1]["volume_nm3"] == 2 * 1000
    assert 2**40 in table["segment_b"].tolist()


def test_an_empty_table_is_an_empty_collection(tmp_path):
    empty = Volume(np.zeros((2, 3, 4), np.uint8), SIZE_NM)
    find_synapses(empty, tmp_path, formats=["annotations", "hdf"])
    info = json.loads((tmp_path / "annotations" / "info").read_text())
    assert several((tmp_path / "annotations" / "spatial0" / "0_0_0").read_bytes(), info) == {}
    assert (info["relationships"], list((tmp_path / "annotations" / "by_id").iterdir())) == ([], [])
    assert (tmp_path / "labels.hdf").exists()


def test_annotations_are_written_only_when_asked_for_and_not_over_others(prediction, tmp_path):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    find_synapses(prediction, tmp_path / "without")
    assert not (tmp_path / "without" / "annotations").exists()
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "out" / "annotations" / "mine").write_text("")
    with pytest.raises(InputError, match="annotations exists already"):
        find_synapses(prediction, tmp_path / "out", formats=["annotations"])
    with pytest.raises(SystemExit, match="0"):
        main(["synapses", f"{tmp_path}/p.hdf", f"{tmp_path}/out", "--format", "annotations", "--overwrite"])
    assert not (tmp_path / "out" / "annotations" / "mine").exists()
