"""A viewer of napari without a display; tests are skipped, saying so, where napari is missing."""

import contextlib
import os
import time
import warnings

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("NAPARI_CONFIG", "")  # no settings are read from or written to the home of who runs the tests

with warnings.catch_warnings(), contextlib.suppress(ImportError):  # where it is missing, every test module says so
    warnings.simplefilter("ignore")  # those of napari and of what it imports are not ours to mend
    import napari.qt.threading  # noqa: F401
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication


@pytest.fixture(scope="session")
def application():
    """The application that widgets need; the last reference to it must not go before theirs."""
    return QApplication.instance() or QApplication([])


@pytest.fixture
def viewer(application):
    """An empty viewer; only its layers are used, so that no window is made."""
    return ViewerModel()


@pytest.fixture
def until(application):
    """Let Qt work until something is true."""

    def _until(done, seconds=60):
        begun = time.monotonic()
        while not done():
            assert time.monotonic() - begun < seconds, "not done in time"
            application.processEvents()
            time.sleep(0.01)

    return _until
