import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch.utils.data import DataLoader

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.labelled import LabelledVolume
from cleftnet.patches.patch import NO_TISSUE
from cleftnet.patches.sampling import PatchSampler, SamplingSettings
from cleftnet.patches.target_volume import CACHE, target_volume
from cleftnet.volumes import LABELS, Volume, open_volume

PLAIN = AugmentSettings(rotate=0, flip=0, grayscale=0)
EVERYTHING = AugmentSettings(
    rotate=1, flip=1, grayscale=1, misalign=1, elastic=1, grayscale_sections=1, blur=1, noise=1, missing=1
)


def volume(shape=(8, 32, 32), cleft=((2, 4, 4), (6, 12, 12))):
    """Raw that numbers its voxels, and one cleft as a box."""
    raw = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    labels = np.zeros(shape, np.uint64)
    labels[Box(*cleft).slices] = 5
    return LabelledVolume.read(Volume(raw), Volume(labels))


def sampler(volumes, shape=(4, 16, 16), seed=0, augmentation=PLAIN, **settings):
    return PatchSampler(
        volumes, shape, length=10_000, seed=seed, settings=SamplingSettings(**settings), augmentation=augmentation
    )


def test_a_patch_depends_on_seed_and_number_alone():
    a, b = (sampler([volume()], augmentation=EVERYTHING) for _ in range(2))
    a[0], a[1]  # what was drawn before makes no difference
    assert all(torch.equal(x, y) for x, y in zip(a[7], b[7], strict=True))
    assert not torch.equal(a[7][0], sampler([volume()], seed=1, augmentation=EVERYTHING)[7][0])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_number_of_loader_processes_changes_no_patch(start, cremi_file, tmp_path, monkeypatch):
    """Raw read from the file, which is open already, and targets mapped from the cache, in two processes and in none."""
    monkeypatch.setenv(CACHE, str(tmp_path))
    raw, labels = open_volume(cremi_file), open_volume(cremi_file, default=LABELS)
    source = LabelledVolume(raw, target_volume(labels, in_memory_voxels=0))
    patches = sampler([source], (8, 32, 32), augmentation=EVERYTHING, raw_in_memory_gib=0)
    alone, together = (
        list(DataLoader(patches, batch_size=2, sampler=range(8), **options))
        for options in ({"num_workers": 0}, {"num_workers": 2, "multiprocessing_context": start})
    )
    assert all(torch.equal(a, b) for a, b in zip(itertools.chain(*alone), itertools.chain(*together), strict=True))


def test_raw_classes_and_distance_come_from_the_same_place():
    """Raw numbers the voxels: the patch's first voxel tells where it was cut."""
    source = volume()
    raw, classes, distance, tissue = sampler([source])[3]
    first = round(float(raw[0, 0, 0, 0]) * (2**32 - 1))
    there = source.patch(Box.at(np.unravel_index(first, source.shape), (4, 16, 16)))
    assert np.array_equal(classes.numpy(), there.classes)
    assert np.array_equal(distance.numpy(), there.distance)
    assert (raw.dtype, classes.dtype, distance.dtype) == (torch.float32, torch.uint8, torch.float32)
    assert bool((tissue == NO_TISSUE).all())


def test_tissue_follows_every_augmentation_that_moves_the_clefts():
    """Tissue that is 1 exactly on clefts stays so after turns, flips, scaling, deformation and misalignment."""
    bare = volume()
    source = replace(bare, tissue=replace(bare.target, store=(bare.target.read() > 0).astype(np.uint8)))
    moving = EVERYTHING.changed(scale=1.0)
    for number in range(6):
        _, classes, _, tissue = sampler([source], augmentation=moving)[number]
        assert torch.equal(tissue, classes)


def in_memory_and_not(path):
    raw, labels = open_volume(path), open_volume(path, default=LABELS)
    source = LabelledVolume.read(raw, labels)
    return (sampler([source], (8, 32, 32), augmentation=EVERYTHING, raw_in_memory_gib=gib) for gib in (1, 0))


def test_patches_read_from_the_file_equal_those_from_memory(cremi_file):
    held, lazy = in_memory_and_not(cremi_file)
    assert isinstance(held.volumes[0].raw.store, np.ndarray)
    assert not isinstance(lazy.volumes[0].raw.store, np.ndarray)
    assert all(torch.equal(a, b) for i in range(5) for a, b in zip(held[i], lazy[i], strict=True))


