"""The annotations read back by neuroglancer's specification, byte by byte."""

import itertools
import json
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorstore as ts

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.synapses import SynapseSettings, find_synapses
from cleftnet.synapses.annotations import LIMIT, PROPERTIES, write_annotations
from cleftnet.volumes import Volume, write_volume

SIZE_NM, OFFSET_NM = (50.0, 4.0, 5.0), (100.0, 40.0, 50.0)  # the first voxel is number 2 10 10
FORMATS = {"float32": "f"}


@pytest.fixture
def prediction():
    """Two synapses, of 2 and of 12 voxels."""
    values = np.zeros((4, 20, 30), np.uint8)
    values[1, 2, 3:5] = 204
    values[2, 9:12, 20:24] = 255
    any_size = {"synapses": {"threshold": 0.5}}
    return Volume(values, SIZE_NM, OFFSET_NM, provenance=any_size)


def shards(folder, index):
    """The values of an index by key, read by tensorstore."""
    spec = {
        "driver": "neuroglancer_uint64_sharded",
        "base": f"file://{folder}/{index['key']}/",
        "metadata": index["sharding"],
    }
    return ts.KvStore.open(spec).result()


def value(store, key):
    """The value of a key; None where there is none."""
    found = store.read(int(key).to_bytes(8, "big")).result()
    return bytes(found.value) if found.state == "value" else None


def code(cell, grid):
    """The compressed Morton code of a cell, as the format describes it, bit by bit."""
    result, place = 0, 0
    for bit in range(64):
        for position, side in zip(cell, grid, strict=True):
            if 2**bit < side:
                result |= (position >> bit & 1) << place
                place += 1
    return result


