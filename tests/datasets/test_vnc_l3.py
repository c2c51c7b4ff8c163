"""vnc-l3 downloaded from a server on loopback: archives made here, in the layout of the public repository."""

import hashlib
import io
import stat
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from cleftnet.cli import main
from cleftnet.datasets import download_vnc_l3, fetching, vnc_l3
from cleftnet.datasets.validation import check_cremi, overall
from cleftnet.errors import InputError
from cleftnet.volumes import LABELS, open_volume

ARCHIVE = f"{vnc_l3.COMMIT}.zip"
SECTIONS, HEIGHT, WIDTH = 3, 24, 20
GRAYS = [255, 96, 159, 191, 223]  # of the tissue codes 0 to 4
BACKGROUND = 2**64 - 1


def png(section):
    file = io.BytesIO()
    Image.fromarray(section).save(file, "PNG", compress_level=1)
    return file.getvalue()


def tif(section):
    file = io.BytesIO()
    tifffile.imwrite(file, section)
    return file.getvalue()


def in_repository_layout(raw, clefts, tissue, other):
    """The files of the repository that hold these arrays: masks of 0 and 1, those of the first section of 0 and 255."""
    labels = np.asarray(GRAYS, np.uint8)[tissue]
    labels[(labels == 96) & (raw % 2 == 0)] = 0  # membranes are coded by orientation
    files = {}
    for z in range(len(raw)):
        mask = (clefts[z] > 0).astype(np.uint8) * (255 if z == 0 else 1)
        files |= {
            f"stack1/raw/{z:02}.tif": tif(raw[z]),
            f"stack1/synapses/{z:02}.png": png(mask),
            f"stack1/labels/labels{z:08}.png": png(labels[z]),
            f"stack1/membranes/{z:02}.png": png((tissue[z] == 1).astype(np.uint8)),
            f"stack2/raw/{z:02}.tif": tif(other[z]),
        }
    return files


def zipped(files, commit=vnc_l3.COMMIT, links=()):
    """An archive as GitHub makes it: one folder, and the commit as comment."""
    buffer, top = io.BytesIO(), f"{vnc_l3.REPOSITORY}-{commit}"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{top}/README.md", "synthetic")
        for name, content in files.items():
            archive.writestr(name if name.startswith(("/", "..")) else f"{top}/{name}", content)
        for name, target in links:
            link = zipfile.ZipInfo(f"{top}/{name}")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
        archive.comment = commit.encode()
    return buffer.getvalue()


def use_checksums(monkeypatch, files):
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(vnc_l3, "checksums", lambda: sums)


@pytest.fixture(scope="module")
def arrays():
    """Raw, clefts (two, of which the second has its first voxel above), tissue, and the raw of the other stack."""
    random = np.random.default_rng(0)
    clefts = np.zeros((SECTIONS, HEIGHT, WIDTH), np.uint64)
    clefts[0:2, 10:12, 3:6] = 2
    clefts[0, 2, 14:17] = 1
    clefts[1, 3, 17] = 1  # by a corner only
    tissue = random.integers(0, 4, clefts.shape).astype(np.uint8)
    tissue[clefts > 0] = 4
    raw, other = random.integers(0, 256, (2, *clefts.shape)).astype(np.uint8)
    return raw, clefts, tissue, other


@pytest.fixture
def content(arrays, monkeypatch):
    files = in_repository_layout(*arrays)
    use_checksums(monkeypatch, files)
    return files


@pytest.fixture
def server(content, serving, monkeypatch):
    """GitHub, played by a server here."""
    monkeypatch.setattr(fetching, "PIECE_BYTES", 100)
    with serving({ARCHIVE: zipped(content)}) as server:
        monkeypatch.setattr(vnc_l3, "SITE", server.url)
        yield server


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_files_in_cremis_layout_are_made_and_nothing_else_stays(server, arrays, tmp_path):
    raw, clefts, tissue, other = arrays
    paths = download_vnc_l3(tmp_path / "new")
    assert [path.name for path in paths] == ["vnc-l3.hdf", "vnc-l3-stack2.hdf"]
    assert names(tmp_path / "new") == ["vnc-l3-stack2.hdf", "vnc-l3.hdf"]
    with h5py.File(paths[0]) as file, h5py.File(paths[1]) as second:
        assert np.array_equal(file["volumes/raw"], raw)
        assert np.array_equal(file["volumes/labels/clefts"], np.where(clefts > 0, clefts, BACKGROUND))
        assert np.array_equal(file["volumes/tissue"], tissue)
        assert np.array_equal(second["volumes/raw"], other)
        for dataset in (file["volumes/raw"], file["volumes/labels/clefts"], file["volumes/tissue"]):
            assert dataset.attrs["resolution"].tolist() == [50, 4.6, 4.6]
        assert second["volumes/raw"].attrs["resolution"].tolist() == [50, 4.6, 4.6]
        for root in (file, second):
            assert vnc_l3.COMMIT in root.attrs["source"]
            assert "CC BY-NC-SA 3.0" in root.attrs["terms"]
    assert overall(check_cremi(paths[0])) != "error"
    assert open_volume(paths[0], default=LABELS)[0, 2, 14] == 1


