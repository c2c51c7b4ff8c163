import numpy as np

from cleftnet.patches.patch import UNKNOWN, Patch

ROW = np.array([[[0, 0.76, 1, UNKNOWN]]], np.float32)


def test_class_and_distance_are_read_off_the_target():
    patch = Patch(np.zeros_like(ROW), ROW)
    assert patch.classes.tolist() == [[[0, 1, 1, 2]]]
    assert patch.distance.tolist() == [[[0, np.float32(0.76), 1, 0]]]
    assert (patch.classes.dtype, patch.distance.dtype) == (np.uint8, np.float32)


def test_a_signed_distance_stays_signed_and_is_neither_cleft_nor_unlabelled():
    row = np.array([[[-0.995, -0.76, 0.76, UNKNOWN]]], np.float32)
    patch = Patch(np.zeros_like(row), row)
    assert patch.classes.tolist() == [[[0, 0, 1, 2]]]
    assert patch.distance.tolist() == [[[np.float32(-0.995), np.float32(-0.76), np.float32(0.76), 0]]]


def test_reading_class_and_distance_changes_no_target():
    target = ROW.copy()
    target.flags.writeable = False
    patch = Patch(target, target)
    patch.distance[:] = 5
    patch.classes[:] = 5
    assert np.array_equal(target, ROW)
