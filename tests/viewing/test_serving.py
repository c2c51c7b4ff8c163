"""The viewer as a server: who may read from it, what it serves, and how it starts and stops."""

import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest

import cleftnet
from cleftnet.cli import main
from cleftnet.volumes import Volume, write_volume

neuroglancer = pytest.importorskip("neuroglancer", reason="neuroglancer is not installed: pip install 'cleftnet[view]'")

SIZE_NM = (40.0, 5.0, 4.0)
RAW = (np.arange(6 * 7 * 11) % 251).astype(np.uint8).reshape(6, 7, 11)  # all axes differ, and so do all neighbors
LABELS = np.where(RAW % 5 == 0, RAW.astype(np.uint64) + 2**40, 0)


@pytest.fixture(scope="module")
def viewer():
    layers = {"labels": LABELS, "probability": RAW.astype(np.float64) / 255}
    with cleftnet.view(RAW, layers, voxel_size_nm=SIZE_NM, open_browser=False) as running:
        yield running


def status(url, body=None, **headers):
    """The status code of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def served(viewer, name, scale="1,1,1", start="0,0,0", end="11,7,6"):
    """The voxels that neuroglancer gets of a layer, x y z."""
    key = viewer._server._viewer.state.layers[name].layer.source[0].url.removeprefix("python://volume/")
    url = viewer.url.split("/c/")[0] + f"/neuroglancer/npz/{key}/{scale}/{start}/{end}"
    with urllib.request.urlopen(url) as answer:
        return np.load(io.BytesIO(zlib.decompress(answer.read())))


def test_the_page_and_its_contents_need_the_token(viewer):
    wrong = viewer.url.replace(viewer._server.token, "0" * 40)
    assert status(viewer.url) == status(f"{viewer.url}contents") == 200
    assert status(wrong) == status(f"{wrong}contents") == status(f"{wrong}go", b"{}") == 404
    assert status(viewer.url.replace("/c/", "/v/").replace(viewer._server.token, "0" * 40)) == 404


def test_a_page_of_another_site_that_leads_here_gets_nothing(viewer):
    assert status(viewer.url, Host="evil.example:80") == 404
    assert status(viewer.url.replace("/c/", "/v/"), Host="evil.example") == 404
    assert status(viewer.url, Host="localhost:9000") == 200  # the near end of an ssh tunnel


def test_only_this_machine_can_connect(viewer):
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others or {"127.0.0.2"}:
        with pytest.raises(OSError, match=r"[Rr]efused|timed out"):
            socket.create_connection((address, viewer.port), timeout=5)


def test_voxels_are_served_with_axes_x_y_z(viewer):
    np.testing.assert_array_equal(served(viewer, "raw"), RAW.T)
    np.testing.assert_array_equal(served(viewer, "labels", start="2,1,0", end="9,7,5"), LABELS[0:5, 1:7, 2:9].T)
    np.testing.assert_allclose(served(viewer, "probability"), (RAW / 255).T.astype(np.float32))


def test_lower_resolutions_average_gray_values_and_keep_ids(viewer):
    np.testing.assert_array_equal(
        served(viewer, "labels", "2,2,1", end="6,4,6"), np.asfortranarray(LABELS[:, ::2, ::2].T)
    )
    half = served(viewer, "raw", "2,2,1", end="5,3,6").T
    np.testing.assert_allclose(half, RAW[:, :6, :10].reshape(6, 3, 2, 5, 2).mean(axis=(2, 4)), atol=1)


def test_only_what_is_asked_for_is_read():
    class Counting:
        shape, dtype, read = (100_000, 100_000, 100_000), np.dtype(np.uint8), 0

        def __getitem__(self, index):
            box = np.zeros([len(range(*part.indices(100_000))) for part in index], np.uint8)
            self.read += box.size
            return box

    store = Counting()
    with cleftnet.view(Volume(store, SIZE_NM), open_browser=False) as large:
        sampled = store.read
        served(large, "raw", start="64000,64000,64000", end="64064,64064,64064")
    assert sampled <= 2**23  # for the range of gray values
    assert store.read - sampled == 64**3


def test_the_lists_click_moves_the_cross_hairs(viewer):
    assert status(f"{viewer.url}go", json.dumps({"position": [3.5, 2.5, 1.5]}).encode()) == 200
    assert viewer._server._viewer.state.position.tolist() == [3.5, 2.5, 1.5]
    assert status(f"{viewer.url}go", b"no json") == 400
    assert status(f"{viewer.url}elsewhere") == status(f"{viewer.url}elsewhere", b"{}") == 404


def test_a_layer_is_hidden_and_shown(viewer):
    for visible in (False, True):
        assert status(f"{viewer.url}show", json.dumps({"name": "raw", "visible": visible}).encode()) == 200
        with urllib.request.urlopen(f"{viewer.url}visible") as answer:
            assert json.load(answer)["raw"] is visible


def test_a_stopped_viewer_answers_no_more():
    viewer = cleftnet.view(RAW, voxel_size_nm=SIZE_NM, open_browser=False)
    viewer.stop()
    viewer.stop()
    viewer.wait()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(viewer.url)


def test_a_port_in_use_is_one_line(viewer, capsys, tmp_path):
    write_volume(Volume(RAW, SIZE_NM), tmp_path / "a.hdf")
    with pytest.raises(SystemExit) as ended:
        main(["view", str(tmp_path / "a.hdf"), "--no-open", "--port", str(viewer.port)])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message == f"error: --port {viewer.port} is in use; choose another, or 0 for a free one\n"


def test_without_the_extra_one_line_says_what_to_install(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "neuroglancer" else find(name))
    with pytest.raises(SystemExit) as ended:
        main(["view", "A.hdf"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: the viewer needs neuroglancer, which is not installed; pip install 'cleftnet[view]'\n"
    )


def test_the_program_prints_the_address_and_how_to_reach_it_and_ends_quietly_on_ctrl_c(tmp_path):
    write_volume(Volume(RAW, SIZE_NM), tmp_path / "a.hdf")
    labels = tmp_path / "labels.hdf"
    write_volume(Volume((RAW > 100).astype(np.uint64), SIZE_NM), labels, default="volumes/labels/clefts")
    program = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cleftnet",
            "view",
            tmp_path / "a.hdf",
            f"labels={labels}",
            f"truth={labels}",
            "--no-open",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a job in the background ignores it
    )
    try:
        url = program.stdout.readline().strip()
        assert status(url) == 200
        program.send_signal(signal.SIGINT)
        rest, messages = program.communicate(timeout=60)
    finally:
        program.kill()
    port = re.search(r":(\d+)/", url)[1]
    assert (program.returncode, rest) == (0, "")
    assert f"ssh -L {port}:127.0.0.1:{port} " in messages
    assert "Traceback" not in messages
    assert messages.count("labels against truth: ") == 1