def test_a_download_that_was_cut_off_is_resumed(server, tmp_path):
    whole = server.files[ARCHIVE]
    server.cut_at, server.etag = 700, None  # GitHub gives no strong ETag
    with pytest.raises(InputError, match=r"stopped in the middle.*what has come is kept"):
        download_vnc_l3(tmp_path)
    assert (tmp_path / f"{ARCHIVE}.part").read_bytes() == whole[:700]
    server.cut_at = None
    download_vnc_l3(tmp_path)
    assert server.ranges == [None, "bytes=700-"]
    assert names(tmp_path) == ["vnc-l3-stack2.hdf", "vnc-l3.hdf"]


def test_files_that_are_there_are_not_made_again(server, tmp_path):
    paths = download_vnc_l3(tmp_path)
    paths[1].unlink()
    before = paths[0].read_bytes()
    download_vnc_l3(tmp_path)
    download_vnc_l3(tmp_path)
    assert len(server.asked) == 2
    assert paths[0].read_bytes() == before
    assert names(tmp_path) == ["vnc-l3-stack2.hdf", "vnc-l3.hdf"]


def test_a_file_of_another_origin_is_neither_taken_nor_replaced(server, tmp_path):
    with h5py.File(tmp_path / "vnc-l3.hdf", "w") as file:
        file.attrs["file_format"] = "0.2"
    before = (tmp_path / "vnc-l3.hdf").read_bytes()
    with pytest.raises(InputError, match=r"vnc-l3\.hdf was not made from commit .*move it away"):
        download_vnc_l3(tmp_path)
    assert (tmp_path / "vnc-l3.hdf").read_bytes() == before
    assert server.asked == []


def refused(server, tmp_path, archive, match):
    """A download of this archive ends with the message, and leaves nothing."""
    server.files[ARCHIVE] = archive
    with pytest.raises(InputError, match=match):
        download_vnc_l3(tmp_path / "to")
    assert names(tmp_path / "to") == []


def test_one_wrong_file_is_named(server, content, tmp_path):
    changed = content | {"stack1/synapses/01.png": content["stack1/synapses/02.png"]}
    refused(server, tmp_path, zipped(changed), r"stack1/synapses/01\.png has another SHA-256.*it was deleted")


def test_one_missing_file_is_named(server, content, tmp_path):
    fewer = {name: value for name, value in content.items() if name != "stack2/raw/02.tif"}
    refused(server, tmp_path, zipped(fewer), r"it has no file stack2/raw/02\.tif")


def test_the_archive_of_another_commit_is_refused_even_with_the_right_files(server, content, tmp_path):
    refused(server, tmp_path, zipped(content, commit="0" * 40), f"archive of commit {'0' * 40}, not of {vnc_l3.COMMIT}")


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "a/../../../outside.txt", "C:\\outside.txt"])
def test_paths_that_lead_outside_are_refused(server, content, tmp_path, name):
    refused(server, tmp_path, zipped(content | {name: b"x"}), r"path .*outside\.txt.* leads outside of the archive")
    assert not list(tmp_path.rglob("outside*"))


def test_links_that_lead_outside_are_refused_and_others_are_not(server, content, tmp_path):
    outside = zipped(content, links=[("stack1/link", "../../../secret")])
    refused(server, tmp_path, outside, r"link .*stack1/link.* leads outside")
    server.files[ARCHIVE] = zipped(content, links=[("stack1/link", "../README.md")])
    assert len(download_vnc_l3(tmp_path / "to")) == 2


@pytest.mark.parametrize(
    "damage", [lambda z: b"no archive", lambda z: z[:-30], lambda z: z[:200] + b"?" * 50 + z[250:]]
)
def test_a_damaged_archive_is_refused_and_deleted(server, content, tmp_path, damage):
    refused(server, tmp_path, damage(zipped(content)), "sent a file that is no valid archive of .*it was deleted")


def test_mirrors_come_before_github(server, serving, content, tmp_path):
    with serving({ARCHIVE: zipped(content)}) as mirror:
        download_vnc_l3(tmp_path, mirrors=[mirror.url])
        assert (len(mirror.asked), len(server.asked)) == (1, 0)


def test_a_gray_value_of_no_tissue_and_sections_of_several_shapes_are_refused(content, serving, monkeypatch, tmp_path):
    for name, image, message in (
        (
            "stack1/labels/labels00000001.png",
            np.full((HEIGHT, WIDTH), 7, np.uint8),
            "gray value 7, which stands for no",
        ),
        ("stack2/raw/01.tif", np.zeros((HEIGHT, WIDTH + 1), np.uint8), "sections of stack2/raw/ differ in shape"),
        ("stack2/raw/01.tif", np.zeros((HEIGHT, WIDTH), np.uint16), "stack2/raw/01.tif is uint16"),
    ):
        changed = content | {name: (tif if name.endswith("tif") else png)(image)}
        use_checksums(monkeypatch, changed)
        with serving({ARCHIVE: zipped(changed)}) as server, pytest.raises(InputError, match=message):
            download_vnc_l3(tmp_path / message, mirrors=[server.url])


