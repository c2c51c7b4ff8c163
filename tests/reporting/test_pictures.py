import base64
import io

import numpy as np
from PIL import Image

from cleftnet.reporting import pictures
from cleftnet.reporting.pictures import Reduction
from cleftnet.volumes import CLEFT, NOT_CLEFT, UNLABELLED


def pixels(uri):
    """The pixels of a data URI, y x rgba."""
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_right_false_positive_and_false_negative_have_their_colours_and_the_rest_is_clear():
    truth = np.array([[CLEFT, NOT_CLEFT, CLEFT, NOT_CLEFT, UNLABELLED]], np.uint8)
    predicted = np.array([[True, True, False, False, True]])
    shown = pixels(pictures.tint_of_errors(predicted, truth))[0]
    assert [tuple(p) for p in shown[:3, :3].tolist()] == [
        pictures.RIGHT,
        pictures.FALSE_POSITIVE,
        pictures.FALSE_NEGATIVE,
    ]
    assert (shown[:3, 3] > 100).all()
    assert (shown[3:, 3] == 0).all()


def test_a_tint_is_the_more_opaque_the_higher_the_probability():
    shown = pixels(pictures.tint_by_value(np.array([[0, 60, 128, 255]], np.uint8), pictures.PROBABILITY))[0, :, 3]
    assert shown[0] == 0
    assert (np.diff(shown.astype(int)) > 0).all()


def test_a_float_probability_gives_the_picture_of_its_uint8():
    whole = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert pictures.tint_by_value(whole, (1, 2, 3)) == pictures.tint_by_value(whole.astype(np.float32) / 255, (1, 2, 3))


def test_at_a_lower_resolution_a_single_voxel_does_not_vanish():
    truth = np.zeros((7, 10), np.uint8)
    truth[6, 9] = CLEFT
    shown = pixels(pictures.tint_of_truth(truth, 4))[:, :, 3]
    assert (shown > 0).tolist() == [[False, False, False], [False, False, True]]


def test_raw_at_a_lower_resolution_is_the_mean():
    section = np.repeat(np.array([[0, 100], [200, 100]], np.uint8), 8, axis=0).repeat(8, axis=1)
    assert np.abs(pixels(pictures.gray_picture(section, 16))[0, 0, :3].astype(int) - 100).max() <= 2


def test_gray_values_reach_from_black_to_white_whatever_the_type():
    raw = np.linspace(20_000, 30_000, 8000).reshape(2, 40, 100).astype(np.uint16)
    gray = pictures.gray_values(raw)
    assert (gray.min(), gray.max(), gray.dtype) == (0, 255, np.uint8)


def test_small_scenes_are_shown_whole_and_huge_ones_lose_resolution_then_sections():
    assert Reduction.fitting([(20, 256, 768)] * 3, 20_000_000) == Reduction(1, 1)
    assert Reduction.fitting([(20, 1000, 1500)], 10_000_000) == Reduction(2, 1)
    assert Reduction.fitting([(100, 1000, 1000)], 1_000_000) == Reduction(4, 7)  # 100 / 16 megapixels
    assert str(Reduction(4, 7)) == "1/4 of the resolution along y and x, every 7th section"
