"""Neuroglancer's precomputed format: x y z on disk, files made and read by hand."""

import json

import numpy as np
import pytest
import tensorstore as ts

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import LayoutSettings, Volume, list_arrays, open_volume, write_volume
from cleftnet.volumes.forks import run

Z, Y, X = np.ogrid[:3, :4, :5]
SPELLED = (100 * Z + 10 * Y + X).astype(np.uint16)


def scale(key="4_4_40", size=(5, 4, 3), resolution=(4, 4, 40), voxel_offset=(0, 0, 0)):
    where = {"key": key, "size": size, "resolution": resolution, "voxel_offset": voxel_offset}
    return {**where, "chunk_sizes": [[64, 64, 64]], "encoding": "raw"}


def precomputed(folder, *scales, **changes):
    """One raw chunk in the first scale, as the specification has it: x fastest, its place in its name."""
    info = {"@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint16", "num_channels": 1}
    scales = scales or (scale(),)
    folder.mkdir(parents=True)
    (folder / "info").write_text(json.dumps({**info, "scales": scales, **changes}))
    corner = scales[0]["voxel_offset"]
    name = "_".join(f"{a}-{a + n}" for a, n in zip(corner, (5, 4, 3), strict=True))
    (folder / scales[0]["key"]).mkdir()
    (folder / scales[0]["key"] / name).write_bytes(SPELLED.astype("<u2").tobytes())
    return f"precomputed://{folder}"


def test_a_volume_of_another_program_is_read_z_y_x_in_its_place(tmp_path):
    volume = open_volume(precomputed(tmp_path / "vol", scale(voxel_offset=(10, -2, 3))))
    assert (volume.shape, volume.dtype) == ((3, 4, 5), np.uint16)
    assert volume[Box((2, 3, 4), (3, 4, 5))].tolist() == [[[234]]]
    assert (volume.voxel_size, volume.offset_nm) == ((40, 4, 4), (120, -8, 40))


def test_written_files_follow_the_specification(tmp_path):
    write_volume(Volume(SPELLED, (40, 4, 4.6), (120, -8, 46), threshold=0.75), f"precomputed://{tmp_path}/vol")
    info = json.loads((tmp_path / "vol/info").read_text())
    (only,) = info.pop("scales")
    assert info == {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image",
        "data_type": "uint16",
        "num_channels": 1,
        "cleftnet": {"threshold": 0.75},
    }
    assert (only["size"], only["resolution"], only["voxel_offset"]) == ([5, 4, 3], [4.6, 4, 40], [10, -2, 3])
    chunk = (tmp_path / "vol" / only["key"] / "10-15_-2-2_3-6").read_bytes()
    assert np.frombuffer(chunk, "<u2").tolist() == SPELLED.ravel().tolist()
    assert open_volume(f"precomputed://{tmp_path}/vol").threshold == 0.75


def test_a_scale_is_named_by_its_key_and_lies_by_its_center(tmp_path):
    """The voxel of 8 nm begins at the corner of two of 4 nm; the center of the two lies 2 nm behind the center of the first."""
    scales = (scale(voxel_offset=(2, 2, 0)), scale("8_8_40", (3, 2, 3), (8, 8, 40), (1, 1, 0)))
    address = precomputed(tmp_path / "vol", *scales)
    assert open_volume(address).offset_nm == (0, 8, 8)
    lower = open_volume(f"{address}/8_8_40")
    assert (lower.shape, lower.voxel_size, lower.offset_nm) == ((3, 2, 3), (40, 8, 8), (0, 10, 10))
    assert list_arrays(address) == [address, f"{address}/8_8_40"]


def test_the_highest_resolution_is_the_smallest_voxel_wherever_it_stands(tmp_path):
    address = precomputed(tmp_path / "vol", scale("8_8_40", (3, 2, 3), (8, 8, 40)), scale())
    assert open_volume(address).voxel_size == (40, 4, 4)


@pytest.mark.parametrize(
    ("dtype", "name", "kind", "encoding"),
    [
        (np.uint64, "volumes/labels/clefts", "segmentation", "compressed_segmentation"),
        (np.uint32, "volumes/labels/clefts", "segmentation", "compressed_segmentation"),
        (np.uint8, "volumes/labels/clefts", "segmentation", "raw"),
        (np.uint8, "volumes/raw", "image", "raw"),
        (np.float32, "volumes/probability", "image", "raw"),
    ],
)
def test_labels_become_a_segmentation(tmp_path, dtype, name, kind, encoding):
    values = SPELLED.astype(dtype)
    write_volume(Volume(values, (40, 4, 4)), f"precomputed://{tmp_path}/vol", default=name)
    info = json.loads((tmp_path / "vol/info").read_text())
    assert (info["type"], info["scales"][0]["encoding"]) == (kind, encoding)
    np.testing.assert_array_equal(open_volume(f"precomputed://{tmp_path}/vol").read(), values)


