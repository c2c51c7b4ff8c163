"""The widgets of the plugin, each driven once by its buttons, without a window."""

import threading

import numpy as np
import pytest

import cleftnet
from cleftnet.progress import track
from cleftnet.viewing import LayerKind
from cleftnet.volumes import Volume

pytest.importorskip(
    "napari.qt.threading",
    reason="napari is not installed, or Qt misses a library of the system: pip install 'cleftnet[napari]'",
    exc_type=ImportError,
)

from cleftnet.napari import finding
from cleftnet.napari.finding import FindSynapses
from cleftnet.napari.layer_data import as_layer
from cleftnet.napari.scoring import ScoreAgainstLabels

SIZE_NM, OFFSET_NM = (40.0, 4.0, 4.0), (80.0, 0.0, 40.0)
CLEFTS = np.zeros((4, 40, 50), np.uint64)
CLEFTS[1:3, 10:20, 10:30] = 3


def add(viewer, values, name, kind):
    data, arguments, layer_type = as_layer(Volume(values, SIZE_NM, OFFSET_NM), name, kind)
    return getattr(viewer, f"add_{layer_type}")(data, **arguments)


@pytest.fixture
def predicting(monkeypatch):
    """A prediction that knows the answer, and takes a step of progress each time that it is allowed to."""
    steps = threading.Semaphore(0)

    def predict(model, volume):
        for _ in track(range(4), "predicting", 4):
            steps.acquire()
        values = np.where(CLEFTS > 0, 200, 5).astype(np.uint8)
        return Volume(values, volume.voxel_size, volume.offset_nm, threshold=0.4)

    monkeypatch.setattr(cleftnet, "predict", predict, raising=False)
    monkeypatch.setattr(finding, "cleftnet", cleftnet)
    return steps


def test_synapses_are_found_in_a_thread_and_added_as_layers(viewer, until, predicting):
    raw = add(viewer, np.zeros(CLEFTS.shape, np.uint8), "raw", LayerKind.RAW)
    widget = FindSynapses(viewer)
    assert widget.volume.value is raw
    assert "vnc-l3" in widget.model.choices
    widget.as_model.value = False
    widget.threshold.value, widget.min_size.value = 0.5, 0
    widget.work.start.changed.emit(True)
    assert widget.work.running
    assert not widget.work.start.enabled
    predicting.release(2)
    until(lambda: widget.work.message.value == "predicting: 50%")
    assert widget.work.bar.value == 500
    predicting.release(2)
    until(lambda: not widget.work.running)
    assert [layer.name for layer in viewer.layers] == ["raw", "probability", "synapses"]
    assert widget.work.message.value.startswith("1 synapses")
    np.testing.assert_array_equal(np.asarray(viewer.layers["synapses"].data) > 0, CLEFTS > 0)
    assert viewer.layers["synapses"].translate.tolist() == list(OFFSET_NM)


def test_a_prediction_can_be_cancelled(viewer, until, predicting):
    add(viewer, np.zeros(CLEFTS.shape, np.uint8), "raw", LayerKind.RAW)
    widget = FindSynapses(viewer)
    widget.work.start.changed.emit(True)
    widget.work.cancel.changed.emit(True)
    predicting.release(4)
    until(lambda: not widget.work.running)
    assert widget.work.message.value == "cancelled"
    assert [layer.name for layer in viewer.layers] == ["raw"]
    assert widget.work.start.enabled


def test_wrong_input_is_said_in_the_widget(viewer):
    widget = FindSynapses(viewer)
    widget.work.start.changed.emit(True)
    assert "open a volume first" in widget.work.message.value
    viewer.add_image(np.zeros((4, 5, 6), np.uint8), name="pixels")
    widget.work.start.changed.emit(True)
    assert "layer 'pixels' is in pixel" in widget.work.message.value


def test_scores_are_those_of_evaluate(viewer, until):
    predicted = np.where(CLEFTS > 0, 200, 5).astype(np.uint8)
    predicted[1, 12:14, 10:30] = 0
    add(viewer, predicted, "probability", LayerKind.PROBABILITY)
    add(viewer, CLEFTS, "truth", LayerKind.TRUTH)
    widget = ScoreAgainstLabels(viewer)
    widget.prediction.value, widget.truth.value = viewer.layers["probability"], viewer.layers["truth"]
    widget.work.start.changed.emit(True)
    until(lambda: not widget.work.running)
    score = cleftnet.evaluate(predicted, CLEFTS, voxel_size_nm=SIZE_NM)
    assert f"{score.f1:.4g}" in widget.scores.value
    assert "precision" in widget.scores.value


@pytest.mark.parametrize("name", ["Find synapses", "Score against labels", "Review"])
def test_napari_opens_the_widgets_of_its_menu_with_its_viewer(name, application):
    """Through the manifest and a window, as a click in the menu does."""
    import napari

    viewer = napari.Viewer(show=False)
    try:
        _, widget = viewer.window.add_plugin_dock_widget("cleftnet", name)
        assert len(widget) > 0
    finally:
        viewer.close()
