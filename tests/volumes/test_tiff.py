"""TIFF stacks and series: slice order, voxel sizes of other programs, and damaged files."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import Volume, open_volume, write_volume
from cleftnet.volumes.tiff import _per_nm

STACK = np.random.default_rng(0).integers(0, 256, (5, 32, 48), np.uint8)


def slice_at(volume, z):
    return volume[Box((z, 0, 0), (z + 1, *volume.shape[1:]))][0]


def destroy(path, offset, size):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)


def write_series(folder, slices):
    folder.mkdir()
    for n, values in enumerate(slices):
        tifffile.imwrite(folder / f"{n}.tif", values, compression="zlib", metadata=None)


def test_slices_come_in_natural_order(tmp_path):
    """As text, 10 stands before 2; and s1z10 before s1z9."""
    for names in (["1.tif", "2.tif", "10.tif"], ["s1z9.tif", "s1z10.tif", "s2z1.tif"]):
        folder = tmp_path / names[0]
        folder.mkdir()
        for n, name in enumerate(names):
            tifffile.imwrite(folder / name, np.full((2, 3), n, np.uint8), metadata=None)
        assert open_volume(folder / "*.tif").read()[:, 0, 0].tolist() == [0, 1, 2]


def test_only_the_slices_of_a_box_are_read_from_a_series(tmp_path):
    write_series(tmp_path / "stack", STACK)
    volume = open_volume(tmp_path / "stack/*.tif")
    destroy(tmp_path / "stack/3.tif", 0, (tmp_path / "stack/3.tif").stat().st_size)
    (tmp_path / "stack/4.tif").unlink()
    np.testing.assert_array_equal(volume[Box((0, 0, 0), (3, 32, 48))], STACK[:3])
    with pytest.raises(InputError, match=r"3\.tif cannot be read as TIFF .* whole"):
        slice_at(volume, 3)
    with pytest.raises(InputError, match=r"4\.tif does not exist"):
        slice_at(volume, 4)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
def test_only_the_pages_of_a_box_are_read_from_a_compressed_stack(tmp_path, compression, bigtiff):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, compression=compression, bigtiff=bigtiff, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        page = file.pages[3]
        offset, size = page.dataoffsets[0], page.databytecounts[0]
    destroy(path, offset, size)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume[Box((0, 1, 2), (3, 9, 11))], STACK[:3, 1:9, 2:11])
    np.testing.assert_array_equal(slice_at(volume, 4), STACK[4])
    with pytest.raises(InputError, match=r"stack\.tif cannot be read as TIFF"):
        slice_at(volume, 3)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "how", [{"imagej": True}, {"ome": True}, {"metadata": None}, {"tile": (16, 16)}, {"bigtiff": True}]
)
def test_the_common_kinds_of_stack_read_alike(tmp_path, how, byteorder):
    values = STACK.astype(np.uint16) * 3
    tifffile.imwrite(tmp_path / "stack.tif", values, byteorder=byteorder, photometric="minisblack", **how)
    volume = open_volume(tmp_path / "stack.tif")
    assert volume.dtype == np.dtype(np.uint16)
    np.testing.assert_array_equal(volume.read(), values)


@pytest.mark.parametrize("axes", ["TYX", "CYX"])
def test_frames_or_channels_alone_are_slices(tmp_path, axes):
    """Programs that do not know which axis z is write it as another: tifffile as channels, ImageJ often as frames."""
    tifffile.imwrite(tmp_path / "stack.tif", STACK, imagej=True, metadata={"axes": axes})
    np.testing.assert_array_equal(open_volume(tmp_path / "stack.tif").read(), STACK)


def test_a_mask_of_one_bit_is_bool(tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", STACK > 127, photometric="minisblack")
    assert open_volume(tmp_path / "mask.tif").dtype == np.bool_
    np.testing.assert_array_equal(open_volume(tmp_path / "mask.tif").read(), STACK > 127)


@pytest.mark.parametrize(
    ("unit", "voxel_size_nm"),
    [
        ("nm", (50, 4.6, 9.2)),
        ("micron", (50e3, 4.6e3, 9.2e3)),
        ("\\u00B5m", (50e3, 4.6e3, 9.2e3)),
        ("pixel", None),
        ("", None),
    ],
)
def test_the_voxel_size_of_imagej_needs_a_unit(tmp_path, unit, voxel_size_nm):
    tifffile.imwrite(
        tmp_path / "stack.tif",
        STACK,
        imagej=True,
        resolution=(1 / 9.2, 1 / 4.6),
        metadata={"axes": "ZYX", "spacing": 50.0, "unit": unit},
    )
    found = open_volume(tmp_path / "stack.tif").voxel_size
    assert found == (voxel_size_nm and pytest.approx(voxel_size_nm))


def test_imagej_without_spacing_has_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", STACK, imagej=True, resolution=(0.25, 0.25), metadata={"unit": "nm"})
    assert open_volume(tmp_path / "stack.tif").voxel_size is None


def test_the_voxel_size_of_ome_is_in_its_own_units(tmp_path):
    """Z in nm as said, X in µm because OME's default is µm, Y in µm as said."""
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 50, "PhysicalSizeZUnit": "nm", "PhysicalSizeX": 0.0092}
    metadata |= {"PhysicalSizeY": 0.0046, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "stack.ome.tif", STACK, metadata=metadata)
    assert open_volume(tmp_path / "stack.ome.tif").voxel_size == pytest.approx((50, 4.6, 9.2))


