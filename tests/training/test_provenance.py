import numpy as np

from cleftnet.training.provenance import fingerprint
from cleftnet.volumes import Volume

RAW = np.random.default_rng(0).integers(0, 256, (40, 5, 6), np.uint8)
LABELS = np.zeros((40, 5, 6), np.uint64)


def sums(raw=RAW, labels=LABELS):
    found = fingerprint(Volume(raw), Volume(labels))
    return found["raw_sections_sha256"], found["labels_sha256"]


def test_the_same_voxels_have_the_same_checksums_whatever_their_byte_order():
    assert sums(labels=LABELS.astype(">u8")) == sums()


def test_one_changed_label_changes_the_checksum_of_the_labels_alone():
    labels = LABELS.copy()
    labels[3, 2, 1] = 7
    assert sums(labels=labels)[0] == sums()[0]
    assert sums(labels=labels)[1] != sums()[1]


def test_another_raw_volume_and_a_shifted_one_have_another_checksum():
    assert len({sums(raw)[0] for raw in (RAW, 255 - RAW, np.roll(RAW, 1, axis=0))}) == 3


def test_of_raw_sixteen_sections_count_the_first_and_the_last_among_them():
    changed = set()
    for z in range(40):
        raw = RAW.copy()
        raw[z] += 1
        if sums(raw)[0] != sums()[0]:
            changed.add(z)
    assert len(changed) == 16
    assert {0, 39} <= changed


def test_a_checksum_names_no_path_of_the_machine():
    """The recipe names the data, by a variable where it is shared; what is published is the recipe."""
    assert fingerprint(Volume(RAW, address="/home/me/a.hdf"), Volume(LABELS)).keys() == {
        "shape",
        "raw_sections_sha256",
        "labels_sha256",
    }
