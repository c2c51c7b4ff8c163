"""The viewer in a real browser: layers, the voxel under the cross hairs, colors, the list, and its keys."""

import base64
import io
import json
import time

import mrcfile
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cleftnet
from cleftnet.volumes import Volume, write_volume

pytest.importorskip("neuroglancer", reason="neuroglancer is not installed: pip install 'cleftnet[view]'")

SIZE_NM = (40.0, 5.0, 4.0)
OFFSET_NM = (80.0, 10.0, 12.0)
RAW = (np.arange(6 * 7 * 11) % 251).astype(np.uint8).reshape(6, 7, 11)
PLACE = (4, 2, 7)  # z y x, another value than at any exchange of the axes
GREEN, VERMILION, BLUE = (0, 158, 115), (213, 94, 0), (86, 180, 233)
VIEWER = "document.getElementById('viewer').contentWindow.viewer"


def wait(browser, expression):
    """Ask until the answer is true."""
    begun = time.monotonic()
    while not (answer := browser.ask(expression)):
        assert time.monotonic() - begun < 60, f"not within a minute: {expression}"
        time.sleep(0.1)
    return answer


def shown(browser, viewer):
    """Open a viewer and wait until it has drawn everything."""
    browser.open(viewer.url, width=1000, height=700)
    wait(browser, f"!!({VIEWER} && {VIEWER}.isReady())")


def middle(browser):
    """The middle of the picture, in pixels of the page: there are the cross hairs."""
    return json.loads(
        browser.ask(
            "(() => { const frame = document.getElementById('viewer'), f = frame.getBoundingClientRect();"
            "const r = frame.contentDocument.querySelector('.neuroglancer-rendered-data-panel').getBoundingClientRect();"
            "return JSON.stringify([f.x + r.x + r.width / 2, f.y + r.y + r.height / 2]); })()"
        )
    )


def under_the_cross_hairs(browser, name):
    """The value that neuroglancer reports for a layer when the mouse is in the middle of the picture."""
    x, y = middle(browser)
    for step in (1, 0):
        browser("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
    found = f"{VIEWER}.layerSelectedValues.get({VIEWER}.layerManager.getLayerByName({json.dumps(name)}).layer)"
    return float(wait(browser, f"String(({found} || {{}}).value ?? '')"))


def color_beside_the_cross_hairs(browser):
    """The color some pixels away from the middle of the picture, where its lines are not."""
    shot = browser("Page.captureScreenshot", format="png")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))
    x, y = (round(value) for value in middle(browser))
    return image[y + 4 : y + 9, x + 4 : x + 9].reshape(-1, 3).mean(axis=0)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """The same volume in every format that carries voxel size and offset, and in memory."""
    folder, volume = tmp_path_factory.mktemp("formats"), Volume(RAW, SIZE_NM, OFFSET_NM)
    addresses = {
        "hdf": f"{folder}/a.hdf",
        "zarr": f"{folder}/a.zarr",
        "n5": f"{folder}/a.n5",
        "precomputed": f"precomputed://{folder}/a",
        "tif": f"{folder}/a.tif",
    }
    for address in addresses.values():
        write_volume(volume, address)
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(RAW.astype(np.uint16))
        file.voxel_size = tuple(side * 10 for side in SIZE_NM[::-1])
        file.header.origin = tuple(place * 10 for place in OFFSET_NM[::-1])
    return {"array": volume, **addresses, "mrc": f"{folder}/a.mrc"}


def test_the_right_voxel_is_under_the_cross_hairs_in_every_format(browser, formats):
    kinds = dict.fromkeys(formats, "raw")
    place_nm = [o + p * s for o, p, s in zip(OFFSET_NM, PLACE, SIZE_NM, strict=True)]
    row = dict(zip(("synapse_id", "z_nm", "y_nm", "x_nm", "volume_nm3", "score"), (1, *place_nm, 1, 1), strict=True))
    table = formats["hdf"].replace("a.hdf", "synapses.csv")
    pd.DataFrame([row]).to_csv(table, index=False)
    with cleftnet.view(formats["hdf"], {**formats, "list": table}, kinds=kinds, open_browser=False) as viewer:
        shown(browser, viewer)
        values = {name: under_the_cross_hairs(browser, name) for name in ["raw", *formats]}
    assert values == dict.fromkeys(["raw", *formats], float(RAW[PLACE]))


