"""A page made by hand, and a headless Chromium over its debugging protocol: real keys, real layout."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tornado.websocket import websocket_connect

from cleftnet.comparison.tables import TextTable
from cleftnet.reporting import Contents, Entry, History, Scene, ScenePrediction, write_page
from cleftnet.volumes import Volume


class Browser:
    """One tab; every call waits until the browser has done it."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.new_event_loop()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(t for t in json.load(answer) if t["type"] == "page")
        self.socket = self.loop.run_until_complete(_connect(target["webSocketDebuggerUrl"]))
        self.number, self.events = 0, []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.loop.run_until_complete(_write(self.socket, json.dumps(message)))
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _next(self):
        answer = json.loads(self.loop.run_until_complete(_read(self.socket)))
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, page: Path, fragment: str = "", width: int = 1400, height: int = 1000) -> None:
        """Open a page and wait until it is loaded."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        for address in ("about:blank", page.as_uri() + fragment):  # by way of nothing, so that it is loaded anew
            self.events.clear()
            self("Page.navigate", url=address)
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self._next()

    def ask(self, expression: str):
        """Return the value of a JavaScript expression."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press one key, as a person would."""
        text = key if len(key) == 1 else ""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
        code = codes.get(key, ord(key[0]))
        for kind in ("keyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode=code,
            )

    def screenshot(self, selector: str = "") -> bytes:
        """Return a PNG of an element, or of the whole page."""
        where = f"document.querySelector({json.dumps(selector or 'html')})"
        self.ask("Promise.all([...document.images].map((image) => image.decode().catch(() => 0))).then(() => 0)")
        box = self.ask(
            f"(() => {{ const r = {where}.getBoundingClientRect(); "
            "return {x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}; })()"
        )
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**box, "scale": 1})
        return base64.b64decode(shot["data"])

    def complaints(self) -> list[str]:
        """What went wrong in the page since it was opened."""
        self.ask("0")
        return [
            json.dumps(event["params"])
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
        ]

    def fetched(self) -> list[str]:
        """The addresses that the page asked for, but for those that carry their data themselves."""
        self.ask("0")
        requests = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in requests if not url.startswith("data:")]

    def close(self) -> None:
        self.socket.close()
        self.loop.run_until_complete(asyncio.sleep(0.1))
        self.loop.close()


async def _connect(address):
    return await websocket_connect(address, max_message_size=2**28)


async def _write(socket, text):
    await socket.write_message(text)


async def _read(socket):
    return await asyncio.wait_for(socket.read_message(), 120)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; skips, saying so, where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    home = tmp_path_factory.mktemp("chromium")
    flags = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-extensions",
        "--disable-background-networking",
        "--hide-scrollbars",
    )
    process = subprocess.Popen(
        [program, *flags, "--remote-debugging-port=0", f"--user-data-dir={home}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port_file, begun = home / "DevToolsActivePort", time.monotonic()
        while not (port_file.exists() and port_file.read_text().strip()):
            assert process.poll() is None, "Chromium did not start"
            assert time.monotonic() - begun < 120, "Chromium took more than two minutes to start"
            time.sleep(0.1)
        tab = Browser(int(port_file.read_text().split()[0]))
        yield tab
        tab.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


SIZE_NM = (40.0, 4.0, 4.0)
SHAPE = (5, 120, 200)
FALSE_POSITIVE, FALSE_NEGATIVE, RIGHT = (
    (2, 30, 150),
    (2, 90, 40),
    (2, 30, 40),
)  # z y x, the middle of blocks of 24×40 voxels


def block(at, depth=1):
    """A block of 24×40 voxels around a place."""
    z, y, x = at
    return slice(z, z + depth), slice(y - 12, y + 12), slice(x - 20, x + 20)


@pytest.fixture(scope="session")
def contents():
    """Two models on one scene: in section 2 one cleft is right, one is not found, and one is predicted where there is none."""
    rng = np.random.default_rng(0)
    truth, probability = np.zeros(SHAPE, np.uint64), rng.integers(0, 40, SHAPE).astype(np.uint8)
    truth[block(RIGHT, 2)], truth[block(FALSE_NEGATIVE)] = 1, 2
    probability[block(RIGHT, 2)], probability[block(FALSE_POSITIVE)] = 230, 220
    raw = rng.integers(60, 200, SHAPE).astype(np.uint8)
    offset = (400.0, 0.0, 0.0)

    def volume(values):
        return Volume(values, SIZE_NM, offset)

    steps = np.arange(1.0, 201.0)
    history = History(
        {"step": np.array([100.0, 200.0]), "f1": np.array([0.4, 0.6]), "cremi_score": np.array([90.0, np.nan])},
        {"step": steps, "loss_total": 1 / steps, "loss_segmentation": 0.5 / steps},
    )
    with_distance = ScenePrediction(volume(probability), volume(probability // 2))
    worse = ScenePrediction(volume((probability * 0.9).astype(np.uint8)))
    return Contents(
        title="A <b>tricky</b> & title",
        about="Made by hand.",
        scenes=(Scene("hand-made", volume(raw), volume(truth), (10, 0, 0)),),
        entries=(
            Entry("cleftnet", "CleftNet", (with_distance,), 0.5, (history, history)),
            Entry("unet3d", "3D U-Net", (worse,), 0.5),
        ),
        tables=(TextTable("Table II", ("", "F1"), (("CleftNet", "0.6"), ("3D U-Net", "0.5"))),),
        recipe="seed: 0\nnet: {name: cleftnet}\n",
        provenance={"git": "abc", "versions": {"python": "3.11"}},
    )


@pytest.fixture(scope="session")
def page(contents, tmp_path_factory):
    """The page of `contents`."""
    return write_page(contents, tmp_path_factory.mktemp("report") / "page.html")
