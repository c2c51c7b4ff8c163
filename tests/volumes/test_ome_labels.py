"""Label images in OME-Zarr, and all OME-Zarr metadata that we write, judged by ome-zarr-models."""

import json

import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pydantic_zarr.v2
import pytest
import zarr

from cleftnet.cli import main
from cleftnet.errors import InputError
from cleftnet.volumes import LABELS, LayoutSettings, Volume, describe, open_volume, write_volume

SIZE_NM, OFFSET_NM = (40.0, 4.6, 4.0), (80.0, 9.2, 0.0)
RAW = Volume(np.arange(4 * 64 * 64, dtype=np.uint8).reshape(4, 64, 64), SIZE_NM, OFFSET_NM)
IDS = np.zeros((4, 64, 64), np.uint64)
IDS[1:3, 8:40, 8:24], IDS[2, 44:60, 44:60] = 7, 2**40
IDS_VOLUME = Volume(IDS, SIZE_NM, OFFSET_NM)
MODELS = {2: ome_zarr_models.v04, 3: ome_zarr_models.v05}
for model in (MODELS[2].Labels, MODELS[2].ImageLabel, MODELS[2].Image):
    model.model_rebuild(_types_namespace=vars(pydantic_zarr.v2))  # pydantic does not find these names by itself
BOTH = pytest.mark.parametrize("version", [2, 3])
# zarr warns of its own ways of reading
pytestmark = pytest.mark.filterwarnings("ignore")


def image(path, version):
    """The OME metadata of an image, read and validated by ome-zarr-models."""
    return MODELS[version].Image.from_zarr(zarr.open_group(path, mode="r")).ome_attributes


def label_image(path, version):
    """The OME metadata of a label image, read and validated by ome-zarr-models."""
    return MODELS[version].ImageLabel.from_zarr(zarr.open_group(path, mode="r")).ome_attributes


@pytest.fixture
def write_image(tmp_path):
    def _write(version, pyramid=False):
        path = tmp_path / "vol.zarr"
        layout = LayoutSettings(zarr=version, pyramid=pyramid, chunk=(2, 16, 16))
        write_volume(RAW, path, layout=layout)
        return path

    return _write


@BOTH
@pytest.mark.parametrize("pyramid", [False, True])
def test_images_that_we_write_are_valid(write_image, version, pyramid):
    path = write_image(version, pyramid)
    found = image(path, version)
    assert [axis.name for axis in found.multiscales[0].axes] == ["z", "y", "x"]
    assert len(found.multiscales[0].datasets) == (4 if pyramid else 1)
    if pyramid:
        image(path / "volumes/raw", version)


@BOTH
@pytest.mark.parametrize("pyramid", [False, True])
def test_labels_beside_an_image_are_named_marked_and_of_as_many_levels(write_image, version, pyramid):
    path = write_image(version, pyramid)
    levels = len(image(path, version).multiscales[0].datasets)
    write_volume(IDS_VOLUME, path / "labels/clefts")
    write_volume(IDS_VOLUME, path / "labels/other")
    group = zarr.open_group(path / "labels", mode="r")
    names = group.attrs["ome"]["labels"] if version == 3 else group.attrs["labels"]
    assert names == ["clefts", "other"]
    MODELS[version].labels.LabelsAttrs.model_validate(dict(group.attrs["ome"] if version == 3 else group.attrs))
    if version == 2:  # ome-zarr-models 1.6 fails on the whole in 0.5 where a label image names no colors
        assert MODELS[version].Labels.from_zarr(group).ome_attributes.labels == ["clefts", "other"]
        image(path, version)
    found = label_image(path / "labels/clefts", version)
    assert len(found.multiscales[0].datasets) == levels
    assert found.image_label.source.image == "../../"
    assert (path / "labels/clefts" / found.image_label.source.image).resolve() == path.resolve()