def test_the_command_fetches_into_the_folder_of_public_volumes(server, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CLEFTNET_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit) as ended:
        main(["download", "vnc-l3"])
    said = capsys.readouterr()
    folder = tmp_path / "data/vnc-l3"
    assert ended.value.code == 0
    assert said.out == f"{folder / 'vnc-l3.hdf'}\n{folder / 'vnc-l3-stack2.hdf'}\n"
    assert f"all {5 * SECTIONS} files in it have their published SHA-256" in said.err
    assert "CC BY-NC-SA 3.0" in said.err
    assert open_volume("$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf").shape == (SECTIONS, HEIGHT, WIDTH)


def test_samples_belong_to_cremi(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["download", "vnc-l3", "--sample", "A"])
    assert ended.value.code == 2
    assert "--sample chooses volumes of cremi" in capsys.readouterr().err


def test_the_list_of_checksums_in_the_package_has_six_kinds_of_twenty_sections():
    listed = vnc_l3.checksums()
    folders = {}
    for path, digest in listed.items():
        folders.setdefault(path.rpartition("/")[0], []).append(path)
        assert len(bytes.fromhex(digest)) == 32
    kinds = ["labels", "membranes", "mitochondria", "raw", "synapses"]
    assert sorted(folders) == [*(f"stack1/{kind}" for kind in kinds), "stack2/raw"]
    assert all(len(paths) == 20 for paths in folders.values())


def test_the_second_stack_has_the_checksums_of_the_list(real_data):
    folder = real_data / "vnc-l3/unlabelled"
    if not folder.is_dir():
        pytest.skip("the published TIFF files of the second stack are not in CLEFTNET_DATA/vnc-l3/unlabelled")
    for z in range(20):
        digest = hashlib.sha256((folder / f"{z:02}.tif").read_bytes()).hexdigest()
        assert digest == vnc_l3.checksums()[f"stack2/raw/{z:02}.tif"]


def widened(arrays, first):
    """Real arrays of x < 768 with made-up tissue beyond, so that the whole has the components that the ids leave room for.

    Ids count the components of the whole stack by first voxel, so an id that is missing in x < 768 belongs to a component
    that lies beyond. For every missing id one voxel is set there, in the row where the id before it begins.
    """
    raw, clefts, tissue = (np.pad(array, ((0, 0), (0, 0), (0, 1024 - array.shape[2]))) for array in arrays)
    missing = sorted(set(range(1, max(first) + 1)) - set(first))
    for number, gap in enumerate(missing):
        z, y = first[max(known for known in first if known < gap)][:2]
        place = (z, y, 780 + 4 * number)
        clefts[place], tissue[place] = gap, 4
    return raw, clefts, tissue


def test_the_shared_volume_of_x_below_768_is_made_again_array_by_array(real_data, serving, monkeypatch, tmp_path):
    """Ids included, those of junctions that x = 768 cuts too."""
    with h5py.File(real_data / "vnc-l3/vnc-l3.hdf") as file:
        raw, clefts, tissue = (
            file[name][..., :768] for name in ("volumes/raw", "volumes/labels/clefts", "volumes/tissue")
        )
    ids = np.where(clefts == BACKGROUND, 0, clefts)
    known, at = np.unique(ids[ids > 0], return_index=True)
    places = np.argwhere(ids > 0)
    first = {int(i): tuple(places[n]) for i, n in zip(known, at, strict=True)}
    whole = widened((raw, ids, tissue), first)
    for row in whole[1:]:  # the junctions that reach the cut go on beyond it
        row[..., 768:770] = np.where((ids[..., 767:] > 0), row[..., 767:768], row[..., 768:770])
    other = tifffile.imread(sorted((real_data / "vnc-l3/unlabelled").glob("*.tif")))
    files = in_repository_layout(*whole, other)
    use_checksums(monkeypatch, files)
    with serving({ARCHIVE: zipped(files)}) as server:
        monkeypatch.setattr(vnc_l3, "SITE", server.url)
        labeled, unlabeled = download_vnc_l3(tmp_path)
    with h5py.File(labeled) as made, h5py.File(real_data / "vnc-l3/vnc-l3.hdf") as shared:
        assert made["volumes/raw"].shape == (20, 1024, 1024)
        for name in ("volumes/raw", "volumes/labels/clefts", "volumes/tissue"):
            assert np.array_equal(made[name][..., :768], shared[name][..., :768]), name
            assert made[name].dtype == shared[name].dtype
            assert made[name].attrs["resolution"].tolist() == shared[name].attrs["resolution"].tolist()
        assert made["volumes/tissue"].attrs["classes"] == shared["volumes/tissue"].attrs["classes"]
        assert made.attrs["file_format"] == shared.attrs["file_format"]
    assert np.array_equal(open_volume(unlabeled).read(), other)
