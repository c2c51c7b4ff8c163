"""Opens a viewer: checks what it needs, opens the layers, compares labels with a truth, and starts the server."""

from __future__ import annotations

import importlib.util
import logging
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cleftnet.errors import InputError
from cleftnet.geometry import FloatZYX
from cleftnet.review import open_review
from cleftnet.viewing.cleft_errors import CleftErrors, find_cleft_errors
from cleftnet.viewing.layers import LayerKind, ShownLayers, open_layers
from cleftnet.viewing.reviewing import ReviewPanel
from cleftnet.volumes import Address, Array, Volume

if TYPE_CHECKING:
    from cleftnet.viewing.serving import ViewerServer

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LayerViewer:
    """A viewer in a browser, served by this process until `stop` is called or the process ends.

    Attributes:
        url: The address of its page; whoever has it can see the layers, so it holds a token.
        port: The port on this machine, at 127.0.0.1 only.
    """

    url: str
    port: int
    _server: ViewerServer

    def wait(self) -> None:
        """Serve until the viewer is stopped, or the process is interrupted."""
        while not self._server.stopped.wait(0.5):  # a wait without end would not notice an interrupt on Windows
            pass

    def stop(self) -> None:
        """Stop serving; the page in the browser shows nothing new from then on."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        return f'<a href="{self.url}" target="_blank">{self.url}</a>'


def view(
    volume: Volume | Address | Array | None = None,
    layers: Sequence[Volume | Address | Array] | Mapping[str, Volume | Address | Array] | Volume | Address | Array = (),
    *,
    voxel_size_nm: FloatZYX | None = None,
    kinds: Mapping[str, str] | None = None,
    review: str | Path | None = None,
    port: int = 0,
    open_browser: bool = True,
) -> LayerViewer:
    """Show a volume with its predictions, labels and synapses in neuroglancer, in a browser.

    Voxels are read when they come into sight, so that volumes of any size can be shown. Where there are labels and a layer
    `truth`, clefts are matched one to one, and true positives, false positives and false negatives get layers of their own. A
    list of synapses, by score, leads to each. In a review, the list holds its candidates, and keys decide about them. Needs
    the extra `view` (Python neuroglancer with its web client).

    Args:
        volume: The raw volume, its address, or a NumPy array z y x; None takes that of the review.
        layers: What to lay over it, by name or in a sequence, where an address may be written `NAME=ADDRESS`. A prediction file
            gives its probability and, where it has one, its distance; an output folder of `find_synapses` gives labels and the
            list. The names `raw`, `probability`, `distance`, `labels` and `truth` say what a layer holds.
        voxel_size_nm: Voxel size, z y x, of sources that carry none, such as arrays.
        kinds: What layers of other names hold, one of the five names above for each, where the data does not show it.
        review: The folder of a review (`make_review`), whose candidates are shown and decided.
        port: The port to listen at, on 127.0.0.1 only; 0 takes a free one.
        open_browser: Whether the page is opened in the browser of this machine.

    Raises:
        InputError: when neuroglancer is missing, a layer cannot be opened, labels and truth do not fit each other, or the port
            is taken.

    Example:
        >>> import numpy as np
        >>> raw = np.zeros((4, 32, 32), np.uint8)
        >>> viewer = view(raw, {"labels": raw.astype(np.uint64)}, voxel_size_nm=(40, 4, 4), open_browser=False)
        >>> viewer.url.startswith("http://127.0.0.1:")
        True
        >>> viewer.stop()
    """
    check_neuroglancer()
    ViewerServer = _import_server()  # noqa: N806 (a class)
    panel = None if review is None else ReviewPanel(open_review(review))
    if volume is None:
        volume = _raw_of(panel)
    shown = open_layers(volume, layers, voxel_size_nm=voxel_size_nm, kinds=kinds)
    if panel is None:
        server = ViewerServer(shown, compare_layers(shown), port)
    else:
        shown = replace(shown, layers=(shown.raw, *panel.layers(), *shown.layers[1:]))
        server = ViewerServer(shown, None, port, panel)
    viewer = LayerViewer(server.url, server.port, server)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(viewer.url,), daemon=True).start()  # may wait for the browser
    return viewer


def _import_server() -> type[ViewerServer]:
    """Import neuroglancer, and leave logging as it was: it configures the root logger, and messages would appear twice."""
    root = logging.getLogger()
    before = list(root.handlers)
    from cleftnet.viewing.serving import ViewerServer

    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    return ViewerServer


def _raw_of(panel: ReviewPanel | None) -> Volume:
    """Return the raw volume of a review.

    Raises:
        InputError: when there is no review, or it does not know its raw volume.
    """
    if panel is None:
        raise InputError("there is nothing to show; give a raw volume, such as A.hdf, or review=FOLDER")
    raw = panel.review.raw
    if raw is None:
        raise InputError(
            f"the review {panel.review.folder} does not say where its raw volume is; give it as the volume"
        )
    return raw


def check_neuroglancer() -> None:
    """Check that neuroglancer is installed.

    Raises:
        InputError: when it is not.
    """
    if importlib.util.find_spec("neuroglancer") is None:
        raise InputError("the viewer needs neuroglancer, which is not installed; pip install 'cleftnet[view]'")


def compare_layers(shown: ShownLayers) -> CleftErrors | None:
    """Match the first label layer with the truth; None where one of the two is missing."""
    labels, truth = shown.first(LayerKind.LABELS), shown.first(LayerKind.TRUTH)
    if labels is None or truth is None:
        return None
    found = find_cleft_errors(labels.volume, truth.volume)
    log.info(
        f"{labels.name} against {truth.name}: {len(found.true_positives.ids)} clefts right, "
        f"{len(found.false_positives.ids)} false, {len(found.false_negatives.ids)} missed"
    )
    return found
