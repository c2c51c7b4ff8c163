"""Progress bars and log messages: shown where they should be, and nowhere else."""

import io
import logging
import pickle
import subprocess
import sys

import pytest
from rich.console import Console

from cleftnet import progress
from cleftnet.progress import bar, bars_are_shown, block_bar, same_display, show_bars, track, training_bar

SCRIPT = """
import logging
import numpy as np
import cleftnet
from cleftnet.models.checkpoint import Model, ModelCard
logging.getLogger("cleftnet.blockwise").info("a message")
net = cleftnet.build("resunet", widths=(2, 4), patch=(2, 8, 8))
raw = cleftnet.Volume(np.zeros((4, 8, 8), np.uint8), (40, 4, 4))
cleftnet.find_synapses(cleftnet.predict(Model(net, ModelCard(spec=net.spec)), raw, "p.hdf"), "out")
"""


@pytest.fixture
def terminal(monkeypatch):
    """A console that behaves as a terminal of 120 columns; returns it."""
    console = Console(force_terminal=True, width=120, record=True, file=io.StringIO())
    monkeypatch.setattr(progress, "_console", lambda: console)
    monkeypatch.delenv(progress.SWITCH, raising=False)
    yield console
    show_bars(True)


def draw_all():
    assert list(track([1, 2], "tracking", 2)) == [1, 2]
    with bar("copying") as update:
        update(1, 2)
    with training_bar(10, done=4, patches=16) as step:
        step(5)
    with block_bar("predicting", 3, done=1) as blocks:
        blocks.share(0.5)
        blocks.block(1000)


def test_a_terminal_shows_every_kind_of_bar(terminal):
    draw_all()
    shown = terminal.export_text()
    assert all(what in shown for what in ("tracking", "copying", "50%", "training", "5/10", "2/3 blocks", "blocks/s"))


def test_bars_are_hidden_on_request(terminal):
    show_bars(False)
    draw_all()
    assert not terminal.export_text().strip()


def test_bars_are_hidden_by_the_environment(terminal, monkeypatch):
    monkeypatch.setenv(progress.SWITCH, "0")
    draw_all()
    assert not terminal.export_text().strip()


def test_a_pipe_gets_no_bar(monkeypatch, capfd):
    monkeypatch.setattr(progress, "_console", lambda: Console(stderr=True, force_terminal=False))
    draw_all()
    assert not "".join(capfd.readouterr()).strip()


@pytest.mark.parametrize("widgets", [True, False])
def test_jupyter_shows_bars_if_it_has_widgets(monkeypatch, widgets):
    monkeypatch.delenv(progress.SWITCH, raising=False)
    monkeypatch.setattr(progress, "_console", lambda: Console(stderr=True, force_jupyter=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if widgets else None)
    assert bars_are_shown() == widgets


def test_another_process_gets_the_same_display():
    show_bars(False)
    try:
        set_up = pickle.loads(pickle.dumps(same_display()))
        show_bars(True)
        set_up()
        assert not bars_are_shown()
    finally:
        show_bars(True)


def test_the_library_prints_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_line_writes_messages_as_plain_lines(capfd):
    code = "from cleftnet.progress import log_to_stderr; log_to_stderr(); log_to_stderr(); import logging;"
    code += "logging.getLogger('cleftnet.training').info('step [1] of 2'); logging.getLogger('other').info('hidden')"
    subprocess.run([sys.executable, "-c", code], check=True)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "step [1] of 2\n")


def test_importing_the_package_leaves_logging_to_the_caller():
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("cleftnet").handlers)
