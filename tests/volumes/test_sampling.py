import numpy as np
import pytest

from cleftnet.volumes import Volume, sampled_checksums


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 256, (20, 200, 300), np.uint8)


def test_the_same_voxels_have_the_same_checksum_in_any_byte_order(voxels):
    wide = voxels.astype(np.uint16)
    assert sampled_checksums(Volume(wide)) == sampled_checksums(Volume(wide.astype(">u2")))
    assert sampled_checksums(Volume(wide)) != sampled_checksums(Volume(voxels))


@pytest.mark.parametrize("change", [lambda v: v // 2, lambda v: np.roll(v, 1, axis=2), lambda v: v[:, ::-1]])
def test_rescaled_shifted_and_mirrored_volumes_have_another_checksum(voxels, change):
    assert sampled_checksums(Volume(voxels)) != sampled_checksums(Volume(np.ascontiguousarray(change(voxels))))


def test_few_voxels_are_read_of_a_large_volume_and_any_shape_has_a_checksum():
    class Counting:
        shape, dtype, read = (1000, 5000, 5000), np.dtype(np.uint8), 0

        def __getitem__(self, slices):
            shape = tuple(part.stop - part.start for part in slices)
            Counting.read += int(np.prod(shape))
            return np.zeros(shape, np.uint8)

    assert len(sampled_checksums(Volume(Counting()))) == 64
    assert Counting.read == 64 * 256
    assert len(sampled_checksums(Volume(np.zeros((1, 3, 2), np.uint8)))) == 1


def test_places_that_cannot_be_read_have_no_checksum():
    class Damaged:
        shape, dtype = (4, 64, 64), np.dtype(np.uint8)

        def __getitem__(self, slices):
            if slices[0].start == 0:
                raise OSError("a bad sector")
            return np.zeros(tuple(part.stop - part.start for part in slices), np.uint8)

    found = sampled_checksums(Volume(Damaged()))
    assert found[:16] == (None,) * 16
    assert None not in found[16:]