@BOTH
def test_labels_are_read_back_by_name_with_voxel_size_offset_and_axis_order(write_image, version):
    path = write_image(version, pyramid=True)
    write_volume(IDS_VOLUME, path / "labels/clefts")
    back = open_volume(path / "labels/clefts")
    assert (back.shape, back.dtype, back.voxel_size, back.offset_nm) == (IDS.shape, np.uint64, SIZE_NM, OFFSET_NM)
    np.testing.assert_array_equal(back.read(), IDS)
    np.testing.assert_array_equal(zarr.open_array(path / "labels/clefts/s0", mode="r")[:], IDS)
    assert set(np.unique(open_volume(path / "labels/clefts/s1").read())) <= {0, 7, 2**40}
    np.testing.assert_array_equal(open_volume(path).read(), RAW.read())


def test_masks_of_one_byte_are_not_averaged_in_lower_resolutions(write_image):
    path = write_image(2, pyramid=True)
    write_volume(Volume((IDS > 0).astype(np.uint8), SIZE_NM, OFFSET_NM), path / "labels/mask")
    for level in ("s0", "s1", "s2"):
        assert set(np.unique(open_volume(path / f"labels/mask/{level}").read())) <= {0, 1}


def test_labels_are_replaced_only_on_request_and_the_image_stays(write_image):
    path = write_image(2)
    write_volume(IDS_VOLUME, path / "labels/clefts")
    with pytest.raises(InputError, match=r"exists already; add overwrite=True"):
        write_volume(IDS_VOLUME, path / "labels/clefts")
    write_volume(Volume(IDS * 2, SIZE_NM, OFFSET_NM), path / "labels/clefts", overwrite=True)
    np.testing.assert_array_equal(open_volume(path / "labels/clefts").read(), IDS * 2)
    np.testing.assert_array_equal(open_volume(path).read(), RAW.read())
    assert json.loads((path / "labels/.zattrs").read_text())["labels"] == ["clefts"]


def test_an_interrupted_write_names_nothing(write_image):
    path = write_image(2)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_volume(IDS_VOLUME, path / "labels/clefts", progress=stop)
    assert not (path / "labels/.zattrs").exists()
    assert not list((path / "labels").iterdir())
    image(path, 2)


@pytest.mark.parametrize(
    ("volume", "layout", "line"),
    [
        (Volume(np.zeros((4, 64, 64), np.float32), SIZE_NM), None, "expected label ids"),
        (Volume(IDS), None, "a label image needs a voxel size"),
        (IDS_VOLUME, LayoutSettings(zarr=3), "is Zarr v2, and so are its labels"),
    ],
)
def test_what_is_no_label_image_is_refused(write_image, volume, layout, line):
    path = write_image(2)
    with pytest.raises(InputError, match=line):
        write_volume(volume, path / "labels/clefts", layout=layout)
    assert not (path / "labels/clefts").exists()


@BOTH
@pytest.mark.parametrize("pyramid", [False, True])
def test_labels_alone_are_marked_so_that_viewers_show_them_as_labels(tmp_path, version, pyramid):
    layout = LayoutSettings(zarr=version, pyramid=pyramid, chunk=(2, 16, 16))
    write_volume(IDS_VOLUME, tmp_path / "labels.zarr", default="volumes/labels/clefts", layout=layout)
    label_image(tmp_path / "labels.zarr", version)
    np.testing.assert_array_equal(open_volume(tmp_path / "labels.zarr", default=LABELS).read(), IDS)


def test_the_command_adds_labels_of_a_cremi_file_to_an_image(tmp_path, cremi_file, synthetic):
    for source, target, *options in (
        (cremi_file, tmp_path / "vol.zarr"),
        (cremi_file, tmp_path / "vol.zarr/labels/clefts", "--labels"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["convert", str(source), str(target), *options])
        assert ended.value.code == 0
    label_image(tmp_path / "vol.zarr/labels/clefts", 2)
    np.testing.assert_array_equal(open_volume(tmp_path / "vol.zarr/labels/clefts").read(), synthetic.labels.read())
    by_name = {one.volume.address.removeprefix(f"{tmp_path}/"): one for one in describe(tmp_path / "vol.zarr")}
    assert by_name["vol.zarr/volumes/raw"].labels is None
    assert by_name["vol.zarr/labels/clefts/s0"].labels.clefts > 0