def test_voxels_of_another_size_lie_where_they_belong(browser):
    """Voxels twice as long, whose centers lie half a voxel further: (f - 1) / 2 voxels of the full resolution."""
    coarse = np.zeros((3, 4, 6), np.uint8)
    coarse[1, 2, 3] = 99  # of the full resolution: z 2-3, y 4-5, x 6-7
    lower = Volume(coarse, (80.0, 10.0, 8.0), (20.0, 2.5, 2.0))
    expected = {(2, 4, 6): 99, (3, 5, 7): 99, (1, 4, 6): 0, (4, 4, 6): 0, (2, 3, 6): 0, (2, 6, 6): 0, (2, 4, 5): 0}
    with cleftnet.view(RAW, {"lower": lower}, voxel_size_nm=SIZE_NM, open_browser=False) as viewer:
        shown(browser, viewer)
        seen = {}
        for z, y, x in expected:
            position = [x + 0.5, y + 0.5, z + 0.5]
            viewer._server.go(position)
            wait(browser, f"[...{VIEWER}.position.value].join() === '{','.join(map(str, position))}'")
            wait(browser, f"{VIEWER}.isReady()")
            value = f"{VIEWER}.layerManager.getLayerByName('lower').layer.getValueAt({VIEWER}.position.value, {{}})"
            seen[z, y, x] = float(wait(browser, f"String({value} ?? '')"))
    assert seen == expected


@pytest.fixture(scope="module")
def judged():
    """One cleft right, one false, one missed, a score for each predicted one."""
    predicted, truth = np.zeros((4, 60, 90), np.uint64), np.zeros((4, 60, 90), np.uint64)
    predicted[1, 10:30, 10:30], predicted[2, 10:30, 50:70] = 1, 2
    truth[1, 10:30, 10:30], truth[2, 35:55, 10:30] = 5, 6
    raw = np.full(truth.shape, 128, np.uint8)
    raw[:, ::2] = 120
    with cleftnet.view(
        raw, {"labels": predicted, "truth": truth}, voxel_size_nm=(40, 4, 4), open_browser=False
    ) as viewer:
        yield viewer


def test_errors_have_layers_and_colors_of_their_own(browser, judged):
    shown(browser, judged)
    layers = browser.ask(f"{VIEWER}.layerManager.managedLayers.map((layer) => layer.name + ' ' + layer.visible)")
    assert layers == [
        "raw true",
        "labels false",
        "truth false",
        "true positives true",
        "false positives true",
        "false negatives true",
    ]
    rows = browser.ask("[...document.querySelectorAll('#list li')].map((row) => row.title)")
    assert sorted(rows) == ["1: right", "2: false", "6: missed"]
    for title, color in (("1: right", BLUE), ("2: false", VERMILION), ("6: missed", GREEN)):
        browser.ask(f"document.querySelector('#list li[title={json.dumps(title)}]').click()")
        x, y = {"1": (19.5, 19.5), "2": (59.5, 19.5), "6": (19.5, 44.5)}[title[0]]
        wait(browser, f"{VIEWER}.position.value[0] - {x + 0.5} === 0 && {VIEWER}.position.value[1] - {y + 0.5} === 0")
        wait(browser, f"{VIEWER}.isReady()")
        time.sleep(0.5)  # one frame after the last chunk
        gray = (color_beside_the_cross_hairs(browser) - 0.55 * np.array(color)) / 0.45  # what shines through from raw
        assert np.ptp(gray) < 20, (title, gray)
        assert -20 < gray.mean() < 275, (title, gray)


def test_keys_move_through_the_list_and_filters_shorten_it(browser, judged):
    shown(browser, judged)
    chosen = "(document.querySelector('#list li[aria-selected=true]') || {}).title"
    seen = []
    for key in "nnnp":
        browser.press(key)
        seen.append(browser.ask(chosen))
    assert len(set(seen[:3])) == 3
    assert seen[3] == seen[1]
    browser.ask("[...document.querySelectorAll('#filters button')].find((b) => b.textContent === 'missed 1').click()")
    assert browser.ask("[...document.querySelectorAll('#list li')].map((row) => row.title)") == ["6: missed"]


def test_nothing_is_fetched_from_elsewhere_and_nothing_fails(browser, judged):
    shown(browser, judged)
    assert {url.split("/")[2] for url in browser.fetched()} == {f"127.0.0.1:{judged.port}"}
    assert [text for text in browser.complaints() if "performance" not in text] == []


def test_a_layer_is_switched_off_by_its_box(browser, judged):
    shown(browser, judged)
    browser.ask("document.querySelector('#layers input[name=raw]').click()")
    wait(browser, f"{VIEWER}.layerManager.getLayerByName('raw').visible === false")
    browser.ask("document.querySelector('#layers input[name=raw]').click()")
    wait(browser, f"{VIEWER}.layerManager.getLayerByName('raw').visible === true")
