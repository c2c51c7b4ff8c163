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
    settings = matched_to(Volume(gray))
    assert (normalized(Volume(gray), settings).read() == gray).all()
    pale = Volume((gray.astype(np.uint16) * 3 + 9000).astype(np.uint16))
    assert (normalized(pale, settings).read() == gray).all()
    dark = normalized(Volume((gray // 2).astype(np.uint8)), settings).read()
    assert np.abs(dark.astype(int) - gray).max() <= 2
    as_floats = matched_to(Volume(gray / np.float32(255)))
    assert as_floats.levels == pytest.approx(settings.levels)


def test_every_section_may_get_the_contrast_of_the_whole():
    gray = np.random.default_rng(0).integers(40, 200, (20, 100, 150)).astype(np.uint8)
    settings = matched_to(Volume(gray), sections=True)
    factor = np.linspace(0.6, 1.2, 20)[:, None, None]
    uneven = Volume((gray * factor).round().astype(np.uint8))
    even = normalized(uneven, settings)
    assert np.abs(even.read().astype(int) - gray).max() <= 4
    assert (even[Box((9, 20, 30), (17, 60, 90))] == even.read()[9:17, 20:60, 30:90]).all()
    assert np.abs(normalized(uneven, matched_to(Volume(gray))).read()[0].astype(int) - gray[0]).max() > 30


def test_a_part_is_seen_as_it_is_in_the_whole():
    gray = np.random.default_rng(0).integers(40, 200, (20, 100, 150)).astype(np.uint8)
    gray[:, :, 75:] //= 2
    for sections in (False, True):
        settings = NormalizationSettings(percentiles=(5, 95), levels=(30, 220), sections=sections)
        part = Volume(gray).crop(Box((2, 10, 10), (15, 90, 60))).crop(Box((1, 0, 0), (12, 50, 50)))
        whole = normalized(Volume(gray), settings).crop(Box((3, 10, 10), (14, 60, 60)))
        assert (normalized(part, settings).read() == whole.read()).all()


def test_sections_without_tissue_are_taken_as_the_volume_is():
    gray = np.random.default_rng(0).integers(40, 200, (20, 100, 150)).astype(np.uint8)
    settings = matched_to(Volume(gray), sections=True)
    gray[3], gray[9], gray[12, :, 40:] = (
        0,
        gray[9] // 10 + 100,
        0,
    )  # lost, a fault of nearly one gray value, too little to measure
    read = normalized(Volume(gray), settings).read()
    assert not read[3].any()
    for z in (9, 12):
        assert np.abs(read[z].astype(int) - gray[z]).max() <= 4


def test_a_section_is_measured_on_a_sample_that_is_small_however_large_it_is():
    class Counting:
        shape, dtype, voxels = (3, 5000, 7000), np.dtype(np.uint8), 0

        def __getitem__(self, index):
            part = np.random.default_rng(0).integers(
                40, 200, [len(range(n)[s]) for n, s in zip(self.shape, index, strict=True)]
            )
            self.voxels += part.size
            return part.astype(np.uint8)

    store = Counting()
    normalized(Volume(store), NormalizationSettings(sections=True))
    assert store.voxels <= 3 * 128 * 128 * (64 + 16)


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
