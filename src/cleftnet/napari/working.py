"""Runs a function of cleftnet in a thread of its own while a widget shows how far it is, and can cancel it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer

from cleftnet.errors import InputError
from cleftnet.progress import reporting_to

INTERVAL_MS = 100


class BackgroundWork:
    """A start button, a cancel button, a progress bar and a line of text for one piece of work at a time.

    Args:
        title: What the start button says.
        prepare: Called in the thread of the window when the button is pressed; returns the work, or raises `InputError`.
        show: Called in the thread of the window with what the work returned.

    Attributes:
        rows: The widgets, for a container.
        start: The start button.
        cancel: The cancel button.
        message: How the work ended, or what it is doing.
    """

    def __init__(self, title: str, prepare: Callable[[], Callable[[], Any]], show: Callable[[Any], str]) -> None:
        self._prepare, self._show = prepare, show
        self.start, self.cancel = PushButton(text=title), PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(min=0, max=1000, value=0)
        self.message = Label(value="")
        self.message.native.setWordWrap(True)
        buttons = Container(widgets=[self.start, self.cancel], layout="horizontal", labels=False)
        self.rows = [buttons, self.bar, self.message]
        self.start.changed.connect(self._begin)
        self.cancel.changed.connect(self._ask_to_stop)
        self._state: tuple[str, float] = ("", 0.0)  # written by the thread, read by the timer
        self._stopping = False
        self._timer = QTimer(self.message.native)
        self._timer.timeout.connect(self._draw)

    @property
    def running(self) -> bool:
        """Whether work is in progress."""
        return bool(self.cancel.enabled)

    def _begin(self) -> None:
        if self.running:
            return
        try:
            work = self._prepare()
        except InputError as error:
            self.message.value = str(error)
            return
        self._state, self._stopping = ("", 0.0), False
        self.start.enabled, self.cancel.enabled = False, True
        self.message.value = "working ..."
        self._timer.start(INTERVAL_MS)
        worker = create_worker(self._run, work)
        worker.returned.connect(self._end)
        worker.errored.connect(self._fail)
        worker.start()

    def _run(self, work: Callable[[], Any]) -> tuple[str, Any]:
        """Do the work, in its thread."""
        try:
            with reporting_to(self._report):
                return "done", work()
        except InputError as error:
            return "wrong", str(error)
        except KeyboardInterrupt:
            return "cancelled", None

    def _report(self, what: str, share: float) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._state = (what, share)

    def _ask_to_stop(self) -> None:
        self._stopping = True
        self.message.value = "stopping ..."

    def _draw(self) -> None:
        what, share = self._state
        self.bar.value = round(1000 * share)
        if what and not self._stopping:
            self.message.value = f"{what}: {share:.0%}"

    def _end(self, result: tuple[str, Any]) -> None:
        how, value = result
        self._finish()
        self.message.value = {"cancelled": "cancelled", "wrong": value}.get(how) or self._show(value)

    def _fail(self, error: BaseException) -> None:
        self._finish()
        self.message.value = f"failed: {type(error).__name__}: {error}"

    def _finish(self) -> None:
        self._timer.stop()
        self.bar.value = 0
        self.start.enabled, self.cancel.enabled = True, False


def layers_of(viewer: Any, *types: type) -> Callable[[Any], list[Any]]:
    """Return a function that lists the layers of some types, for the choices of a combo box."""
    return lambda _: [layer for layer in viewer.layers if isinstance(layer, types)]


def follow_layers(viewer: Any, container: Container) -> None:
    """Keep the choices of a container up to date with the layers of a viewer."""
    for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
        event.connect(container.reset_choices)
    container.reset_choices()
