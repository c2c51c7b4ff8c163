import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.patches.augment import AugmentSettings
from cleftnet.patches.sampling import LabelledVolume, PatchSampler, SamplingSettings
from cleftnet.volumes import INVALID, Volume

PLAIN = AugmentSettings(rotate=0, flip=0, grayscale=0)


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
    a, b = (sampler([volume()], augmentation=AugmentSettings()) for _ in range(2))
    a[0], a[1]  # what was drawn before makes no difference
    assert all(torch.equal(x, y) for x, y in zip(a[7], b[7], strict=True))
    assert not torch.equal(a[7][0], sampler([volume()], seed=1)[7][0])


def test_the_number_of_loader_processes_changes_no_patch():
    drawn = [
        torch.cat([raw for raw, _, _ in DataLoader(sampler([volume()]), batch_size=2, sampler=range(8), num_workers=n)])
        for n in (0, 2)
    ]
    assert torch.equal(*drawn)


def test_raw_classes_and_distance_come_from_the_same_place():
    """Raw numbers the voxels: the patch's first voxel tells where it was cut."""
    source = volume()
    raw, classes, distance = sampler([source])[3]
    first = round(float(raw[0, 0, 0, 0]) * (2**32 - 1))
    box = Box.at(np.unravel_index(first, source.raw.shape), (4, 16, 16))
    assert np.array_equal(classes.numpy(), source.classes[box.slices])
    assert np.array_equal(distance.numpy(), source.distance[box.slices])


def test_patches_with_few_cleft_voxels_pass_as_often_as_the_paper_says():
    """With rejection 0.8, an empty patch passes once in five tries. Of the 17·17·5 positions a share e is empty; the share
    of empty patches among those kept is 0.2 e / (1 − 0.8 e)."""
    source = volume()
    drawn = sampler([source], min_cleft_voxels=1, reject_probability=0.8)
    kept = np.mean([not (drawn[i][1] == 1).any() for i in range(600)])
    cleft = source.classes == 1
    windows = np.lib.stride_tricks.sliding_window_view(cleft, (4, 16, 16)).any(axis=(3, 4, 5))
    empty = 1 - windows.mean()
    expected = 0.2 * empty / (1 - 0.8 * empty)
    assert kept == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 600))


def test_volumes_are_drawn_as_often_as_they_have_positions():
    """5·17·17 positions against 5·1·1: the small volume gives about 1 patch in 290."""
    big, small = volume(), volume((8, 16, 16))
    assert sampler([big, small]).share == pytest.approx([289 / 290, 1 / 290])


def test_invalid_voxels_are_neither_cleft_nor_background():
    labels = np.zeros((2, 4, 4), np.uint64)
    labels[0, 0, 0], labels[0, 0, 1] = INVALID, 3
    read = LabelledVolume.read(Volume(np.zeros((2, 4, 4), np.uint8)), Volume(labels))
    assert read.classes[0, 0].tolist() == [2, 1, 0, 0]
    assert read.distance[0, 0, 0] == 0


def test_training_data_without_any_cleft_is_refused():
    empty = LabelledVolume.read(Volume(np.zeros((4, 16, 16), np.uint8)), Volume(np.zeros((4, 16, 16), np.uint64)))
    with pytest.raises(InputError, match="no cleft voxel in the training data"):
        sampler([empty])


def test_a_patch_larger_than_a_training_volume_is_refused():
    with pytest.raises(InputError, match="patch 4×64×64 is larger than a training region of 8×32×32"):
        sampler([volume()], shape=(4, 64, 64))


def test_labels_of_another_shape_are_refused_naming_both():
    with pytest.raises(InputError, match=r"\(2, 4, 4\).*\(2, 4, 5\)"):
        LabelledVolume.read(Volume(np.zeros((2, 4, 4), np.uint8)), Volume(np.zeros((2, 4, 5), np.uint64)))
