import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.patches.augment import AugmentSettings, augment, flip, grayscale, rotate
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.patch import Patch
from cleftnet.volumes import INVALID, Volume

PROBABILITIES = ["rotate", "flip", "grayscale", "misalign", "elastic", "grayscale_sections", "blur", "noise", "missing"]
NEVER = dict.fromkeys(PROBABILITIES, 0.0)
SMALL = {"misalign_vox": 4, "elastic_vox": 2.0, "elastic_spacing_vox": 8}
ALWAYS = AugmentSettings(**dict.fromkeys(PROBABILITIES, 1.0), **SMALL)
BOX = Box((1, 8, 8), (5, 28, 28))


def numbered(shape=(2, 4, 4)):
    """A patch whose two arrays say the same thing, voxel by voxel, and nothing around it."""
    raw = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32) / np.prod(shape)
    return Patch(raw, np.where(raw > 0.5, raw, 0))


def alone(patch):
    """Reads nothing but the patch itself."""

    def read(box):
        assert box == Box.of(patch.raw.shape)
        return patch

    return read


@pytest.fixture(scope="module")
def volume():
    """White clefts in gray tissue, and an unlabelled corner."""
    raw, labels = np.full((6, 40, 40), 100, np.uint8), np.zeros((6, 40, 40), np.uint64)
    for value, part in ((1, np.s_[1:4, 6:18, 10:14]), (2, np.s_[2:5, 20:24, 9:30]), (3, np.s_[0:6, 30:40, 33:40])):
        raw[part], labels[part] = 255, value
    labels[:, 30:, :6] = INVALID
    return LabelledVolume.read(Volume(raw), Volume(labels))


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
def test_flips_and_quarter_turns_move_voxels_and_change_none(seed):
    patch = numbered()
    changes = AugmentSettings(**NEVER | {"rotate": 1, "flip": 1}, rotation="quarter")
    out = augment(alone(patch), Box.of((2, 4, 4)), changes, np.random.default_rng(seed))
    assert sorted(out.raw.ravel()) == sorted(patch.raw.ravel())
    assert np.array_equal(out.target, np.where(out.raw > 0.5, out.raw, 0))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_clefts_travel_with_what_is_seen_of_them(volume, seed):
    """White where linear interpolation saw nothing but cleft; a cleft voxel got at least a quarter of its gray from one."""
    changes = AugmentSettings(**NEVER | {"rotate": 1, "flip": 1, "misalign": 1, "elastic": 1}, **SMALL)
    out = augment(volume.patch, BOX, changes, np.random.default_rng(seed))
    assert (out.classes[out.raw > 0.999] == 1).all()
    gray = np.float32(100 / 255)
    assert (out.raw[out.classes == 1] > gray + (1 - gray) * 0.24).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_whatever_happens_distance_is_positive_exactly_on_clefts_and_nothing_is_invented(volume, seed):
    out = augment(volume.patch, BOX, ALWAYS, np.random.default_rng(seed))
    assert np.array_equal(out.distance > 0, out.classes == 1)
    assert np.isin(out.target, volume.target.read()).all()
    assert set(np.unique(out.classes)) <= {0, 1, 2}
    assert 0 <= out.raw.min() <= out.raw.max() <= 1
    assert out.raw.shape == out.target.shape == BOX.shape


def test_grayscale_is_contrast_about_the_mean_then_brightness_then_gamma():
    """Mean 0.5; 0.25 becomes (2·(0.25 − 0.5) + 0.5 + 0.1)² = 0.01, 0.75 becomes min(1, 1.1)² = 1."""
    raw = np.array([[[0.25, 0.75]]], np.float32)
    out = grayscale(Patch(raw, raw), brightness=0.1, contrast=2, gamma=2)
    assert out.raw.ravel() == pytest.approx([0.01, 1.0])


