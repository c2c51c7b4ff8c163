import numpy as np
import pytest

from cleftnet.patches.artifacts import blurred, missing, noisy, uneven
from cleftnet.patches.patch import Patch

CHANGES = {
    "missing": lambda p: missing(p, 1, 0.0),
    "blurred": lambda p: blurred(p, 1, 1.5),
    "noisy": lambda p: noisy(p, 0.1, np.random.default_rng(0)),
    "uneven": lambda p: uneven(p, [0.1, 0, 0], [1, 1.3, 1]),
}


@pytest.fixture
def patch():
    raw, target = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    return Patch(raw, target)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_labels_stay_raw_stays_in_0_1_and_the_patch_given_is_left_alone(patch, change):
    before = patch.raw.copy()
    after = change(patch)
    assert after.target is patch.target
    assert np.array_equal(patch.raw, before)
    assert not np.array_equal(after.raw, before)
    assert (after.raw.dtype, after.raw.shape) == (np.float32, before.shape)
    assert 0 <= after.raw.min() <= after.raw.max() <= 1


@pytest.mark.parametrize("change", [CHANGES["missing"], CHANGES["blurred"]], ids=["missing", "blurred"])
def test_only_the_one_section_changes(patch, change):
    after = change(patch)
    assert np.array_equal(after.raw[[0, 2]], patch.raw[[0, 2]])


def test_a_missing_section_has_one_gray_value(patch):
    assert np.ptp(missing(patch, 2, 0.25).raw[2]) == 0


def test_a_blurred_section_keeps_its_mean_and_loses_contrast(patch):
    after = blurred(patch, 0, 2.0).raw[0]
    assert after.mean() == pytest.approx(patch.raw[0].mean(), abs=0.01)
    assert after.std() < patch.raw[0].std() / 4


def test_noise_has_the_standard_deviation_asked_for():
    gray = np.full((4, 64, 64), 0.5, np.float32)
    noise = noisy(Patch(gray, gray), 0.05, np.random.default_rng(0)).raw - gray
    assert noise.std() == pytest.approx(0.05, rel=0.03)  # 16384 values: the standard error is 0.6 %
    assert noise.mean() == pytest.approx(0, abs=0.002)


def test_each_section_is_exposed_for_itself(patch):
    after = uneven(patch, [0.05, 0, 0], [1, 1, 0.5]).raw
    assert (after[0].mean() - patch.raw[0].mean()) == pytest.approx(0.05, abs=0.01)
    assert np.array_equal(after[1], patch.raw[1])
    assert after[2].std() == pytest.approx(patch.raw[2].std() / 2, rel=1e-3)
