"""`find_synapses` and its verb: what they leave on disk, after a crash too."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pytest

from cleftnet.blockwise import ExecutionSettings, UnfinishedError
from cleftnet.cli import main
from cleftnet.datasets import write_submission
from cleftnet.errors import InputError
from cleftnet.models.operating_point import OperatingPoint
from cleftnet.synapses import COLUMNS, SynapseSettings, find_synapses
from cleftnet.synapses.blocks import LabelWriter, PartMeasurer
from cleftnet.volumes import CLEFT_ZERO, LABELS, Volume, open_volume, write_volume

SIZE_NM = (50.0, 4.0, 4.0)
SHAPE = (20, 130, 140)  # in blocks of 16×128×128 eight, seven of them slivers
ANY_SIZE = {"synapses": {"threshold": 0.5}}  # an operating point that keeps components of any size
SMALL = ExecutionSettings(block=(16, 128, 128), tries=1)


@pytest.fixture(scope="module")
def prediction():
    """Random blobs over all blocks."""
    rng = np.random.default_rng(0)
    values = np.zeros(SHAPE, np.uint8)
    for _ in range(60):
        z, y, x = (rng.integers(0, n) for n in SHAPE)
        values[z : z + 3, y : y + 6, x : x + 12] = rng.integers(100, 256)
    return Volume(values, SIZE_NM, (100.0, 40.0, 80.0), threshold=0.5, provenance=ANY_SIZE)


def rows(folder):
    with (folder / "synapses.csv").open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_labels_and_table_agree_and_nothing_else_is_left(prediction, tmp_path):
    found = find_synapses(prediction, tmp_path / "out", execution=SMALL)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels.zarr", "synapses.csv"]
    labels = open_volume(tmp_path / "out" / "labels.zarr", default=LABELS)
    assert labels.dtype == np.uint64
    assert labels.voxel_size == SIZE_NM
    assert labels.offset_nm == prediction.offset_nm
    ids, voxels = np.unique(labels.read(), return_counts=True)
    table = rows(tmp_path / "out")
    assert [int(row["synapse_id"]) for row in table] == list(range(1, len(found.table) + 1)) == ids[1:].tolist()
    assert [float(row["volume_nm3"]) for row in table] == (voxels[1:] * 800).tolist()
    first = np.unique(labels.read(), return_index=True)[1][1:]
    assert (np.diff(first) > 0).all()  # numbered by their first voxels


def test_the_size_of_the_blocks_changes_no_byte(prediction, tmp_path):
    find_synapses(prediction, tmp_path / "small", execution=SMALL)
    find_synapses(prediction, tmp_path / "whole")
    assert contents(tmp_path / "small") == contents(tmp_path / "whole")


def test_worker_processes_find_the_same(prediction, tmp_path):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    find_synapses(tmp_path / "p.hdf", tmp_path / "here", execution=SMALL)
    find_synapses(tmp_path / "p.hdf", tmp_path / "there", execution=ExecutionSettings(block=SMALL.block, workers=1))
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.parametrize("work", [PartMeasurer, LabelWriter])
def test_a_run_that_broke_off_goes_on_to_the_same_bytes(prediction, tmp_path, monkeypatch, work):
    find_synapses(prediction, tmp_path / "whole", execution=SMALL)
    written, write = [], work.write

    def until_the_third(self, block, result):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(self, block, result)
        written.append(block)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            find_synapses(prediction, tmp_path / "out", execution=SMALL)
    assert not (tmp_path / "out" / "labels.zarr").exists()
    again = []
    monkeypatch.setattr(work, "write", lambda self, block, result: (again.append(block), write(self, block, result)))
    find_synapses(prediction, tmp_path / "out", execution=SMALL)
    assert not {str(block) for block in again} & {str(block) for block in written[:2]}  # the third may not be recorded
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_killed_run_goes_on_to_the_same_bytes(prediction, tmp_path):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    find_synapses(tmp_path / "p.hdf", tmp_path / "whole", execution=SMALL)
    slowly = """
        import sys, time
        from cleftnet.blockwise import ExecutionSettings
        from cleftnet.synapses import find_synapses
        from cleftnet.synapses.blocks import PartMeasurer
        write = PartMeasurer.write
        PartMeasurer.write = lambda self, block, parts: (time.sleep(0.3), write(self, block, parts))
        find_synapses(sys.argv[1], sys.argv[2], execution=ExecutionSettings(block=(16, 128, 128)))
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(slowly), tmp_path / "p.hdf", tmp_path / "out"])
    done = tmp_path / "out" / "parts.unfinished" / "blocks.txt"
    while not (done.exists() and len(done.read_text().splitlines()) >= 2):
        assert run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    find_synapses(tmp_path / "p.hdf", tmp_path / "out", execution=SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_run_that_broke_off_is_not_finished_with_other_rules(prediction, tmp_path, monkeypatch):
    def fail(self, block, result):
        raise ValueError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(LabelWriter, "write", fail)
        with pytest.raises(UnfinishedError):
            find_synapses(prediction, tmp_path, execution=SMALL)
    with pytest.raises(InputError, match=r"begun with min_size_nm3 0\.0, not 9000\.0"):
        find_synapses(prediction, tmp_path, settings=SynapseSettings(min_size_nm3=9000.0), execution=SMALL)
    assert len(find_synapses(prediction, tmp_path, settings=SynapseSettings(min_size_nm3=9000.0), overwrite=True).table)


def test_a_prediction_rewritten_in_place_is_refused_unless_it_is_accepted(prediction, tmp_path, monkeypatch):
    def fail(self, block, result):
        raise ValueError("lost")

    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    with monkeypatch.context() as patch:
        patch.setattr(LabelWriter, "write", fail)
        with pytest.raises(UnfinishedError):
            find_synapses(tmp_path / "p.hdf", tmp_path / "out", execution=SMALL)
    changed = replace(prediction, store=255 - prediction.read())
    write_volume(changed, tmp_path / "p.hdf", default="volumes/probability", overwrite=True)
    with pytest.raises(InputError, match="the voxels of the prediction have changed since"):
        find_synapses(tmp_path / "p.hdf", tmp_path / "out", execution=SMALL)
    accepting = SMALL.model_copy(update={"accept_changed_input": True})
    assert len(find_synapses(tmp_path / "p.hdf", tmp_path / "out", execution=accepting).table)


def test_an_empty_prediction_leaves_an_empty_table_with_all_columns(tmp_path):
    write_volume(Volume(np.zeros((4, 20, 30), np.uint8), SIZE_NM), tmp_path / "p.hdf", default="volumes/probability")
    with pytest.raises(SystemExit, match="0"):
        main(["synapses", str(tmp_path / "p.hdf"), str(tmp_path / "out")])
    assert (tmp_path / "out" / "synapses.csv").read_text() == ",".join(column.name for column in COLUMNS) + "\n"
    assert not open_volume(tmp_path / "out" / "labels.zarr", default=LABELS).read().any()


def test_cleft_everywhere_is_one_synapse(tmp_path):
    found = find_synapses(Volume(np.full(SHAPE, 255, np.uint8), SIZE_NM), tmp_path, execution=SMALL)
    assert found.table["volume_nm3"].tolist() == [np.prod(SHAPE) * 800]
    assert found.table["touches_border"].tolist() == [True]
    assert (found.labels.read() == 1).all()


class Constant:
    """The store of a volume that has one value everywhere and takes no memory."""

    def __init__(self, shape, value):
        self.shape, self.value, self.dtype = shape, value, value.dtype

    def __getitem__(self, index):
        return np.full([len(range(n)[part]) for n, part in zip(self.shape, index, strict=True)], self.value)


@pytest.mark.parametrize("with_neurons", [False, True])
def test_cleft_everywhere_takes_the_memory_of_a_block_however_large_the_volume(tmp_path, with_neurons):
    def peak(shape):
        ids = Volume(Constant(shape, np.uint64(5)), SIZE_NM)
        settings = SynapseSettings(segmentation=ids if with_neurons else None)
        tracemalloc.start()
        try:
            values = Volume(Constant(shape, np.uint8(255)), SIZE_NM)
            found = find_synapses(values, tmp_path / str(shape), settings=settings, execution=SMALL)
            assert len(found.table) == 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak((16, 128, 128))  # what is imported at the first use
    assert peak((32, 384, 512)) < 1.6 * peak((32, 256, 256))  # three times the voxels; threads of a busy machine lag


def test_thresholds_are_those_of_the_prediction_unless_others_are_given():
    values = np.zeros((1, 1, 9), np.uint8)
    values[..., 1], values[..., 4:6], values[..., 8] = 120, (128, 250), 128

    def ids(folder, **chosen):
        volume, every = Volume(values, SIZE_NM, threshold=0.5), {"min_size_nm3": 0}
        return (
            find_synapses(volume, folder, settings=SynapseSettings(**(every | chosen))).labels.read().ravel().tolist()
        )

    import tempfile

    with tempfile.TemporaryDirectory() as name:
        assert ids(f"{name}/stored") == [0, 0, 0, 0, 1, 1, 0, 0, 2]
        assert ids(f"{name}/lower", threshold=0.4) == [0, 1, 0, 0, 2, 2, 0, 0, 3]
        assert ids(f"{name}/seeds", seed_threshold=0.9) == [0, 0, 0, 0, 1, 1, 0, 0, 0]
        assert ids(f"{name}/size", min_size_nm3=1600) == [0, 0, 0, 0, 1, 1, 0, 0, 0]


def test_it_is_said_that_a_lower_threshold_of_seeds_may_find_more(messages):
    pale = Volume(np.full((1, 4, 4), 150, np.uint8), SIZE_NM)
    for seed, said in ((0.9, True), (0, False)):
        messages.clear()
        point = OperatingPoint(threshold=0.5, seed_threshold=seed)
        assert len(find_synapses(pale, settings=SynapseSettings(point=point)).table) == (seed == 0)
        assert ("each must have a voxel of at least 0.9; where" in messages.text) == said


@pytest.mark.parametrize("dtype", [bool, np.uint64])
def test_masks_and_labels_are_certain(tmp_path, dtype):
    values = np.zeros((2, 3, 4), dtype)
    values[0, 1] = 1
    table = find_synapses(Volume(values, SIZE_NM), tmp_path).table
    assert (table["mean_probability"].tolist(), table["sum_probability"].tolist()) == ([1.0], [4.0])


def test_the_kind_of_a_prediction_can_be_said(tmp_path):
    values = np.zeros((2, 3, 4), np.uint8)
    values[0, 1] = 1
    assert (
        len(find_synapses(Volume(values, SIZE_NM), tmp_path / "said", settings=SynapseSettings(kind="mask")).table) == 1
    )
    assert len(find_synapses(Volume(values, SIZE_NM), tmp_path / "not").table) == 0


def test_a_prediction_without_voxel_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="voxel_size_nm="):
        find_synapses(Volume(np.zeros((2, 3, 4), np.uint8)), tmp_path)


