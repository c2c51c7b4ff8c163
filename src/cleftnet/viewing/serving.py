"""Serves a viewer at 127.0.0.1: neuroglancer, and around it a page with the list of synapses; both behind a token."""

from __future__ import annotations

import concurrent.futures
import errno
import hmac
import json
import socket
import threading
from importlib import resources
from typing import Any

import neuroglancer
import neuroglancer.server
import neuroglancer.viewer_base
import tornado.routing
import tornado.web

from cleftnet.errors import InputError
from cleftnet.viewing import neuroglancer_layers as drawing
from cleftnet.viewing.cleft_errors import CleftErrors
from cleftnet.viewing.layers import LayerKind, ShownLayer, ShownLayers
from cleftnet.viewing.reviewing import CANDIDATES, ReviewPanel
from cleftnet.viewing.scene import COLORS, FALSE, LISTED, MISSED, RIGHT, list_clefts, middle_nm, viewer_position

HOST = "127.0.0.1"
_LOCAL_NAMES = r"^(127\.0\.0\.1|localhost|\[::1\])$"  # also of the near end of an ssh tunnel
_READERS = 4  # boxes read at once; each takes up to about 0.3 GB, where the view is zoomed out
_FLAT = 3  # sections this much thicker than pixels are shown alone
_PIXELS = 500  # about the height of a panel
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-src 'self'"
)

_VERDICT_NAMES = {RIGHT: "true positives", FALSE: "false positives", MISSED: "false negatives"}


class _LocalViewer(neuroglancer.viewer_base.ViewerBase):  # type: ignore[misc] # neuroglancer has no types
    """The state of neuroglancer in a server of its own, which ends with it."""

    def __init__(self, server: Any) -> None:
        self._server = server
        super().__init__(allow_credentials=False)
        server.viewers[self.token] = self

    def defer_callback(self, callback: Any, *args: Any, **kwargs: Any) -> None:
        """Run something in the thread of the server."""
        self._server.loop.call_soon_threadsafe(lambda: callback(*args, **kwargs))


class ViewerServer:
    """A running server of one viewer.

    Attributes:
        url: The address of the page, with the token.
        port: The port.
        stopped: Set when the server has stopped.
    """

    def __init__(
        self, shown: ShownLayers, errors: CleftErrors | None, port: int = 0, review: ReviewPanel | None = None
    ) -> None:
        self._server = _started(port)
        self._server.executor = concurrent.futures.ThreadPoolExecutor(_READERS)
        self._viewer = _LocalViewer(self._server)
        self._reference_nm = shown.raw.volume.voxel_size_nm
        self._review = review
        self._rows = list_clefts(shown.table, errors) if review is None else review.rows()
        self._deciding = threading.Lock()
        self._title = shown.raw.volume.address
        self._add_layers(shown, errors)
        self.stopped = threading.Event()
        self.port = int(self._server.port)
        self.url = f"http://{HOST}:{self.port}/c/{self._viewer.token}/"
        routes = [(r"/c/(?P<token>[^/]+)/(?P<what>[a-z]*)", _PanelHandler, {"viewer": self})]
        self._server.app.add_handlers(r".*", routes)
        # a page of another site whose name resolves to this machine sends its own name: it gets nothing
        guard = tornado.routing.RuleRouter(
            [tornado.routing.Rule(tornado.routing.HostMatches(_LOCAL_NAMES), self._server.app)]
        )
        self._server.http_server.request_callback = guard

    @property
    def token(self) -> str:
        """What a request has to know."""
        return str(self._viewer.token)

    def stop(self) -> None:
        """Stop the server and its threads."""
        if not self.stopped.is_set():
            self._server.stop()
            self._server.executor.shutdown(cancel_futures=True)
            self.stopped.set()

    def _add_layers(self, shown: ShownLayers, errors: CleftErrors | None) -> None:
        size, volume = self._reference_nm, shown.raw.volume
        self._legend: list[dict[str, str]] = []
        with self._viewer.txn() as state:
            state.dimensions = drawing.coordinate_space(size)
            for layer in shown.layers:
                replaced = layer.kind in _COMPARED and (errors is not None or self._review is not None)
                hidden = layer.kind is LayerKind.DISTANCE or (replaced and layer.name != CANDIDATES)
                self._add(state, layer.name, drawing.drawn(layer, size), _color(layer), not hidden)
            for verdict, clefts in _judged(errors):
                ids = drawing.ids_of(clefts.ids)
                drawn = drawing.drawn_labels(clefts.volume, size, COLORS[verdict], ids)
                self._add(state, _VERDICT_NAMES[verdict], drawn, COLORS[verdict], True)
            middle = middle_nm(volume.shape, size, volume.offset_nm)
            state.position = viewer_position(self._rows[0].center_nm if self._rows else middle, size)
            state.cross_section_scale = max(0.25, min(1.0 if self._rows else 2.0, volume.shape[1] / _PIXELS))
            state.cross_section_background_color = state.projection_background_color = "#0d0f12"
            state.layout = "xy" if size[0] > _FLAT * size[2] else "4panel"
            state.show_slices = False  # in 3D, where they would hide surfaces and read the whole volume
            state.title = f"cleftnet: {self._title}"

    def _add(self, state: Any, name: str, drawn: Any, color: str, visible: bool) -> None:
        state.layers.append(name=name, layer=drawn, visible=visible)
        self._legend.append({"name": name, "color": color})

    def contents(self) -> dict[str, Any]:
        """Return what the page shows around neuroglancer."""
        visible = self.visible()
        return {
            "title": self._title,
            "viewer": f"/v/{self._viewer.token}/",
            "layers": [{**entry, "visible": visible.get(entry["name"], False)} for entry in self._legend],
            "total": len(self._rows),
            "rows": [row.to_json(self._reference_nm) for row in self._rows[:LISTED]],
            "review": None if self._review is None else self._review.state(),
        }

    def visible(self) -> dict[str, bool]:
        """Return for each layer whether it is shown."""
        return {layer.name: bool(layer.visible) for layer in self._viewer.state.layers}

    def go(self, position: list[float]) -> None:
        """Put the cross hairs at a position, x y z in voxels."""
        with self._viewer.txn() as state:
            state.position = [float(value) for value in position]

    def decide(self, candidate: int, verdict: str, by: str) -> dict[str, Any]:
        """Write down a decision of a review, and return how far it is.

        Raises:
            InputError: when the decision is refused, or there is no review.
        """
        if self._review is None:
            raise InputError("this viewer shows no review; open one with review=FOLDER")
        with self._deciding:
            return self._review.decide(candidate, verdict, by)

    def show(self, name: str, visible: bool) -> None:
        """Show or hide a layer."""
        with self._viewer.txn() as state:
            state.layers[name].visible = visible


