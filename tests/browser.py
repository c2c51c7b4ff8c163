"""A headless Chromium over its debugging protocol: real keys, real layout."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tornado.websocket import websocket_connect

WITHOUT_GRAPHICS = ("--disable-gpu",)
WITH_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


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

    def open(self, page: Path | str, fragment: str = "", width: int = 1400, height: int = 1000) -> None:
        """Open a file or a URL and wait until it is loaded."""
        url = page.as_uri() if isinstance(page, Path) else page
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        for address in ("about:blank", url + fragment):  # by way of nothing, so that it is loaded anew
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


@contextmanager
def chromium(home: Path, graphics: tuple[str, ...]) -> Iterator[Browser]:
    """Start a headless Chromium with its files in a folder; skips, saying so, where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    flags = (
        "--headless=new",
        "--no-sandbox",
        *graphics,
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