def test_ome_without_all_three_sizes_has_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "stack.ome.tif", STACK, metadata={"axes": "ZYX", "PhysicalSizeX": 0.0092})
    assert open_volume(tmp_path / "stack.ome.tif").voxel_size is None


def test_imagej_itself_would_show_the_voxel_size_that_we_write(tmp_path):
    write_volume(Volume(STACK, (50, 4.6, 9.2)), tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.is_imagej
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (50, "nm")
        assert file.pages.first.resolution == pytest.approx((1 / 9.2, 1 / 4.6))


def test_a_new_series_is_numbered_so_that_text_order_is_slice_order(tmp_path):
    write_volume(Volume(np.zeros((11, 2, 3), np.uint8)), tmp_path / "out/s*.tif")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"s{n:02d}.tif" for n in range(11)]


def test_a_series_never_replaces_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(InputError, match=r"holds other things \(thesis\.doc\)"):
        write_volume(Volume(STACK), tmp_path / "*.tif", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_series_needs_one_star(tmp_path):
    with pytest.raises(InputError, match="write one star"):
        write_volume(Volume(STACK), tmp_path / "out/*_*.tif")


RGB = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: tifffile.imwrite(path, RGB, photometric="rgb"), "is RGB or has 3 channels; expected gray"),
        (lambda path: tifffile.imwrite(path, np.stack([RGB] * 4), photometric="rgb"), "is RGB or has 3 channels"),
        (
            lambda path: tifffile.imwrite(
                path, np.zeros((3, 2, 4, 5), np.uint8), imagej=True, metadata={"axes": "ZCYX"}
            ),
            "has axes ZCYX",
        ),
        (lambda path: path.write_text("no picture"), "cannot be read as TIFF .*check that it is one"),
        (lambda path: path.write_bytes(b""), "cannot be read as TIFF"),
    ],
)
def test_a_file_that_is_no_gray_stack_is_refused_in_one_line(tmp_path, make, line):
    make(tmp_path / "stack.tif")
    with pytest.raises(InputError, match=line) as caught:
        open_volume(tmp_path / "stack.tif")
    assert "\n" not in str(caught.value)
    (tmp_path / "series").mkdir()
    make(tmp_path / "series" / "0.tif")
    with pytest.raises(InputError):
        open_volume(tmp_path / "series")


def test_a_page_of_another_shape_is_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "stack.tif") as file:
        for side in (4, 4, 6, 4):
            file.write(np.zeros((side, side), np.uint8), metadata=None)
    with pytest.raises(InputError, match="page 2 is 6×6 uint8, the first is 4×4 uint8"):
        open_volume(tmp_path / "stack.tif")


