import cc3d
import numpy as np
import pytest
from scipy import ndimage

from cleftnet.errors import InputError
from cleftnet.synthetic import Synthetic, SyntheticSettings, synthetic_volume

SMALL = (16, 96, 96)
GOOD = SyntheticSettings(defect_probability=0)


@pytest.fixture(scope="module")
def good() -> list[Synthetic]:
    """Four volumes without ruined sections, 44 synapses in all."""
    return [synthetic_volume((16, 256, 256), seed=seed, settings=GOOD) for seed in range(4)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (synthetic_volume(SMALL, seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.read().tobytes() == b.read().tobytes() != c.read().tobytes()


@pytest.mark.parametrize(
    ("shape", "voxel_size_nm"),
    [
        ((8, 64, 64), (40.0, 4.0, 4.0)),
        ((9, 97, 131), (40.0, 4.0, 4.0)),
        ((8, 64, 200), (50.0, 4.6, 4.6)),
        ((32, 33, 34), (10.0, 8.0, 10.0)),
    ],
)
def test_shape_type_and_voxel_size_are_those_asked_for(
    shape: tuple[int, int, int], voxel_size_nm: tuple[float, float, float]
) -> None:
    raw, labels = synthetic_volume(shape, voxel_size_nm=voxel_size_nm)
    assert raw.shape == labels.shape == shape
    assert raw.voxel_size_nm == labels.voxel_size_nm == voxel_size_nm
    assert (raw.dtype, labels.dtype) == (np.uint8, np.uint64)
    assert labels.read().any()


@pytest.mark.parametrize("shape", [(7, 64, 64), (8, 63, 64), (8, 64, 0), (64, 64)])
def test_a_shape_too_small_for_a_synapse_is_refused_with_the_smallest_that_is_not(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"too small for a synapse; use at least 8×64×64"):
        synthetic_volume(shape)


@pytest.mark.parametrize("voxel_size_nm", [(40.0, 40.0, 40.0), (0.0, 4.0, 4.0), (40.0, 4.0)])
def test_voxels_too_large_for_a_synapse_are_refused(voxel_size_nm: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="cannot show a synapse"):
        synthetic_volume((64, 128, 128), voxel_size_nm=voxel_size_nm)


def test_every_volume_has_a_cleft() -> None:
    for seed in range(12):
        assert synthetic_volume((8, 96, 96), seed=seed).labels.read().any()


def test_ids_run_from_1_without_gaps_and_each_is_one_26_connected_piece(good: list[Synthetic]) -> None:
    for _, labels in good:
        ids = labels.read()
        np.testing.assert_array_equal(np.unique(ids), np.arange(ids.max() + 1))
        for cleft in range(1, int(ids.max()) + 1):
            assert cc3d.connected_components(ids == cleft, connectivity=26).max() == 1


def test_synapses_are_as_dense_as_asked_and_clefts_a_realistic_share_of_voxels(good: list[Synthetic]) -> None:
    labels = np.stack([s.labels.read() for s in good])
    assert labels.max(axis=(1, 2, 3)).tolist() == [11] * 4  # 16 per µm³ × 0.67 µm³
    assert 0.005 < np.mean(labels > 0) < 0.015


def test_clefts_are_darker_than_their_section(good: list[Synthetic]) -> None:
    for volume, labels in good:
        for picture, cleft in zip(volume.read(), labels.read() > 0, strict=True):
            if np.count_nonzero(cleft) > 50:
                assert picture[cleft].mean() < 0.6 * picture.mean()


def test_darkness_alone_does_not_find_the_clefts(good: list[Synthetic]) -> None:
    truth = np.stack([s.labels.read() > 0 for s in good])
    raw = np.stack([s.raw.read() for s in good]).astype(np.float32)
    f1 = []
    for sigma in (0, 1, 1.5, 2, 3, 4):
        picture = ndimage.gaussian_filter(raw, (0, 0, sigma, sigma))
        everywhere, in_clefts = (np.histogram(p, 256, (0, 256))[0].cumsum() for p in (picture, picture[truth]))
        f1.append((2 * in_clefts / (everywhere + truth.sum())).max())  # the best threshold that hindsight can choose
    assert 0.1 < max(f1) < 0.35


@pytest.mark.parametrize(
    "change",
    [
        {"cell_size_nm": 250},
        {"synapses_per_um3": 40},
        {"cleft_darkness": 1.5},
        {"distractors_per_synapse": 4},
        {"mitochondria_per_um3": 20},
        {"misalignment_nm": 9},
        {"contrast": 0.1},
        {"noise": 0.2},
        {"defect_probability": 0.9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_picture(change: dict[str, float]) -> None:
    usual, changed = (synthetic_volume(SMALL, settings=SyntheticSettings(**c)).raw.read() for c in ({}, change))
    assert (usual != changed).any()


def test_what_the_microscope_does_leaves_the_labels_alone() -> None:
    worse = SyntheticSettings(noise=0.3, contrast=0.2, defect_probability=0.5, mitochondria_per_um3=0)
    np.testing.assert_array_equal(
        synthetic_volume(SMALL).labels.read(), synthetic_volume(SMALL, settings=worse).labels.read()
    )


def test_an_unknown_or_impossible_setting_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown key .nois.; did you mean .noise."):
        SyntheticSettings(nois=0.1)
    with pytest.raises(InputError, match="defect_probability"):
        SyntheticSettings(defect_probability=1.5)
