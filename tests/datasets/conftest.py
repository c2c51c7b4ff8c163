"""A server on loopback, which can be cut short, forgetful, wrong, or not to be trusted; no test leaves the machine."""

import re
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server(ThreadingHTTPServer):
    """Serves `files`; `asked` holds the headers of every request."""

    files: dict
    etag, knows_ranges, cut_at, redirect_to, content_type = '"1"', True, None, None, "application/octet-stream"

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = files, []
        self.url = f"http://127.0.0.1:{self.server_port}/data"

    @property
    def ranges(self):
        return [headers.get("Range") for headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(dict(self.headers))
        if server.redirect_to:
            return self.answer(302, b"", Location=server.redirect_to)
        content = server.files.get(self.path.rsplit("/", 1)[1].replace("%2B", "+"))
        if content is None:
            return self.answer(404, b"")
        same = self.headers.get("If-Range") in (None, server.etag)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and server.knows_ranges and same:
            first = int(start[1])
            if first >= len(content):
                return self.answer(416, b"")
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return self.answer(206, content[first:], **{"Content-Range": span})
        return self.answer(200, content)

    def answer(self, status, body, **headers):
        self.send_response(status)
        headers |= {"Content-Length": len(body), "Content-Type": self.server.content_type}
        if self.server.etag:
            headers["ETag"] = self.server.etag
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_at])

    def log_message(self, *_):
        pass


@contextmanager
def running(files, certificate=None):
    with Server(files) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.url = server.url.replace("http:", "https:")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serving(monkeypatch):
    """A function that serves named files for the time of a `with` block, over TLS where a certificate is given."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return running
