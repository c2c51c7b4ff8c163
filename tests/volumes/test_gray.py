"""Gray values: a sample that depends on the shape alone, percentiles, ranges, and warnings about contrast."""

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import (
    NormalizationSettings,
    Volume,
    in_gray_range,
    matched_to,
    measured_range,
    normalized,
    open_volume,
)
from cleftnet.volumes.contrast import gray_statistics
from cleftnet.volumes.gray import SAMPLE_BLOCKS, sample_boxes


@pytest.mark.parametrize("shape", [(1, 1, 1), (20, 1024, 768), (5000, 128, 128), (6000, 20000, 30000)])
def test_the_sample_is_small_inside_and_the_same_every_time(shape):
    box = Box.of(shape)
    boxes = list(sample_boxes(box))
    assert 1 <= len(boxes) <= SAMPLE_BLOCKS
    assert all(box.contains(part) and not part.empty for part in boxes)
    assert boxes == list(sample_boxes(box))
    assert len(set(boxes)) == len(boxes)


def test_percentiles_leave_out_padding_and_do_not_depend_on_bit_depth():
    gray = np.random.default_rng(0).integers(50, 200, (4, 60, 60)).astype(np.uint8)
    padded = np.zeros((4, 100, 100), np.uint8)
    padded[:, 20:80, 20:80] = gray
    settings = NormalizationSettings(percentiles=(1, 99))
    low, high = measured_range(Volume(gray), settings)
    assert measured_range(Volume(padded), settings) == (low, high)
    assert measured_range(Volume(gray.astype(np.uint16) * 10), settings) == (10 * low, 10 * high)


def test_a_range_keeps_padding_black_and_may_invert():
    raw = Volume(np.array([[[0, 10, 20, 30, 40]]], np.int16))
    assert in_gray_range(raw, (10, 30)).read().tolist() == [[[0, 1, 128, 255, 255]]]
    assert in_gray_range(raw, (30, 10)).read().tolist() == [[[0, 255, 128, 1, 1]]]


def test_other_contrast_becomes_that_of_a_known_volume_which_stays_as_it_is():
    gray = np.random.default_rng(0).integers(40, 200, (4, 60, 60)).astype(np.uint8)
    settings = matched_to(Volume(gray), (5, 95))
    assert (normalized(Volume(gray), settings).read() == gray).all()
    pale = Volume((gray.astype(np.uint16) * 3 + 9000).astype(np.uint16))
    assert (normalized(pale, settings).read() == gray).all()
    dark = normalized(Volume((gray // 2).astype(np.uint8)), settings).read()
    assert np.abs(dark.astype(int) - gray).max() <= 2
    as_floats = matched_to(Volume(gray / np.float32(255)), (5, 95))
    assert as_floats.levels == pytest.approx(settings.levels)


@pytest.mark.parametrize("levels", [(5, 5), (-1, 50), (50, 256), (90, 10)])
def test_levels_out_of_order_are_refused(levels):
    with pytest.raises(InputError, match="ascending gray levels"):
        NormalizationSettings(levels=levels)


@pytest.mark.parametrize("percentiles", [(5, 5), (-1, 50), (50, 101)])
def test_percentiles_out_of_order_are_refused(percentiles):
    with pytest.raises(InputError, match="ascending percentiles"):
        NormalizationSettings(percentiles=percentiles)


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="not finite"):
        measured_range(Volume(np.array([[[0.1, np.nan]]])), NormalizationSettings())


def test_a_synthetic_volume_is_sound_and_its_negative_and_a_narrow_copy_are_not(synthetic):
    raw = synthetic.raw
    assert gray_statistics(raw).warnings() == []
    negative = Volume(255 - raw.read(), raw.voxel_size)
    (said,) = gray_statistics(negative).warnings()
    assert said.startswith("contrast looks inverted (bright membranes)")
    narrow = Volume(raw.read().astype(np.uint16) * 8 + 1000, raw.voxel_size)
    (said,) = gray_statistics(narrow).warnings()
    assert said.startswith("gray values use 2.8% of the range of their type; predict with gray_range=(")


def test_real_volumes_are_sound_and_their_negatives_are_not(real_data):
    for file in ("vnc-l3/vnc-l3.hdf", "fibsem-medulla/medulla-250.hdf"):
        raw = open_volume(real_data / file)
        assert gray_statistics(raw).warnings() == []
        assert len(gray_statistics(Volume(255 - raw.read(), raw.voxel_size)).warnings()) == 1