_COMPARED = (LayerKind.LABELS, LayerKind.TRUTH)  # hidden where their matches and mistakes are shown


def _started(port: int) -> Any:
    try:
        with socket.socket() as probe:  # tornado leaves a socket open where it cannot bind it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
        return neuroglancer.server.Server(bind_address=HOST, bind_port=port)
    except (OSError, OverflowError) as error:
        why = "is in use" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be used ({error})"
        raise InputError(f"port={port} {why}; choose another, or 0 for a free one") from None


def _color(layer: ShownLayer) -> str:
    """Return the color in the legend; empty for gray values and for labels, where each cleft has its own."""
    return COLORS.get(layer.kind, "")


def _judged(errors: CleftErrors | None) -> list[tuple[str, Any]]:
    if errors is None:
        return []
    return [(RIGHT, errors.true_positives), (FALSE, errors.false_positives), (MISSED, errors.false_negatives)]


class _PanelHandler(tornado.web.RequestHandler):
    """Answers requests of the page, which know the token."""

    def initialize(self, viewer: ViewerServer) -> None:
        self.viewer = viewer

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")  # the token is a part of the address
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)

    def prepare(self) -> None:
        if not hmac.compare_digest(self.path_kwargs["token"].encode(), self.viewer.token.encode()):
            raise tornado.web.HTTPError(404)

    def get(self, token: str, what: str) -> None:
        if what == "contents":
            self.finish(self.viewer.contents())
        elif what == "visible":
            self.finish(self.viewer.visible())
        elif not what:
            self.finish(resources.files("cleftnet.viewing").joinpath("panel.html").read_text("utf-8"))
        else:
            raise tornado.web.HTTPError(404)

    def post(self, token: str, what: str) -> None:
        answer: dict[str, Any] = {}
        try:
            asked = json.loads(self.request.body)
            if what == "go":
                self.viewer.go(asked["position"])
            elif what == "show":
                self.viewer.show(asked["name"], bool(asked["visible"]))
            elif what == "decide":
                answer = self.viewer.decide(int(asked["id"]), str(asked["verdict"]), str(asked["by"]))
            else:
                raise tornado.web.HTTPError(404)
        except InputError as error:  # the page shows what was refused, and why
            answer = {"refused": str(error)}
        except (KeyError, TypeError, ValueError):
            raise tornado.web.HTTPError(400) from None
        self.finish(answer)
