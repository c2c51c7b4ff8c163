"""The downloader against a server on loopback, which can be cut short, forgetful, wrong, or not to be trusted."""

import hashlib

import numpy as np
import pytest
import trustme

from cleftnet.cli import main
from cleftnet.datasets import SAMPLES, Sample, download, download_cremi, fetching
from cleftnet.errors import InputError
from cleftnet.volumes import Volume, write_cremi

CONTENT = bytes(range(256)) * 40  # 10,240 bytes, each telling its place
NAME, UNKNOWN = SAMPLES["A"].file, SAMPLES["A+"].file


@pytest.fixture
def server(monkeypatch, serving):
    """CREMI's own site, played by a server here; nothing in these tests leaves the machine."""
    monkeypatch.setattr(fetching, "PIECE_BYTES", 100)
    monkeypatch.setitem(SAMPLES, "A", Sample(NAME, hashlib.sha256(CONTENT).hexdigest()))
    with serving({NAME: CONTENT}) as server:
        monkeypatch.setattr(download, "SITE", server.url)
        yield server


@pytest.fixture
def cremi_bytes(tmp_path):
    """A valid CREMI file of 2×4×4 voxels."""
    write_cremi(tmp_path / "made.hdf", raw=Volume(np.zeros((2, 4, 4), np.uint8), (40, 4, 4)))
    return (tmp_path / "made.hdf").read_bytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_byte_for_byte_and_nothing_else_stays(server, tmp_path):
    (path,) = download_cremi(["A"], tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == [NAME]


def test_a_complete_file_is_not_fetched_again(server, tmp_path):
    download_cremi(["A"], tmp_path)
    download_cremi(["A", "A"], tmp_path)
    assert len(server.asked) == 1


def test_an_interrupted_download_is_resumed(server, tmp_path):
    server.cut_at = 3000
    with pytest.raises(InputError, match=r"stopped in the middle.*what has come is kept"):
        download_cremi(["A"], tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:3000]
    server.cut_at = None
    (path,) = download_cremi(["A"], tmp_path)
    assert server.ranges == [None, "bytes=3000-"]
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == [NAME]


def test_where_the_server_ignores_ranges_the_file_comes_whole(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:3000])
    server.knows_ranges = False
    (path,) = download_cremi(["A"], tmp_path)
    assert server.ranges == ["bytes=3000-"]
    assert path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_discarded(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT * 2)
    assert download_cremi(["A"], tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges == [f"bytes={2 * len(CONTENT)}-", None]
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", b""], ids=["truncated", "altered", "empty"])
def test_another_file_than_the_known_one_is_refused_and_deleted(server, tmp_path, content):
    server.files[NAME] = content
    with pytest.raises(InputError, match="whose SHA-256 is not the known one; it was deleted"):
        download_cremi(["A"], tmp_path)
    assert names(tmp_path) == []


def test_a_bad_part_spoils_one_attempt_only(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"?" * 3000)
    with pytest.raises(InputError, match="SHA-256"):
        download_cremi(["A"], tmp_path)
    assert download_cremi(["A"], tmp_path)[0].read_bytes() == CONTENT


def test_a_missing_file_is_named_with_what_the_server_answered(server, tmp_path):
    server.files.clear()
    with pytest.raises(InputError, match=rf"cannot fetch {NAME}: {server.url} answers 404 Not Found; .*mirrors="):
        download_cremi(["A"], tmp_path)


def test_a_web_page_is_not_taken_for_the_file(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:3000])
    server.content_type, server.knows_ranges = "text/html; charset=utf-8", False
    with pytest.raises(InputError, match="answers with a web page"):
        download_cremi(["A"], tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:3000]


def test_mirrors_are_tried_in_turn_before_the_site_itself(server, serving, tmp_path):
    with serving({NAME: CONTENT}) as mirror:
        mirror.cut_at = 3000
        unreachable = "http://127.0.0.1:1/data"
        assert download_cremi(["A"], tmp_path, mirrors=[unreachable, f"{mirror.url}/"])[0].read_bytes() == CONTENT
        assert (mirror.ranges, server.ranges) == ([None], ["bytes=3000-"])  # the second goes on where the first stopped


def test_every_source_that_failed_is_named(server, tmp_path):
    server.files.clear()
    with pytest.raises(InputError) as caught:
        download_cremi(["A"], tmp_path, mirrors=["http://127.0.0.1:1/data", "ftp://127.0.0.1", "nowhere"])
    said = str(caught.value)
    for part in (
        "127.0.0.1:1/data cannot be reached (Connection refused)",
        "ftp://127.0.0.1 cannot",
        "nowhere cannot",
        "404",
    ):
        assert part in said
    assert "\n" not in said


