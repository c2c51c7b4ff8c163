"""The targets of a volume: those of the whole, kept once, and never taken from a damaged file."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.patches import target_volume as module
from cleftnet.patches.patch import UNKNOWN
from cleftnet.patches.target_volume import CACHE, cache_folder, target_volume
from cleftnet.patches.targets import distance_map
from cleftnet.volumes import INVALID, Volume, is_labelled


def blobs(shape, seed, unlabelled=False):
    """Boxes of several ids, some touching, and perhaps an unlabelled box."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint64)
    for value in range(1, 6):
        low = rng.integers(0, shape)
        labels[tuple(slice(a, a + int(n)) for a, n in zip(low, rng.integers(2, 24, 3), strict=True))] = value
    if unlabelled:
        low = rng.integers(0, shape)
        labels[tuple(slice(a, a + 9) for a in low)] = INVALID
    return labels


@pytest.fixture
def labels():
    return Volume(blobs((6, 20, 20), 0), (40, 4, 4))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(labels, **options):
    return target_volume(labels, in_memory_voxels=0, **options)


@pytest.fixture
def computed(monkeypatch):
    """Counts how many tiles have been computed."""
    calls = []
    compute = module._targets
    monkeypatch.setattr(module, "_targets", lambda *a: calls.append(1) or compute(*a))
    return calls


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.booleans())
def test_tiles_give_the_targets_of_the_whole(seed, unlabelled):
    ids = blobs((6, 70, 64), seed, unlabelled)
    expected = np.where(is_labelled(ids), distance_map(ids), UNKNOWN)
    found = target_volume(Volume(ids), tile_vox=(6, 40, 40)).read()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("voxel_size", [(40, 4, 4), (10, 10, 10)])
def test_tiles_give_the_targets_of_the_whole_in_nm(voxel_size):
    ids = blobs((60, 50, 50), 3, unlabelled=True)
    whole = distance_map(ids, unit="nm", voxel_size_nm=voxel_size, scale_nm=12)
    found = target_volume(Volume(ids, voxel_size), scale_nm=12, tile_vox=(24, 24, 24)).read()
    np.testing.assert_allclose(found, np.where(is_labelled(ids), whole, UNKNOWN), atol=1e-6)


def test_a_tile_is_cut_with_the_context_that_its_distances_need(monkeypatch):
    """A cleft ten pixels wide lies across the border of two tiles: with one pixel of context the second would take its own
    border for the inside of the cleft."""
    ids = np.zeros((1, 8, 64), np.uint64)
    ids[:, :, 28:38] = 4
    expected = distance_map(ids)
    np.testing.assert_allclose(target_volume(Volume(ids), tile_vox=(1, 8, 40)).read(), expected, atol=1e-6)
    monkeypatch.setattr(module, "FARTHEST", 0.5)
    assert abs(target_volume(Volume(ids), tile_vox=(1, 8, 30)).read() - expected).max() > 1e-3


def test_small_volumes_stay_in_memory_and_leave_no_file(labels, cache):
    target_volume(labels)
    assert not cache.exists()


def test_what_is_kept_equals_what_is_computed_in_memory(labels, cache):
    assert np.array_equal(kept(labels).read(), target_volume(labels).read())
    assert kept(labels).voxel_size_nm == (40, 4, 4)


def test_a_second_run_computes_nothing(labels, cache, computed):
    kept(labels)
    first = len(computed)
    kept(labels)
    assert len(computed) == first > 0


def test_the_file_is_an_ordinary_array_file(labels, cache):
    expected = kept(labels).read()
    (file,) = (cache / "targets").iterdir()
    assert np.array_equal(np.load(file), expected)


def _cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def _flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip_a_bit, _empty])
def test_a_damaged_file_is_computed_again(labels, cache, computed, damage):
    expected = kept(labels).read().copy()
    (file,) = (cache / "targets").iterdir()
    damage(file)
    computed.clear()
    assert np.array_equal(kept(labels).read(), expected)
    assert computed


def test_an_interrupted_computation_leaves_nothing_behind(labels, cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_targets", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(labels)
    assert list((cache / "targets").iterdir()) == []


def test_other_labels_voxels_or_scales_are_kept_apart(labels, cache):
    changed = labels.read().copy()
    changed[0, 0, 0] ^= 1
    kept(labels)
    kept(Volume(changed, (40, 4, 4)))
    kept(labels, scale_nm=50)
    kept(labels, scale_nm=40)
    kept(Volume(labels.read(), (50, 4, 4)), scale_nm=50)
    assert len(list((cache / "targets").iterdir())) == 5


def test_voxel_size_makes_no_difference_to_distances_in_voxels(labels, cache):
    kept(labels)
    kept(Volume(labels.read()))
    assert len(list((cache / "targets").iterdir())) == 1


def test_a_distance_in_nm_asks_for_the_voxel_size():
    with pytest.raises(InputError, match="carries no voxel size"):
        target_volume(Volume(np.ones((1, 2, 2), np.uint64)), scale_nm=50)


def test_a_cache_that_cannot_be_written_names_the_way_to_another(labels, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    with pytest.raises(InputError, match=f"cannot be cached.*{CACHE}"):
        kept(labels)


def test_without_the_variable_targets_are_kept_in_the_users_cache(monkeypatch):
    monkeypatch.delenv(CACHE, raising=False)
    assert cache_folder().name == "cleftnet"


def test_only_the_path_travels_to_another_process(labels, cache):
    volume = kept(labels)
    volume.read()
    assert len(pickle.dumps(volume)) < 2000 < volume.read().nbytes
    assert np.array_equal(pickle.loads(pickle.dumps(volume)).read(), volume.read())


@pytest.mark.parametrize(("voxel_size", "scale_nm"), [((40, 4, 4), None), ((40, 4, 4), 12), ((10, 10, 10), 12)])
def test_tiles_give_the_signed_targets_of_the_whole(voxel_size, scale_nm):
    ids = blobs((30, 60, 50), 3, unlabelled=True)
    nm = {} if scale_nm is None else {"unit": "nm", "voxel_size_nm": voxel_size, "scale_nm": scale_nm}
    expected = np.where(is_labelled(ids), distance_map(ids, signed=True, **nm), UNKNOWN)
    found = target_volume(Volume(ids, voxel_size), scale_nm=scale_nm, signed=True, tile_vox=(24, 24, 24)).read()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_signed_targets_are_kept_apart_and_the_others_where_they_always_were(labels, cache):
    kept(labels, signed=True)
    (signed,) = (cache / "targets").iterdir()
    kept(labels)
    assert {f.name for f in (cache / "targets").iterdir()} == {signed.name, "1edf4987f381ab20461eab320af50536.npy"}


def test_a_tile_without_cleft_is_far_outside():
    assert target_volume(Volume(np.zeros((1, 2, 2), np.uint64)), signed=True).read() == pytest.approx(-np.tanh(3))