def in_box(folder, info, start, stop):
    """Ids and places of all synapses in a box, from the cells of every level that meet it, as a viewer loads them."""
    found = {}
    for level in info["spatial"]:
        store, corner = shards(folder, level), np.array(info["lower_bound"])
        chunk, grid = np.array(level["chunk_size"]), level["grid_shape"]
        first = np.clip((start - corner) // chunk, 0, np.array(grid) - 1).astype(int)
        last = np.clip((stop - corner) // chunk, 0, np.array(grid) - 1).astype(int)
        for cell in itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            data = value(store, code(cell, grid))
            if data is not None:
                (count,) = struct.unpack_from("<Q", data)
                assert count <= level["limit"]
                places = np.frombuffer(data, "<f4", count * 8, 8).reshape(count, 8)[:, :3]
                ids = np.frombuffer(data, "<u8", count, 8 + count * 32)
                inside = ((places >= start) & (places < stop)).all(axis=1)
                found |= dict(zip(ids[inside].tolist(), places[inside].tolist(), strict=True))
    return found


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
    everywhere = several(value(shards(folder, level), 0), info)
    assert sorted(everywhere) == [1, 2]
    assert level["limit"] >= 2
    for row, synapse in enumerate((1, 2)):
        place, properties, rest = one(value(shards(folder, info["by_id"]), synapse), info)
        assert (place, properties) == everywhere[synapse]
        assert properties == {name: np.float32(table[name][row]) for name in properties}
        meeting = {name: [int(table[name][row])] if table[name][row] else [] for name in ("segment_a", "segment_b")}
        assert related(rest, info) == meeting
        for entry in info["relationships"]:
            for segment in meeting[entry["id"]]:
                assert synapse in several(value(shards(folder, entry), segment), info)
    # voxels 3 and 4 along x reach from 13 to 15 with the offset, their centroid is in the middle
    assert everywhere[1][0] == (14, 12.5, 3.5)
    assert everywhere[1][1]["volume_nm3"] == 2 * 1000
    assert 2**40 in table["segment_b"].tolist()


def test_an_empty_table_is_an_empty_collection(tmp_path):
    empty = Volume(np.zeros((2, 3, 4), np.uint8), SIZE_NM)
    find_synapses(empty, tmp_path, formats=["annotations", "hdf"])
    info = json.loads((tmp_path / "annotations" / "info").read_text())
    assert value(shards(tmp_path / "annotations", info["spatial"][0]), 0) is None
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


class Extent:
    """The voxels of a volume that is not there: its sides alone are asked for."""

    shape, dtype = (2000, 20_000, 10_000), np.dtype(np.uint8)


LARGE = Volume(Extent(), SIZE_NM, OFFSET_NM)


def random_table(number, **columns):
    """Synapses at random places of the large volume, half of them in a hundredth of it."""
    random = np.random.default_rng(0)
    places = random.random((number, 3)) * LARGE.shape
    places[: number // 2] *= 0.01 ** (1 / 3)
    places_nm = places * SIZE_NM + OFFSET_NM
    numbers = {name: random.random(number) for name in PROPERTIES}
    by_axis = {f"{axis}_nm": places_nm[:, n] for n, axis in enumerate("zyx")}
    return pd.DataFrame({"synapse_id": np.arange(1, number + 1), **by_axis, **numbers, **columns})


def expected_in_box(table, start, stop):
    places = np.stack([table[f"{a}_nm"] / s + 0.5 for a, s in zip("xyz", SIZE_NM[::-1], strict=True)], axis=1)
    places = places.astype(np.float32)
    inside = ((places >= start) & (places < stop)).all(axis=1)
    return dict(zip(table["synapse_id"][inside].tolist(), places[inside].tolist(), strict=True))


def high_water_bytes():
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_a_million_are_written_in_bounded_memory_and_read_back_by_box(tmp_path):
    """The table alone has 72 MB; beyond it at most 300 MB, and cells of at most 1000 synapses in few files."""
    table = random_table(1_000_000)
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_bytes()
    write_annotations(table, LARGE, tmp_path / "annotations")
    assert high_water_bytes() - before < 300e6
    folder = tmp_path / "annotations"
    assert sum(1 for path in folder.rglob("*") if path.is_file()) < 1000
    info = json.loads((folder / "info").read_text())
    assert all(level["limit"] <= LIMIT for level in info["spatial"])
    assert len(info["spatial"]) > 3
    for start, stop in (((10, 10, 2), (800, 700, 300)), ((5000, 9000, 1000), (6000, 11_000, 1200))):
        expected = expected_in_box(table, start, stop)
        assert len(expected) > 100
        assert in_box(folder, info, np.array(start), np.array(stop)) == expected
    for synapse in (1, 512, 513, 1_000_000):
        place, properties, rest = one(value(shards(folder, info["by_id"]), synapse), info)
        row = table.iloc[synapse - 1]
        assert place == pytest.approx([row[f"{a}_nm"] / s + 0.5 for a, s in zip("xyz", SIZE_NM[::-1], strict=True)])
        assert properties == {name: np.float32(row[name]) for name in PROPERTIES}
        assert rest == b""


def test_the_first_level_is_a_fair_sample_and_every_synapse_is_in_one_level(tmp_path):
    """Half of the synapses lie in a hundredth of the volume, and so do half of those that are shown first."""
    table = random_table(20_000)
    write_annotations(table, LARGE, tmp_path / "annotations")
    info = json.loads((tmp_path / "annotations/info").read_text())
    first = several(value(shards(tmp_path / "annotations", info["spatial"][0]), 0), info)
    assert len(first) == LIMIT
    assert 0.4 < np.mean([synapse <= 10_000 for synapse in first]) < 0.6
    counts = 0
    for level in info["spatial"]:
        store = shards(tmp_path / "annotations", level)
        counts += sum(
            struct.unpack_from("<Q", value(store, int.from_bytes(key, "big")))[0] for key in store.list().result()
        )
    assert counts == 20_000


def test_synapses_of_a_neuron_are_found_by_its_id_whatever_the_id(tmp_path):
    neurons = np.array([0, 7, 2**63 + 5, 2**40, 7] * 1000, np.uint64)
    table = random_table(5000, segment_a=neurons, segment_b=np.arange(1, 5001))
    write_annotations(table, LARGE, tmp_path / "annotations")
    info = json.loads((tmp_path / "annotations/info").read_text())
    store = shards(tmp_path / "annotations", info["relationships"][0])
    assert len(several(value(store, 7), info)) == 2000
    assert sorted(several(value(store, 2**63 + 5), info)) == list(range(3, 5001, 5))
    other = shards(tmp_path / "annotations", info["relationships"][1])
    assert [list(several(value(other, n), info)) for n in (1, 4999)] == [[1], [4999]]


def test_synapses_in_one_voxel_end_in_one_cell(tmp_path):
    table = random_table(3 * LIMIT)
    for axis in "zyx":
        table[f"{axis}_nm"] = 1000.0
    write_annotations(table, LARGE, tmp_path / "annotations")
    info = json.loads((tmp_path / "annotations/info").read_text())
    assert len(in_box(tmp_path / "annotations", info, np.array([0, 0, 0]), np.array([1000, 1000, 1000]))) == 3 * LIMIT
