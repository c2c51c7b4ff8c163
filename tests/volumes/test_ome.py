"""OME-Zarr metadata: read from files of other programs, and written."""

import json

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.volumes import ArraySpec, LayoutSettings, Volume, create_volumes, list_arrays, open_volume, write_volume

VALUES = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
BOTH = pytest.mark.parametrize("zarr", [2, 3])


def axes(names="zyx", unit="nanometer"):
    space = {"type": "space", **({"unit": unit} if unit else {})}
    return [{"name": n, **(space if n in "xyz" else {"type": "time" if n == "t" else "channel"})} for n in names]


def dataset(path, scale=(40, 4, 4), translation=None):
    steps = [{"type": "scale", "scale": scale}]
    steps += [{"type": "translation", "translation": translation}] if translation else []
    return {"path": path, "coordinateTransformations": steps}


def ome_zarr(folder, zarr=2, **image):
    """An OME-Zarr with arrays `s0` and `s1`, filled with 1 and 2, and this image in its metadata."""
    with create_volumes(folder, layout=LayoutSettings(zarr=zarr)) as new:
        for n in (0, 1):
            new.create(ArraySpec(f"s{n}", (3, 4, 5), np.uint8))[0:3, 0:4, 0:5] = n + 1
    image = {"version": "0.4", "axes": axes(), "datasets": [dataset("s0"), dataset("s1", (40, 8, 8))]} | image
    if zarr == 2:
        (folder / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
        return
    attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))


@BOTH
def test_the_zarr_alone_means_its_highest_resolution(tmp_path, zarr):
    ome_zarr(tmp_path / "vol.zarr", zarr)
    volume = open_volume(tmp_path / "vol.zarr")
    assert (int(volume.read()[0, 0, 0]), volume.voxel_size) == (1, (40, 4, 4))
    assert volume.address.endswith("vol.zarr/s0")


@BOTH
def test_a_level_by_its_name_has_its_own_scale(tmp_path, zarr):
    ome_zarr(tmp_path / "vol.zarr", zarr)
    volume = open_volume(tmp_path / "vol.zarr/s1")
    assert (int(volume.read()[0, 0, 0]), volume.voxel_size) == (2, (40, 8, 8))
    assert list_arrays(tmp_path / "vol.zarr") == [f"{tmp_path}/vol.zarr/s0", f"{tmp_path}/vol.zarr/s1"]


def test_an_image_in_a_group_is_found_by_the_groups_name(tmp_path):
    ome_zarr(tmp_path / "inner.zarr")
    (tmp_path / "vol.zarr").mkdir()
    (tmp_path / "inner.zarr").rename(tmp_path / "vol.zarr" / "em")
    assert open_volume(tmp_path / "vol.zarr/em").voxel_size == (40, 4, 4)
    assert open_volume(tmp_path / "vol.zarr/em/s1").voxel_size == (40, 8, 8)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("nanometer", (40, 4.6, 4.6)), ("micrometer", (0.04, 0.0046, 0.0046)), ("angstrom", (400, 46, 46))],
)
def test_units_become_nm(tmp_path, unit, scale):
    ome_zarr(tmp_path / "vol.zarr", axes=axes(unit=unit), datasets=[dataset("s0", scale, scale)])
    volume = open_volume(tmp_path / "vol.zarr")
    assert volume.voxel_size == pytest.approx((40, 4.6, 4.6))
    assert volume.offset_nm == pytest.approx((40, 4.6, 4.6))


def test_transformations_of_image_and_level_are_applied_in_turn(tmp_path):
    """A level of scale 2 shifted by 10, in an image of scale 3 shifted by 100: a voxel has 6, the first lies at 3·10 + 100."""
    above = [{"type": "scale", "scale": [3, 3, 3]}, {"type": "translation", "translation": [100, 100, 100]}]
    ome_zarr(
        tmp_path / "vol.zarr",
        datasets=[dataset("s0", (2, 2, 2), (10, 20, 30))],
        coordinateTransformations=above,
    )
    volume = open_volume(tmp_path / "vol.zarr")
    assert (volume.voxel_size, volume.offset_nm) == ((6, 6, 6), (130, 160, 190))


