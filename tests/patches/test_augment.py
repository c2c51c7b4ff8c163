import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.patches.augment import AugmentSettings, Patch, augment, flip, grayscale, rotate

ALWAYS = AugmentSettings(rotate=1, flip=1, grayscale=1)


def numbered(shape=(2, 4, 4)):
    """A patch whose three arrays say the same thing, voxel by voxel."""
    raw = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32) / np.prod(shape)
    return Patch(raw, (raw > 0.5).astype(np.uint8), np.where(raw > 0.5, raw, 0).astype(np.float32))


@given(st.sets(st.sampled_from([0, 1, 2]), min_size=1))
def test_flipping_twice_gives_the_patch_back(axes):
    patch = numbered()
    twice = flip(flip(patch, tuple(axes)), tuple(axes))
    assert all(np.array_equal(a, b) for a, b in zip(twice, patch, strict=True))


@given(st.integers(1, 3))
def test_a_rotation_is_undone_by_the_rest_of_the_circle(quarters):
    patch = numbered()
    back = rotate(rotate(patch, quarters), 4 - quarters)
    assert all(np.array_equal(a, b) for a, b in zip(back, patch, strict=True))


def test_a_rotation_turns_the_plane_and_leaves_sections_in_place():
    """In each section (y, x) goes to (3 − x, y): a quarter turn as NumPy counts it."""
    patch = numbered()
    turned = rotate(patch, 1)
    assert turned.raw[1, 3 - 2, 0] == patch.raw[1, 0, 2]


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_raw_classes_and_distance_travel_together(seed):
    out = augment(numbered(), AugmentSettings(rotate=1, flip=1, grayscale=0), np.random.default_rng(seed))
    assert np.array_equal(out.classes, (out.raw > 0.5).astype(np.uint8))
    assert np.array_equal(out.distance, np.where(out.raw > 0.5, out.raw, 0))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_no_class_and_no_distance_is_invented(seed):
    patch = numbered()
    out = augment(patch, ALWAYS, np.random.default_rng(seed))
    assert sorted(out.classes.ravel()) == sorted(patch.classes.ravel())
    assert sorted(out.distance.ravel()) == sorted(patch.distance.ravel())
    assert 0 <= out.raw.min() <= out.raw.max() <= 1


def test_grayscale_is_contrast_about_the_mean_then_brightness_then_gamma():
    """Mean 0.5; 0.25 becomes (2·(0.25 − 0.5) + 0.5 + 0.1)² = 0.01, 0.75 becomes min(1, 1.1)² = 1."""
    raw = np.array([[[0.25, 0.75]]], np.float32)
    out = grayscale(Patch(raw, raw.astype(np.uint8), raw), brightness=0.1, contrast=2, gamma=2)
    assert out.raw.ravel() == pytest.approx([0.01, 1.0])


def test_the_same_generator_state_gives_the_same_patch():
    one, two = (augment(numbered(), ALWAYS, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_patch_that_is_not_square_keeps_its_shape():
    for seed in range(20):
        assert augment(numbered((2, 4, 6)), ALWAYS, np.random.default_rng(seed)).raw.shape == (2, 4, 6)


@pytest.mark.parametrize("name", ["rotate", "flip", "grayscale"])
def test_each_change_happens_as_often_as_its_probability_says(name):
    """Of 400 patches about half change: between 160 and 240 is four standard deviations (10) to either side."""
    settings = AugmentSettings(**{"rotate": 0, "flip": 0, "grayscale": 0, name: 0.5})
    patch = numbered()
    outs = [augment(patch, settings, np.random.default_rng(seed)) for seed in range(400)]
    changed = sum(not np.array_equal(out.raw, patch.raw) for out in outs)
    assert 160 <= changed <= 240