def test_results_are_not_replaced_unasked(prediction, tmp_path):
    (tmp_path / "synapses.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        find_synapses(prediction, tmp_path)
    assert (tmp_path / "synapses.csv").read_text() == "mine"
    find_synapses(prediction, tmp_path, overwrite=True)
    assert rows(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.5}, r"threshold: .*less than or equal to 1 \(given: 1.5\)"),
        ({"threshold": 0.5, "seed_threshold": 0.4}, "seed_threshold=0.4 is below threshold=0.5"),
        ({"gap": -1}, r"gap: .*\(given: -1\)"),
        ({"hole_nm": float("nan")}, r"hole_nm: .*\(given: nan\)"),
        ({"min_size_nm3": -1.0}, r"min_size_nm3: .*\(given: -1.0\)"),
        ({"reach_nm": -1.0}, r"reach_nm: .*\(given: -1.0\)"),
        ({"reach_nm": float("inf")}, r"reach_nm: .*\(given: inf\)"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        SynapseSettings(**values)


def test_the_verb_prints_one_json_object(prediction, tmp_path, capsys):
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    with pytest.raises(SystemExit, match="0"):
        main(["synapses", str(tmp_path / "p.hdf"), str(tmp_path / "out"), "--format", "hdf", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["synapses"] == len(rows(tmp_path / "out"))
    assert said["threshold"] == 0.5
    labels = open_volume(said["labels"], default=LABELS)
    assert int(labels.read().max()) == said["synapses"]
    assert CLEFT_ZERO not in labels.read()


def test_a_cremi_file_of_the_synapses_keeps_their_ids(prediction, tmp_path):
    find_synapses(prediction, tmp_path, settings=SynapseSettings(min_size_nm3=5e4), formats=["hdf"])
    write_submission(tmp_path / "labels.hdf", tmp_path / "A+.hdf")
    with h5py.File(tmp_path / "labels.hdf") as ours, h5py.File(tmp_path / "A+.hdf") as theirs:
        ids, cremi = ours["volumes/labels/clefts"][:], theirs["volumes/labels/clefts"][:]
    np.testing.assert_array_equal(cremi, np.where(ids == 0, 2**64 - 1, ids))


def test_an_unknown_format_is_refused(prediction, tmp_path):
    with pytest.raises(InputError, match="'xlsx' is no format"):
        find_synapses(prediction, tmp_path, formats=["xlsx"])


def test_a_parquet_table_has_the_columns_of_the_csv(prediction, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    find_synapses(prediction, tmp_path, formats=["parquet"])
    assert parquet.read_table(tmp_path / "synapses.parquet").column_names == [column.name for column in COLUMNS]


def test_in_memory_the_labels_and_the_table_are_those_on_disk_and_nothing_is_written(prediction, tmp_path, monkeypatch):
    on_disk = find_synapses(prediction, tmp_path / "out", execution=SMALL)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    found = find_synapses(prediction, execution=SMALL)
    assert contents(tmp_path) == before
    np.testing.assert_array_equal(found.labels.read(), on_disk.labels.read())
    assert (found.labels.voxel_size, found.labels.offset_nm) == (SIZE_NM, prediction.offset_nm)
    assert list(found.table.columns) == list(on_disk.table.columns)
    for name in found.table.columns:
        np.testing.assert_array_equal(found.table[name], on_disk.table[name])
    paths = {"labels": str(tmp_path / "out" / "labels.zarr"), "table": str(tmp_path / "out" / "synapses.csv")}
    assert on_disk.summary() == {**found.summary(), **paths}


def test_an_array_is_searched_as_the_volume_of_it_is(prediction):
    found = find_synapses(prediction.read(), voxel_size_nm=SIZE_NM)
    expected = find_synapses(Volume(prediction.read(), SIZE_NM))
    np.testing.assert_array_equal(found.labels.read(), expected.labels.read())
    assert found.table["z_nm"].tolist() == expected.table["z_nm"].tolist()
    with pytest.raises(InputError, match="carries no voxel size"):
        find_synapses(prediction.read())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"formats": ["csv"]}, "give out="), ({"execution": ExecutionSettings(workers=1)}, "give out=")],
)
def test_what_needs_a_folder_is_refused_in_memory(prediction, options, message):
    with pytest.raises(InputError, match=message):
        find_synapses(prediction, **options)


def test_in_memory_the_neurons_of_an_array_are_found_too(prediction, tmp_path):
    settings = SynapseSettings(segmentation=np.random.default_rng(1).integers(0, 5, SHAPE).astype(np.uint32))
    given = {"voxel_size_nm": SIZE_NM, "settings": settings, "execution": SMALL}
    on_disk, found = find_synapses(prediction.read(), tmp_path, **given), find_synapses(prediction.read(), **given)
    assert found.table["contact_a"].max() > 0
    for name in ("segment_a", "contact_a", "segment_b", "contact_b"):
        np.testing.assert_array_equal(found.table[name], on_disk.table[name])