def test_the_same_generator_state_gives_the_same_patch(volume):
    one, two = (augment(volume.patch, BOX, ALWAYS, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_patch_that_is_not_square_keeps_its_shape(volume):
    box = Box((0, 4, 4), (2, 14, 34))
    for seed in range(10):
        for rotation in ("any", "quarter"):
            changes = AugmentSettings(**NEVER | {"rotate": 1}, rotation=rotation)
            assert augment(volume.patch, box, changes, np.random.default_rng(seed)).raw.shape == (2, 10, 30)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_each_change_happens_as_often_as_its_probability_says(name, volume):
    """Of 400 patches about half change: between 160 and 240 is four standard deviations (10) to either side."""
    changes = AugmentSettings(**NEVER | {name: 0.5}, **SMALL)
    box = Box((1, 8, 6), (3, 23, 21))  # no axis along which it is symmetric, and something to see in every section
    before = volume.patch(box)
    outs = [augment(volume.patch, box, changes, np.random.default_rng(seed)) for seed in range(400)]
    changed = sum(not np.array_equal(out.raw, before.raw) for out in outs)
    assert 160 <= changed <= 240


def test_the_papers_augmentation_is_rotation_by_any_angle_flip_and_grayscale():
    default = AugmentSettings()
    assert (default.rotate, default.rotation, default.flip, default.grayscale) == (0.5, "any", 0.5, 0.2)
    assert [name for name in PROBABILITIES if getattr(default, name)] == ["rotate", "flip", "grayscale"]


def test_an_elastic_deformation_that_would_fold_is_refused():
    with pytest.raises(ValueError, match=r"would fold the tissue: expected at most 15\.36"):
        AugmentSettings(elastic_vox=16, elastic_spacing_vox=32)


def test_flips_are_along_every_choice_of_axes_equally_often():
    """Of 350 flips about 50 are of each of the seven kinds: 30 to 70 is three standard deviations to either side."""
    patch, box = numbered(), Box.of((2, 4, 4))
    kinds = [axes for n in (1, 2, 3) for axes in itertools.combinations(range(3), n)]
    changes = AugmentSettings(**NEVER | {"flip": 1})
    outs = [augment(alone(patch), box, changes, np.random.default_rng(seed)) for seed in range(350)]
    counts = {axes: sum(np.array_equal(out.raw, np.flip(patch.raw, axes)) for out in outs) for axes in kinds}
    assert sum(counts.values()) == 350
    assert all(30 <= count <= 70 for count in counts.values())


@pytest.mark.parametrize("kind", ["grayscale", "grayscale_sections"])
@pytest.mark.parametrize(
    ("only", "measure"),
    [
        ("contrast", lambda raw, before: raw.std() / before.std() - 1),
        ("brightness", lambda raw, before: raw.mean() - before.mean()),
    ],
)
def test_contrast_and_brightness_go_up_as_often_as_down_within_their_limits(kind, only, measure):
    raw = np.random.default_rng(0).uniform(0.4, 0.6, (1, 8, 8)).astype(np.float32)
    limits = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0} | {only: 0.2}
    changes, patch = AugmentSettings(**NEVER | {kind: 1} | limits), Patch(raw, raw)
    found = [
        measure(augment(alone(patch), Box.of(raw.shape), changes, np.random.default_rng(seed)).raw, raw)
        for seed in range(200)
    ]
    assert 70 <= sum(value > 0 for value in found) <= 130
    assert 0.15 < max(found) <= 0.2001
    assert -0.2001 <= min(found) < -0.15


def test_gamma_darkens_as_often_as_it_brightens():
    raw = np.full((1, 4, 4), 0.5, np.float32)
    changes = AugmentSettings(**NEVER | {"grayscale": 1}, brightness=0, contrast=0, gamma=0.3)
    draws = (np.random.default_rng(seed) for seed in range(200))
    found = [float(augment(alone(Patch(raw, raw)), Box.of(raw.shape), changes, rng).raw.max()) for rng in draws]
    assert 70 <= sum(value > 0.5 for value in found) <= 130
    assert 0.5 ** np.exp(0.3) <= min(found) < max(found) <= 0.5 ** np.exp(-0.3) + 1e-6


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_probability_is_between_0_and_1(name, value):
    with pytest.raises(InputError, match=name):
        AugmentSettings(**{name: value})