def test_volumes_are_held_in_memory_while_they_fit():
    """8·32·32 voxels of 4 bytes are 32 KiB: of three volumes the first and the small last fit into 40 KiB."""
    opened = [LabelledVolume(Volume(Lazy(v.raw.read())), v.target) for v in (volume(), volume(), volume((8, 16, 16)))]
    drawn = sampler(opened, raw_in_memory_gib=40 / 2**20)
    assert [isinstance(v.raw.store, np.ndarray) for v in drawn.volumes] == [True, False, True]


class Lazy:
    """A store that is no array."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, index):
        return self.values[index]


# The paper's rule, restated: draw a volume by its share of places, a place, count its cleft voxels; when there are fewer
# than enough, draw again with the probability of rejection.
SOURCES, PATCH, ENOUGH, REJECT = [volume((6, 14, 16)), volume((5, 12, 9), ((0, 5, 2), (2, 8, 9)))], (3, 6, 7), 60, 0.8
PLACES = [(n, *start) for n, v in enumerate(SOURCES) for start in np.ndindex(*np.subtract(v.shape, PATCH) + 1)]


def cleft_voxels(place):
    number, *start = place
    return np.count_nonzero(SOURCES[number].target.read()[Box.at(start, PATCH).slices] > 0)


@pytest.fixture(scope="module")
def enough():
    return np.array([cleft_voxels(place) >= ENOUGH for place in PLACES])


def drawn_places(draws):
    """How often each place was drawn."""
    patches = sampler(SOURCES, PATCH, min_cleft_voxels=ENOUGH, reject_probability=REJECT)
    at = {place: n for n, place in enumerate(PLACES)}
    found, rng = np.zeros(len(PLACES), int), np.random.default_rng(5)
    for _ in range(draws):
        source, box = patches.draw(rng)
        number = next(n for n, v in enumerate(patches.volumes) if v is source)
        found[at[number, *box.start]] += 1
    return found


def brute_force_places(draws, enough):
    found, rng = np.zeros(len(PLACES), int), np.random.default_rng(11)
    while found.sum() < draws:
        place = rng.integers(len(PLACES))
        found[place] += enough[place] or rng.random() >= REJECT
    return found


def test_places_are_distributed_as_the_paper_says(enough):
    """Against the exact probabilities, and against a sampler that counts voxels; both tests would notice a forgotten rule."""
    found = drawn_places(20_000)
    weight = np.where(enough, 1, 1 - REJECT)
    assert 0.1 < enough.mean() < 0.9
    assert chisquare(found, found.sum() * weight / weight.sum()).pvalue > 0.001
    brute = brute_force_places(20_000, enough)
    assert chi2_contingency([found, brute]).pvalue > 0.001
    for wrong in (np.ones(len(PLACES)), np.where(enough, 1, 1 - REJECT * 0.8), np.where(enough, 1, (1 - REJECT) ** 2)):
        assert chisquare(found, found.sum() * wrong / wrong.sum()).pvalue < 1e-6


def test_without_rejection_every_place_is_as_likely():
    patches = sampler([volume((4, 8, 8), ((0, 0, 0), (1, 1, 1)))], (2, 6, 6), reject_probability=0)
    rng = np.random.default_rng(0)
    starts = [patches.draw(rng)[1].start for _ in range(5000)]
    assert chisquare(np.unique(starts, axis=0, return_counts=True)[1]).pvalue > 0.001
    assert len(set(starts)) == 27


def test_where_no_place_holds_enough_the_rule_still_ends():
    """All places are rejected alike, so that all stay as likely."""
    patches = sampler([volume()], min_cleft_voxels=10**6, reject_probability=0.95)
    assert patches.indices[0].share == 0
    assert patches[0][0].shape == (1, 4, 16, 16)


def test_rejection_reads_no_voxel():
    source = volume()
    patches = sampler([source], raw_in_memory_gib=0)
    patches.volumes = [LabelledVolume(None, None)]
    assert patches.draw(np.random.default_rng(0))[1].shape == (4, 16, 16)


def test_volumes_are_drawn_as_often_as_they_have_positions():
    """5·17·17 positions against 5·1·1: the small volume gives about 1 patch in 290."""
    big, small = volume(), volume((8, 16, 16))
    assert sampler([big, small]).share == pytest.approx([289 / 290, 1 / 290])


def test_training_data_without_any_cleft_is_refused():
    empty = LabelledVolume.read(Volume(np.zeros((4, 16, 16), np.uint8)), Volume(np.zeros((4, 16, 16), np.uint64)))
    with pytest.raises(InputError, match="the training data has no cleft voxel"):
        sampler([empty])


def test_a_patch_larger_than_a_training_volume_is_refused():
    with pytest.raises(InputError, match="patch 4×64×64 is larger than a training region of 8×32×32"):
        sampler([volume()], shape=(4, 64, 64))