def test_a_file_there_that_is_not_cremis_is_neither_taken_nor_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"its SHA-256 differs.*move it away"):
        download_cremi(["A"], tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"mine"
    assert server.asked == []


def test_a_file_without_a_known_checksum_is_checked_as_a_cremi_file(server, tmp_path, cremi_bytes, messages):
    server.files[UNKNOWN] = cremi_bytes
    (path,) = download_cremi(["A+"], tmp_path / "to")
    assert path.read_bytes() == cremi_bytes
    assert names(tmp_path / "to") == [UNKNOWN]
    download_cremi(["A+"], tmp_path / "to")
    assert len(server.asked) == 1
    assert "no checksum of it is known, so it was checked as a CREMI file: ok" in messages.text
    server.files[UNKNOWN] = CONTENT
    with pytest.raises(InputError, match=r"is no valid CREMI file \(.*cannot be opened as HDF5.*it was deleted"):
        download_cremi(["A+"], tmp_path / "again")
    assert names(tmp_path / "again") == []


def test_without_a_checksum_only_the_same_file_is_continued(server, tmp_path, cremi_bytes):
    """Cut off after 100 bytes; then the file changes on the server, and its new ETag sends the whole."""
    server.files[UNKNOWN], server.cut_at, to = b"x" * 100 + cremi_bytes, 100, tmp_path / "to"
    with pytest.raises(InputError, match="stopped in the middle"):
        download_cremi(["A+"], to)
    server.files[UNKNOWN], server.cut_at, server.etag = cremi_bytes, None, '"2"'
    assert download_cremi(["A+"], to)[0].read_bytes() == cremi_bytes
    assert (server.asked[1]["Range"], server.asked[1]["If-Range"]) == ("bytes=100-", '"1"')


def test_without_a_checksum_an_unchanged_file_is_continued(server, tmp_path, cremi_bytes):
    server.files[UNKNOWN], server.cut_at, to = cremi_bytes, 100, tmp_path / "to"
    with pytest.raises(InputError, match="stopped in the middle"):
        download_cremi(["A+"], to)
    server.cut_at = None
    assert download_cremi(["A+"], to)[0].read_bytes() == cremi_bytes
    assert server.ranges == [None, "bytes=100-"]


@pytest.mark.parametrize("etag", [None, 'W/"1"'], ids=["none", "weak"])
def test_without_a_checksum_and_a_strong_etag_a_file_is_begun_anew(server, tmp_path, cremi_bytes, etag):
    server.files[UNKNOWN], server.cut_at, server.etag, to = cremi_bytes, 100, etag, tmp_path / "to"
    with pytest.raises(InputError, match="stopped in the middle"):
        download_cremi(["A+"], to)
    server.cut_at = None
    assert download_cremi(["A+"], to)[0].read_bytes() == cremi_bytes
    assert server.ranges == [None, None]


@pytest.fixture
def authority(server, serving, tmp_path):
    """A certificate authority of our own, its root in a file, and a TLS server that it vouches for."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "root.pem")
    with serving({NAME: CONTENT}, ca.issue_cert("127.0.0.1")) as trusted:
        yield trusted, tmp_path / "root.pem"


def test_a_certificate_of_an_unknown_authority_ends_in_one_line(authority, monkeypatch, tmp_path, capsys):
    tls, _ = authority
    monkeypatch.setattr(download, "SITE", tls.url)
    with pytest.raises(SystemExit) as ended:
        main(["download", "cremi", "--sample", "A", "--dest", str(tmp_path / "to")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"error: cannot fetch {NAME}: {tls.url} has a certificate that cannot be trusted (")
    assert "TLS checks stay on" in said
    assert said.count("\n") == 1
    assert tls.asked == []


def test_a_trusted_certificate_is_accepted(authority, monkeypatch, tmp_path):
    tls, root = authority
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(root))
    assert download_cremi(["A"], tmp_path / "to", mirrors=[tls.url])[0].read_bytes() == CONTENT
    assert len(tls.asked) == 1


def test_an_encrypted_source_may_not_send_on_to_one_that_is_not(authority, server, monkeypatch, tmp_path):
    tls, root = authority
    tls.redirect_to = f"{server.url}/{NAME}"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(root))
    monkeypatch.setattr(download, "SITE", tls.url)
    with pytest.raises(InputError, match=r"sends on to http://.* not encrypted"):
        download_cremi(["A"], tmp_path / "to")


def test_a_folder_that_cannot_be_made_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*choose another dest="):
        download_cremi(["A"], tmp_path / "file" / "below")


def test_the_command_prints_where_the_files_are(server, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["download", "cremi", "--sample", "A", "--dest", str(tmp_path)])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out == f"{tmp_path / NAME}\n"
    assert "its SHA-256 is the known one" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["cremy"], "did you mean 'cremi'?"), (["cremi", "--sample", "D"], "CREMI has no sample 'D'; known: A, B, C, A+")],
)
def test_unknown_names_are_refused_before_anything_is_asked(server, arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["download", *arguments])
    assert message in capsys.readouterr().err
    assert server.asked == []


def test_the_table_names_twelve_files_three_with_a_checksum():
    assert len(SAMPLES) == len({sample.file for sample in SAMPLES.values()}) == 12
    assert [name for name, sample in SAMPLES.items() if sample.sha256] == ["A", "B", "C"]
    assert SAMPLES["B_padded"].file == "sample_B_padded_20160501.hdf"
    assert SAMPLES["C+_padded"].file == "sample_C+_padded_20160601.hdf"
