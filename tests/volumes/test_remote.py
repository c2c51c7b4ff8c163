"""Volumes behind a server: HTTP on loopback, and a small stand-in for a bucket of Google's."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from cleftnet.errors import InputError
from cleftnet.geometry import Box
from cleftnet.volumes import LayoutSettings, Volume, describe, list_arrays, open_volume, write_volume

Z, Y, X = np.ogrid[:3, :40, :50]
SPELLED = (1000 * Z + 50 * Y + X).astype(np.uint16)
VOLUME = Volume(SPELLED, (40, 4, 4), (80, 8, 12))
BOX = Box((1, 30, 7), (3, 40, 23))


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


def serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def site(tmp_path):
    """The folder of the test, behind HTTP."""
    server = serving(functools.partial(Quiet, directory=str(tmp_path)))
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        ("{}/vol.zarr", "{}/vol.zarr"),
        ("{}/vol.zarr/raw", "{}/vol.zarr/raw"),
        ("{}/vol.n5/raw", "{}/vol.n5/raw"),
        ("precomputed://{}/vol", "precomputed://{}/vol"),
    ],
)
def test_a_volume_is_read_over_http_where_it_lies(tmp_path, site, local, remote):
    write_volume(VOLUME, local.format(tmp_path), layout=LayoutSettings(chunk=(2, 16, 16)))
    volume = open_volume(remote.format(site))
    assert (volume.voxel_size, volume.offset_nm, volume.dtype) == ((40, 4, 4), (80, 8, 12), np.uint16)
    np.testing.assert_array_equal(volume[BOX], SPELLED[BOX.slices])


@pytest.mark.parametrize("zarr", [2, 3])
def test_ome_zarr_with_a_pyramid_is_read_and_listed_over_http(tmp_path, site, zarr):
    layout = LayoutSettings(chunk=(2, 16, 16), pyramid=True, zarr=zarr)
    write_volume(VOLUME, tmp_path / "vol.zarr", layout=layout)
    address = f"{site}/vol.zarr"
    np.testing.assert_array_equal(open_volume(address)[BOX], SPELLED[BOX.slices])
    assert open_volume(f"{address}/volumes/raw/s1").voxel_size == (40, 8, 8)
    assert list_arrays(address)[:2] == [f"{address}/volumes/raw/s0", f"{address}/volumes/raw/s1"]
    assert describe(address)[0].to_json()["shape"] == [3, 40, 50]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("{}/none.zarr", r"none\.zarr is no Zarr: it has neither zarr\.json nor"),
        ("{}/vol.zarr/rwa", r"has no array 'rwa'; it has raw; did you mean 'raw'\?"),
        ("{}/none.n5/raw", r"has no array 'raw', nor does it list any"),
        ("precomputed://{}/none", r"is no precomputed volume: there is no file 'info'"),
    ],
)
def test_an_array_missing_on_a_server_is_an_error_of_one_line(tmp_path, site, address, line):
    write_volume(VOLUME, tmp_path / "vol.zarr/raw")
    with pytest.raises(InputError, match=line) as caught:
        open_volume(address.format(site))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/vol.zarr", "precomputed://http://127.0.0.1:9/vol"])
def test_a_server_that_does_not_answer_is_an_error_of_one_line(address):
    with pytest.raises(InputError, match=r"cannot be reached: .*onnect.*; check the address, the network") as caught:
        open_volume(address)
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_behind_a_server_is_named(tmp_path, site):
    write_volume(VOLUME, tmp_path / "vol.zarr/raw", layout=LayoutSettings(chunk=(2, 16, 16)))
    volume = open_volume(f"{site}/vol.zarr/raw")
    (tmp_path / "vol.zarr/raw/1/2/1").write_bytes(b"garbage")
    with pytest.raises(
        InputError, match=r"raw cannot be read at 2:3,32:40,16:32 \(.*raw/1/2/1.*; the array is damaged"
    ):
        volume[Box((2, 32, 16), (3, 40, 32))]


def test_nothing_is_written_over_http(site):
    with pytest.raises(InputError, match=r"nothing can be written over HTTP; write to s3://, gs:// or a local file"):
        write_volume(VOLUME, f"{site}/out.zarr")


class Bucket(http.server.BaseHTTPRequestHandler):
    """What tensorstore needs of Google's JSON interface: objects that are put, got, listed and deleted."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes] = {}  # noqa: RUF012 - one bucket

    def log_message(self, *_):
        pass

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-goog-generation", "1")
        self.end_headers()
        self.wfile.write(body)

    def asked(self):
        url = urlsplit(self.path)
        return unquote(url.path.partition("/o")[2].removeprefix("/")), parse_qs(url.query)

    def do_GET(self):
        name, query = self.asked()
        if name:
            self.answer(200, self.objects[name]) if name in self.objects else self.answer(404)
            return
        first, end = (query.get(key, [default])[0] for key, default in (("startOffset", ""), ("endOffset", "~")))
        found = [n for n in sorted(self.objects) if first <= n < end]
        items = [{"name": n, "size": str(len(self.objects[n])), "generation": "1"} for n in found]
        self.answer(200, json.dumps({"items": items}).encode())

    def do_POST(self):
        _, query = self.asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.objects[query["name"][0]] = body
        self.answer(200, json.dumps({"name": query["name"][0], "generation": "1"}).encode())

    def do_DELETE(self):
        name, _ = self.asked()
        self.objects.pop(name, None)
        self.answer(204)


IN_A_BUCKET = """
import numpy as np
from cleftnet.volumes import ArraySpec, Volume, create_volumes, open_volume, write_volume
values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
for address in ("gs://lab/vol.zarr", "precomputed://gs://lab/vol", "gs://lab/vol.n5/raw"):
    write_volume(Volume(values, (40, 4, 4), (80, 0, 0)), address)
    volume = open_volume(address)
    assert (volume.read() == values).all() and volume.offset_nm == (80, 0, 0), address
    try:
        write_volume(volume, address)
    except ValueError as error:
        print(error)
write_volume(Volume(values[:1], (40, 4, 4)), "gs://lab/vol.zarr", overwrite=True)
assert open_volume("gs://lab/vol.zarr").shape == (1, 4, 5)
try:
    with create_volumes("gs://lab/half.zarr") as new:
        new.create(ArraySpec("a", (3, 4, 5), np.uint8))[0:3, 0:4, 0:5] = 1
        raise KeyError("interrupted")
except KeyError as error:
    print(error)
"""


def test_a_bucket_is_written_and_read_like_a_folder(monkeypatch):
    """In a process of its own, because tensorstore looks at the environment once."""
    monkeypatch.setattr(Bucket, "objects", {})
    server = serving(Bucket)
    address = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "TENSORSTORE_GCS_HTTP_URL": address, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none"}
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_BUCKET], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    server.shutdown()
    server.server_close()
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines[:3]] == [
        "exists already; add overwrite=True or choose another name"
    ] * 3
    assert lines[3] == "'interrupted'"
    assert sorted({name.partition("/")[0] for name in Bucket.objects}) == ["vol", "vol.n5", "vol.zarr"]
