import numpy as np

from cleftnet.geometry import Box
from cleftnet.volumes import Volume

PART = Box((0, 0, 0), (1, 2, 2))


def test_volumes_in_memory_are_told_apart_by_what_they_hold_and_their_parts_too():
    zeros, ones, again = (Volume(np.full((2, 2, 2), value, np.uint8)) for value in (0, 1, 0))
    assert zeros.identity() == again.identity() != ones.identity()
    assert zeros.crop(PART).identity() == again.crop(PART).identity() != ones.crop(PART).identity()
    assert zeros.crop(PART).identity() != zeros.identity()


def test_a_file_is_told_by_its_absolute_address_and_a_url_by_itself(tmp_path, monkeypatch):
    class Elsewhere:
        shape, dtype = (1, 1, 1), np.dtype(np.uint8)

    monkeypatch.chdir(tmp_path)
    assert Volume(Elsewhere(), address="a.hdf/raw").identity() == str(tmp_path / "a.hdf/raw")
    assert Volume(Elsewhere(), address="s3://lab/fly.zarr").identity() == "s3://lab/fly.zarr"
