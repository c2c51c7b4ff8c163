"""Which neurons meet at a synapse: on hand-made plates, and block by block as in the whole."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.blockwise import ExecutionSettings
from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.synapses import COLUMNS, PARTNERS, SynapseSettings, find_synapses
from cleftnet.synapses.contacts import ContactCounter
from cleftnet.volumes import Volume, write_volume

SIZE_NM = (20.0, 10.0, 10.0)
SHAPE = (9, 30, 40)
NOBODY = np.uint64(0)


@pytest.fixture
def plate():
    """A plate of 5×3×20 voxels, its normal along y, between y 14 and 16."""
    mask = np.zeros(SHAPE, bool)
    mask[2:7, 14:17, 10:30] = True
    return Volume(mask, SIZE_NM)


def segments(below, above):
    """Return ids: one below y = 15, another from there on."""
    ids = np.full(SHAPE, below, np.uint64)
    ids[:, 15:] = above
    return ids


def met(prediction, ids, folder, **options):
    table = find_synapses(
        prediction, folder, settings=SynapseSettings(segmentation=Volume(ids, SIZE_NM), **options)
    ).table
    return [table[column.name].tolist() for column in PARTNERS]


def test_the_two_sides_of_a_plate_are_named_by_its_normal(plate, tmp_path):
    """The normal is +y: b lies at larger y, a at smaller."""
    assert met(plate, segments(7, 9), tmp_path) == [[7], [9], [1], [1]]


def test_contact_is_counted_in_voxels_within_the_reach(plate, tmp_path):
    """At a reach of 20 nm, on side a: the plate's own layer y 14, and two more, y 12 and 13.

    y 14: 5 sections × 20 voxels, a section more on either side (20 nm), and 2 voxels more at either end of x; both together are
    22 nm, too far. So 5 × 24 + 2 × 20 = 160. y 13 (10 nm): 1 voxel more at either end (14 nm), 2 are 22 nm off, and so are the
    sections beyond: 5 × 22 = 110. y 12 (20 nm): 5 × 20 = 100. In all 370.
    """
    ids = segments(7, 9)
    ids[2, 14, 10:30] = 5  # 20 of the 370
    assert met(plate, ids, tmp_path, reach_nm=20) == [[7], [9], [pytest.approx(350 / 370)], [1]]


def test_the_largest_of_several_wins_and_of_equals_the_smallest_id(plate, tmp_path):
    ids = segments(7, 9)
    ids[:, 15:, :15] = 3  # of the plate a quarter, and what lies left of it: 11 of 32 columns at most
    ids[:, :15, 20:] = 6  # a half
    found = met(plate, ids, tmp_path)
    assert found[:2] == [[6], [9]]
    assert found[2] == [0.5]
    assert 21 / 32 < found[3][0] < 3 / 4


def test_a_side_that_nobody_lies_on_has_id_0_and_share_0(plate, tmp_path):
    assert met(plate, segments(0, 9), tmp_path) == [[0], [9], [0], [1]]


def test_background_between_the_neurons_takes_no_share(plate, tmp_path):
    ids = segments(7, 9)
    ids[:, 13:18] = NOBODY
    assert met(plate, ids, tmp_path) == [[7], [9], [1], [1]]


def test_a_synapse_of_one_section_in_the_plane_meets_what_lies_above_and_below(tmp_path):
    """The reach is never less than a voxel: sections of 100 nm are reached at 60."""
    mask, size = np.zeros((5, 60, 60), bool), (100.0, 5.0, 5.0)
    mask[2, 5:55, 5:55] = True
    ids = np.full(mask.shape, 4, np.uint64)
    ids[3:] = 8
    table = find_synapses(Volume(mask, size), tmp_path, settings=SynapseSettings(segmentation=Volume(ids, size))).table
    assert (table["normal_z"].tolist(), table["segment_a"].tolist(), table["segment_b"].tolist()) == ([1], [4], [8])


def test_two_synapses_side_by_side_each_count_for_themselves(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[2:7, 14:17, 4:16], mask[2:7, 14:17, 24:36] = True, True
    ids = segments(7, 9)
    ids[:, 15:, 20:] = 11
    assert met(Volume(mask, SIZE_NM), ids, tmp_path)[:2] == [[7, 7], [9, 11]]


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 5), st.integers(2, 9), st.integers(2, 9)))
@settings(max_examples=15, deadline=None)
def test_contacts_in_blocks_add_up_to_those_of_the_whole(seed, block):
    """Counts of every synapse, side and segment: the work itself, on blocks of any size."""
    from functools import partial

    from cleftnet.blockwise import BlockGrid
    from cleftnet.geometry import Box
    from cleftnet.synapses.block_arrays import MemoryArrays
    from cleftnet.synapses.contacts import Contacts, PlacedSegmentation

    rng = np.random.default_rng(seed)
    shape = (7, 13, 15)
    labels = Volume(np.where(rng.random(shape) < 0.03, rng.integers(1, 5, shape), 0).astype(np.uint64), SIZE_NM)
    ids = Volume(rng.integers(0, 4, shape).astype(np.uint32), SIZE_NM)
    around = PlacedSegmentation.of(ids, 25.0, labels)
    planes = np.concatenate([rng.random((4, 3)) * shape, rng.standard_normal((4, 3))], axis=1)

    def counted(side):
        grid = BlockGrid(labels.box, side, reads=partial(Box.grow, by=around.halo))
        work = ContactCounter(labels, around, planes, MemoryArrays())
        return Contacts.total(*(work.compute(each, work.read(each), lambda share: None) for each in grid))

    for mine, whole in zip(counted(block), counted(shape), strict=True):
        np.testing.assert_array_equal(mine, whole)


@pytest.fixture
def many():
    """Plates of several orientations and a jigsaw of neurons, in two blocks and more."""
    rng = np.random.default_rng(3)
    shape = (20, 140, 150)
    values = np.zeros(shape, np.uint8)
    for _ in range(25):
        z, y, x = (rng.integers(0, n) for n in shape)
        values[z : z + 6, y : y + 3, x : x + 22] = 200
    ids = np.kron(rng.integers(0, 50, (5, 14, 15)), np.ones((4, 10, 10), int)).astype(np.uint64)
    any_size = {"synapses": {"threshold": 0.5}}
    return Volume(values, SIZE_NM, provenance=any_size), Volume(ids, SIZE_NM)


def test_the_table_does_not_depend_on_the_blocks_and_a_run_that_broke_off_goes_on_to_it(many, tmp_path, monkeypatch):
    prediction, ids = many
    small = ExecutionSettings(block=(16, 128, 128), tries=1)
    find_synapses(prediction, tmp_path / "whole", settings=SynapseSettings(segmentation=ids))
    written, write = [], ContactCounter.write

    def until_the_third(self, block, contacts):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(self, block, contacts)
        written.append(str(block))

    with monkeypatch.context() as patch:
        patch.setattr(ContactCounter, "write", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            find_synapses(prediction, tmp_path / "small", settings=SynapseSettings(segmentation=ids), execution=small)
    assert not (tmp_path / "small" / "synapses.csv").exists()
    again = []
    monkeypatch.setattr(
        ContactCounter, "write", lambda self, block, found: (again.append(str(block)), write(self, block, found))
    )
    find_synapses(prediction, tmp_path / "small", settings=SynapseSettings(segmentation=ids), execution=small)
    assert not set(again) & set(written[:2])
    assert (tmp_path / "small" / "synapses.csv").read_bytes() == (tmp_path / "whole" / "synapses.csv").read_bytes()
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["labels.zarr", "synapses.csv"]


def test_the_verb_writes_the_columns_and_workers_find_the_same(many, tmp_path):
    prediction, ids = many
    write_volume(prediction, tmp_path / "p.hdf", default="volumes/probability")
    write_volume(ids, f"{tmp_path}/n.hdf/volumes/labels/neuron_ids", default="")
    arguments = ["synapses", str(tmp_path / "p.hdf"), "--segmentation", f"{tmp_path}/n.hdf/volumes/labels/neuron_ids"]
    for name, more in (("here", []), ("there", ["--workers", "1", "--block", "16,128,128"])):
        with pytest.raises(SystemExit, match="0"):
            main([*arguments[:2], str(tmp_path / name), *arguments[2:], *more])
    with (tmp_path / "here" / "synapses.csv").open() as file:
        assert next(csv.reader(file)) == [column.name for column in (*COLUMNS, *PARTNERS)]
    here, there = ((tmp_path / name / "synapses.csv").read_bytes() for name in ("here", "there"))
    assert here == there


def test_a_segmentation_of_more_than_the_prediction_is_laid_over_it_by_its_offset(plate, tmp_path):
    wide = np.zeros((9, 40, 40), np.uint64)
    wide[:, 10:] = segments(7, 9)
    shifted = Volume(wide, SIZE_NM, (0.0, -100.0, 0.0))
    table = find_synapses(plate, tmp_path, settings=SynapseSettings(segmentation=shifted)).table
    assert (table["segment_a"].tolist(), table["segment_b"].tolist()) == ([7], [9])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (Volume(np.zeros((9, 30, 39), np.uint64), SIZE_NM), "does not fit the prediction, all of which it must cover"),
        (Volume(np.zeros(SHAPE, np.uint64), (20.0, 10.0, 12.0)), "voxel sizes differ"),
        (Volume(np.zeros(SHAPE, np.float32), SIZE_NM), "expected the integer ids of neurons"),
    ],
)
def test_a_segmentation_that_does_not_fit_is_refused(plate, ids, message, tmp_path):
    with pytest.raises(InputError, match=message):
        find_synapses(plate, tmp_path, settings=SynapseSettings(segmentation=ids))
