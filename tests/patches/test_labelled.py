import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.target_volume import target_volume
from cleftnet.volumes import INVALID, LABELS, Volume, open_volume


def drawn(shape=(3, 6, 7)):
    """Raw that numbers its voxels, and labels that are cleft on every second column."""
    raw = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    labels = np.zeros(shape, np.uint64)
    labels[:, :, ::2] = 9
    return LabelledVolume.read(Volume(raw), Volume(labels))


def test_invalid_voxels_are_neither_cleft_nor_background():
    labels = np.zeros((2, 4, 4), np.uint64)
    labels[0, 0, 0], labels[0, 0, 1] = INVALID, 3
    read = LabelledVolume.read(Volume(np.zeros((2, 4, 4), np.uint8)), Volume(labels))
    patch = read.patch(Box.of((1, 1, 3)))
    assert patch.classes.tolist() == [[[2, 1, 0]]]
    assert patch.distance[0, 0, 0] == 0


@pytest.mark.parametrize(
    "box", [Box((0, -4, -3), (2, 9, 8)), Box((1, 3, 2), (2, 12, 5)), Box((0, -30, -30), (1, 40, 40))]
)
def test_beyond_its_border_the_volume_is_mirrored_as_numpy_pads(box):
    volume = drawn()
    wide = [(0, 0), (60, 60), (60, 60)]
    everywhere = volume.patch(Box.of(volume.shape)).each(lambda a: np.pad(a, wide, mode="reflect"))
    found, expected = volume.patch(box), everywhere.each(lambda a: a[box.shift((0, 60, 60)).slices])
    assert np.array_equal(found.raw, expected.raw)
    assert np.array_equal(found.target, expected.target)


def test_a_volume_one_voxel_wide_is_mirrored_onto_itself():
    raw = np.array([[[7], [9]]], np.uint8)
    found = LabelledVolume.read(Volume(raw), Volume(raw)).patch(Box((0, 0, -2), (1, 2, 3)))
    assert (found.raw * 255).round().tolist() == [[[7.0] * 5, [9.0] * 5]]


def test_a_patch_read_from_the_file_equals_one_from_memory(cremi_file):
    raw, labels = open_volume(cremi_file), open_volume(cremi_file, default=LABELS)
    lazy = LabelledVolume(raw, target_volume(labels))
    for box in (Box((2, 10, 20), (10, 42, 52)), Box((2, -9, 80), (10, 23, 112))):
        assert np.array_equal(lazy.patch(box).raw, lazy.in_memory().patch(box).raw)


def test_raw_is_read_only_where_patches_lie():
    class Watched:
        shape, dtype, read = (2, 64, 64), np.dtype(np.uint8), 0

        def __getitem__(self, index):
            part = np.zeros(self.shape, np.uint8)[index]
            self.read += part.size
            return part

    store = Watched()
    volume = LabelledVolume.read(Volume(store), Volume(np.ones((2, 64, 64), np.uint64)))
    assert store.read == 0
    volume.patch(Box((0, 60, 0), (2, 68, 8)))  # 4 of its 8 rows are there, and mirroring needs no other
    assert store.read == 2 * 5 * 8


def test_labels_of_another_shape_are_refused_naming_both():
    with pytest.raises(InputError, match=r"\(2, 4, 4\).*\(2, 4, 5\)"):
        LabelledVolume.read(Volume(np.zeros((2, 4, 4), np.uint8)), Volume(np.zeros((2, 4, 5), np.uint64)))


def test_raw_of_a_signed_type_is_refused_before_any_patch():
    with pytest.raises(InputError, match="raw has type int16"):
        LabelledVolume.read(Volume(np.zeros((2, 4, 4), np.int16)), Volume(np.zeros((2, 4, 4), np.uint64)))