@pytest.mark.parametrize("odd", [np.zeros((32, 47), np.uint8), np.zeros((32, 48), np.uint16)])
def test_a_slice_of_another_shape_or_type_is_named(tmp_path, odd):
    write_series(tmp_path / "stack", [STACK[0], STACK[1], odd])
    with pytest.raises(InputError, match=rf"2\.tif is 32×{odd.shape[1]} {odd.dtype}, but .*0\.tif is 32×48 uint8"):
        open_volume(tmp_path / "stack")


def test_a_series_of_stacks_is_refused(tmp_path):
    write_series(tmp_path / "stack", [STACK[0]])
    tifffile.imwrite(tmp_path / "stack" / "1.tif", STACK, photometric="minisblack")
    with pytest.raises(InputError, match=r"1\.tif holds 5 slices; expected one in every file"):
        open_volume(tmp_path / "stack")


@pytest.mark.parametrize("how", [{"imagej": True}, {"compression": "zlib"}, {"metadata": None}, {"bigtiff": True}])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_stack_is_refused_and_not_read_as_a_shorter_one(tmp_path, how, share):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", **how)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"cut short|cannot be read as TIFF"):
        open_volume(path)


def test_hidden_files_are_no_slices(tmp_path):
    write_series(tmp_path / "stack", STACK)
    (tmp_path / "stack" / "._0.tif").write_text("left by macOS")
    assert open_volume(tmp_path / "stack/*.tif").shape == STACK.shape


def test_the_real_series_opens_by_folder_and_by_pattern(real_data):
    if not (real_data / "vnc-l3/unlabelled").is_dir():
        pytest.skip("the published TIFF files of the second stack are not in CLEFTNET_DATA/vnc-l3/unlabelled")
    for address in (real_data / "vnc-l3/unlabelled", real_data / "vnc-l3/unlabelled/*.tif"):
        volume = open_volume(address, voxel_size_nm=(50, 4.6, 4.6))
        assert (volume.shape, volume.dtype, volume.voxel_size_nm) == ((20, 1024, 1024), np.uint8, (50, 4.6, 4.6))
        expected = tifffile.imread(real_data / "vnc-l3/unlabelled/07.tif")
        np.testing.assert_array_equal(slice_at(volume, 7), expected)


def test_a_compression_that_needs_imagecodecs_says_so_where_it_is_missing(tmp_path):
    tifffile.imwrite(tmp_path / "lzw.tif", STACK, compression="lzw")
    code = "import sys; sys.modules['imagecodecs'] = None\n"  # as where it is not installed
    code += "import numpy, cleftnet\ntry: numpy.asarray(cleftnet.open_volume('lzw.tif'))\n"
    code += "except cleftnet.InputError as error: print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("lzw.tif is compressed; to read it, pip install 'cleftnet[tiff]'\n")


def test_a_compressed_slice_that_would_not_fit_into_memory_is_refused(tmp_path):
    """80 tiles of 64 MiB of zeros are a file of 5 MB, and 5 GiB in memory."""
    tile = zlib.compress(bytes(2**26), 9)
    shape = (8192, 8192 * 80)
    tifffile.imwrite(
        tmp_path / "bomb.tif", iter([tile] * 80), shape=shape, dtype=np.uint8, tile=(8192, 8192), compression="zlib"
    )
    with pytest.raises(InputError, match="compressed slices of 8192×655360 voxels, each of which takes 5 GiB"):
        open_volume(tmp_path / "bomb.tif")


@pytest.mark.parametrize("side", [4.0, 4.6, 1000 / 3, 0.1 + 0.2, 7.123456789, 1e-6, 3.7e9])
def test_pixels_per_nm_are_a_fraction_of_32_bits_that_is_nearer_than_a_billionth(side):
    pixels, nm = _per_nm(side)
    assert max(pixels, nm) < 2**32
    assert nm / pixels == pytest.approx(side, rel=1e-15)