def test_without_units_or_scale_there_is_no_voxel_size(tmp_path):
    ome_zarr(tmp_path / "a.zarr", axes=axes(unit=None))
    ome_zarr(tmp_path / "b.zarr", datasets=[{"path": "s0"}])
    ome_zarr(tmp_path / "c.zarr", axes=["z", "y", "x"])  # NGFF 0.3
    for name in "abc":
        assert open_volume(tmp_path / f"{name}.zarr").voxel_size is None
        assert open_volume(tmp_path / f"{name}.zarr", voxel_size_nm=(40, 4, 4)).voxel_size == (40, 4, 4)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ({"axes": axes("xyz")}, r"its axes are x y z; expected z y x"),
        ({"axes": axes("czyx")}, r"has 3 axes, but its OME-Zarr metadata names 4: c z y x"),
        ({"axes": axes("qzyx")}, r"its axes are q z y x; expected z y x, with t and c before them"),
        ({"axes": axes(unit="furlong")}, r"the unit 'furlong' of an axis is unknown; known are nanometer"),
        ({"axes": axes(unit=None), "datasets": [dataset("s0", translation=(1, 0, 0))]}, r"translation but no unit"),
        ({"datasets": [{"path": "s0", "coordinateTransformations": [{"type": "affine"}]}]}, r"transformation 'affine'"),
        ({"datasets": [{"name": "s0"}]}, r"multiscales\) cannot be understood \(KeyError: 'path'\)"),
        ({"datasets": [dataset("s9")]}, r"speaks of an array 's9', which is not there"),
        ({"datasets": [dataset("s0", (4, 4))]}, r"cannot be understood"),
    ],
)
def test_metadata_that_cannot_be_honored_is_refused_in_one_line(tmp_path, image, line):
    ome_zarr(tmp_path / "vol.zarr", **image)
    with pytest.raises(InputError, match=line) as caught:
        open_volume(tmp_path / "vol.zarr")
    assert "\n" not in str(caught.value)


@BOTH
def test_written_metadata_is_ome_zarr(tmp_path, zarr):
    write_volume(Volume(VALUES, (40, 4, 4.6), (80, 8, 0)), tmp_path / "vol.zarr", layout=LayoutSettings(zarr=zarr))
    if zarr == 2:
        (image,) = json.loads((tmp_path / "vol.zarr/.zattrs").read_text())["multiscales"]
        assert image.pop("version") == "0.4"
        assert json.loads((tmp_path / "vol.zarr/volumes/.zgroup").read_text()) == {"zarr_format": 2}
    else:
        ome = json.loads((tmp_path / "vol.zarr/zarr.json").read_text())["attributes"]["ome"]
        (image,) = ome["multiscales"]
        assert ome["version"] == "0.5"
    assert image == {
        "name": "volumes/raw",
        "axes": [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"],
        "datasets": [dataset("volumes/raw", [40, 4, 4.6], [80, 8, 0])],
    }


@BOTH
def test_a_pyramid_begins_half_a_voxel_further_at_every_level(tmp_path, zarr):
    """Voxels of 40×4×4 nm: two of them along y make one of 8, whose center lies 2 nm behind the first one's; four make 6 nm."""
    volume = Volume(np.zeros((2, 16, 16), np.uint8), (40, 4, 4), (80, 8, 12))
    write_volume(volume, tmp_path / "vol.zarr", layout=LayoutSettings(zarr=zarr, pyramid=True, chunk=(2, 4, 4)))
    places = {n: open_volume(tmp_path / f"vol.zarr/volumes/raw/s{n}") for n in range(3)}
    assert {n: p.voxel_size for n, p in places.items()} == {0: (40, 4, 4), 1: (40, 8, 8), 2: (40, 16, 16)}
    assert {n: p.offset_nm for n, p in places.items()} == {0: (80, 8, 12), 1: (80, 10, 14), 2: (80, 14, 18)}
    assert [p.shape for p in places.values()] == [(2, 16, 16), (2, 8, 8), (2, 4, 4)]
    for address in ("vol.zarr", "vol.zarr/volumes/raw"):
        assert open_volume(tmp_path / address).shape == (2, 16, 16)


@BOTH
@pytest.mark.parametrize("path", ["../other.zarr/raw", "s0/../../other.zarr/raw"])
def test_a_level_outside_of_its_image_is_refused(tmp_path, zarr, path):
    write_volume(Volume(VALUES), tmp_path / "other.zarr/raw")
    ome_zarr(tmp_path / "a.zarr", zarr, datasets=[dataset(path)])
    with pytest.raises(InputError, match=r"its level '.*other\.zarr/raw' leads outside of it"):
        open_volume(tmp_path / "a.zarr")