def make_sharded(folder):
    sharding = {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 1, "shard_bits": 1}
    sharding |= {"hash": "identity", "minishard_index_encoding": "gzip", "data_encoding": "gzip"}
    metadata = {"size": [5, 4, 3], "encoding": "raw", "chunk_size": [2, 2, 2], "resolution": [4, 4, 40]}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": f"file://{folder}/",
        "multiscale_metadata": {"data_type": "uint16", "num_channels": 1, "type": "image"},
        "scale_metadata": {**metadata, "sharding": sharding},
    }
    ts.open(spec, create=True).result()[..., 0].write(SPELLED.T).result()


def test_sharded_volumes_are_read(tmp_path):
    run(make_sharded, tmp_path / "vol")
    assert any(path.name.endswith(".shard") for path in (tmp_path / "vol").rglob("*"))
    np.testing.assert_array_equal(open_volume(f"precomputed://{tmp_path}/vol").read(), SPELLED)


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 5, 7)])
def test_levels_of_a_pyramid_lie_on_the_grid_that_begins_at_the_origin(tmp_path, start):
    """Where the array begins at an odd voxel, the first voxel of a level reaches over its edge and covers one voxel of it."""
    values = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    offset = tuple(n * v for n, v in zip(start, (40, 4, 4), strict=True))
    address = f"precomputed://{tmp_path}/vol"
    write_volume(Volume(values, (40, 4, 4), offset), address, layout=LayoutSettings(pyramid=True, chunk=(2, 4, 4)))
    lower = open_volume(f"{address}/8_8_40")
    corner = [n // 2 * 2 for n in start]
    assert lower.voxel_size == (40, 8, 8)
    assert lower.offset_nm == (offset[0], corner[1] * 4 + 2, corner[2] * 4 + 2)
    whole = Box((0, 1, 1), (1, 3, 3))  # voxels of the level that lie inside whatever the offset
    first = [1 * 2 - (n - c) for n, c in zip(start[1:], corner[1:], strict=True)]
    expected = [
        [values[0, y : y + 2, x : x + 2].mean() for x in (first[1], first[1] + 2)] for y in (first[0], first[0] + 2)
    ]
    np.testing.assert_allclose(lower[whole][0], expected, atol=0.5)


@pytest.mark.parametrize(
    ("volume", "line"),
    [
        (Volume(SPELLED), "the format needs a voxel size; .*voxel_size_nm=\\(40, 4, 4\\)"),
        (
            Volume(SPELLED, (40, 4, 4), (20, 0, 0)),
            r"offset \(20, 0, 0\) nm is no whole number of voxels .*\.zarr or \.n5",
        ),
        (
            Volume(SPELLED.astype(np.float64), (40, 4, 4)),
            r"precomputed holds no float64, only uint8, .*; choose \.zarr",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, volume, line):
    with pytest.raises(InputError, match=line):
        write_volume(volume, f"precomputed://{tmp_path}/vol")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none", r"none does not exist; its folder holds"),
        ("empty", r"is no precomputed volume: there is no file 'info'"),
        ("vol/8_8_4", r"has no scale '8_8_4'; known: 4_4_40|did you mean"),
        ("mesh", r"holds 'neuroglancer_legacy_mesh'; expected a volume"),
        ("rgb", r"has 3 channels; expected one"),
        ("odd", r"info makes no sense \(KeyError: 'size'\)"),
        ("broken", r"info is no JSON"),
    ],
)
def test_an_array_that_cannot_be_opened_is_an_error_of_one_line(tmp_path, name, line):
    precomputed(tmp_path / "vol")
    (tmp_path / "empty").mkdir()
    precomputed(tmp_path / "mesh", **{"@type": "neuroglancer_legacy_mesh"})
    precomputed(tmp_path / "rgb", num_channels=3)
    precomputed(tmp_path / "odd", **{"scales": [{"key": "a", "resolution": [4, 4, 40]}]})
    precomputed(tmp_path / "broken")
    (tmp_path / "broken/info").write_text("{")
    with pytest.raises(InputError, match=line) as caught:
        open_volume(f"precomputed://{tmp_path}/{name}")
    assert "\n" not in str(caught.value)
