"""The page in a real browser: what it shows after its script ran, moved by real keys, on a screen and on a phone."""

import io

import numpy as np
import pytest
from PIL import Image

BLOCKS = {
    "right": (0.25, 0.2),
    "fp": (0.25, 0.75),
    "fn": (0.75, 0.2),
}  # middles of the blocks, shares of height and width


def shown(browser):
    """Section and layer, as the page tells them."""
    return browser.ask(
        "[document.getElementById('section').textContent, "
        "document.querySelector('[data-layer][aria-pressed=true]').dataset.layer, "
        "document.getElementById('z').value].join(' ')"
    )


def colours(browser):
    """The mean colour around the middle of each block, as a person sees it."""
    image = np.array(Image.open(io.BytesIO(browser.screenshot("#slice"))).convert("RGB")).astype(int)
    height, width, _ = image.shape
    return {
        name: image[int(height * y) - 6 : int(height * y) + 6, int(width * x) - 6 : int(width * x) + 6].mean(
            axis=(0, 1)
        )
        for name, (y, x) in BLOCKS.items()
    }


def is_gray(colour):
    return np.ptp(colour) < 12


def is_vermilion(colour):
    red, green, blue = colour
    return red > green + 60 > blue + 60


def is_green(colour):
    red, green, blue = colour
    return green > red + 50 and green > blue


def test_the_address_names_section_and_layer(browser, page):
    browser.open(page, "#z=13&layer=truth")
    assert shown(browser) == "13 truth 3"


def test_the_page_works_without_errors_and_fetches_only_itself(browser, page):
    browser.open(page, "#z=12&layer=errors")
    browser.press("ArrowRight")
    assert browser.complaints() == []
    assert browser.fetched() == [page.as_uri() + "#z=12&layer=errors"] or browser.fetched() == [page.as_uri()]


def test_keys_move_through_sections_and_choose_layers(browser, page):
    browser.open(page, "#z=12&layer=errors")
    browser.press("ArrowRight")
    assert shown(browser) == "13 errors 3"
    for _ in range(5):
        browser.press("ArrowRight")
    assert shown(browser) == "14 errors 4"
    browser.press("ArrowLeft")
    seen = []
    for key in "12345":
        browser.press(key)
        seen.append(shown(browser))
    assert seen == [f"13 {layer} 3" for layer in ("raw", "truth", "probability", "distance", "errors")]
    assert browser.ask("location.hash") == "#scene=0&entry=cleftnet&z=13&layer=errors"


def test_the_slider_moves_by_keys_of_its_own(browser, page):
    browser.open(page, "#z=12&layer=raw")
    browser.ask("document.getElementById('z').focus()")
    browser.press("ArrowUp")
    assert shown(browser) == "13 raw 3"
    browser.press("ArrowLeft")
    assert shown(browser) == "12 raw 2"


def test_a_model_without_a_distance_shows_its_probability_instead(browser, page):
    browser.open(page, "#z=12&layer=distance")
    assert shown(browser) == "12 distance 2"
    browser.press("]")
    assert shown(browser) == "12 probability 2"
    assert browser.ask("document.querySelector('[data-layer=distance]').disabled") is True
    assert browser.ask("document.getElementById('entry').value") == "unet3d"


def test_errors_are_seen_in_their_colours_and_raw_is_gray(browser, page):
    browser.open(page, "#z=12&layer=errors")
    seen = colours(browser)
    assert is_vermilion(seen["fp"])
    assert is_green(seen["fn"])
    assert not is_gray(seen["right"])
    browser.press("1")
    assert all(map(is_gray, colours(browser).values()))


def test_moving_the_slider_changes_the_picture(browser, page):
    browser.open(page, "#z=12&layer=errors")
    before = colours(browser)
    browser.ask(
        "(() => { const z = document.getElementById('z'); z.value = 0; z.dispatchEvent(new Event('input')); })()"
    )
    after = colours(browser)
    assert shown(browser).startswith("10 ")
    assert is_vermilion(before["fp"])
    assert is_gray(after["fp"])


def test_boxes_lie_around_the_false_blocks(browser, page):
    """The false positive lies at y 18-42, x 130-170 of 120×200; 25 nm of margin are 6 voxels."""
    browser.open(page, "#z=12&layer=errors")
    boxes = browser.ask(
        "[...document.querySelectorAll('#boxes rect')].map((r) => ['class', 'x', 'y', 'width', 'height']"
        ".map((name) => r.getAttribute(name)).join(' ')).join('; ')"
    )
    assert boxes == "fp 124 12 52 36; fn 14 72 52 36"


def test_a_mistake_leads_to_its_slice(browser, page):
    browser.open(page)
    browser.ask("document.querySelector('.card').click()")
    browser.ask("new Promise((done) => setTimeout(done, 300))")
    assert shown(browser) == "12 errors 2"
    assert browser.ask("document.getElementById('target').hidden") is False


def test_a_line_is_hidden_by_its_switch(browser, page):
    browser.open(page)
    shown = "[...document.querySelectorAll('g[data-entry=unet3d]')].map((g) => getComputedStyle(g).display !== 'none')"
    assert browser.ask(shown) == [True] * 4  # precision and recall, ROC, F1, CREMI score
    browser.ask("document.querySelector('[data-toggle=unet3d]').click()")
    assert browser.ask(shown) == [False] * 4


def test_tab_goes_through_the_page_from_its_top(browser, page):
    browser.open(page)
    seen = []
    for _ in range(3):
        browser.press("Tab")
        seen.append(browser.ask("document.activeElement.textContent.trim()"))
    assert seen == ["Skip to the content", "Scores", "Tables"]


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(browser, page, width):
    browser.open(page, width=width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.getElementById('slice').getBoundingClientRect().right") <= width


def test_the_dark_page_is_dark(browser, page):
    backgrounds = []
    for scheme in ("dark", "light"):
        browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(page)
        backgrounds.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(20, 23, 27)", "rgb(255, 255, 255)"]
