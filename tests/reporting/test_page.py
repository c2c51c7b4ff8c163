import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from cleftnet.errors import InputError
from cleftnet.reporting import Contents, write_page

VOID = {"meta", "img", "input", "link", "br", "hr"}


class Strict(HTMLParser):
    """Reads a page and refuses what a browser would have to guess: tags that do not nest, attributes said twice."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.tags.append((tag, dict(attributes), [name for name, _ in self.open]))
        if tag not in VOID:
            self.open.append((tag, self.getpos()))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), [name for name, _ in self.open]))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        name, place = self.open.pop()
        assert name == tag, f"<{name}> of line {place[0]} is closed by </{tag}>"

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(text):
    parser = Strict()
    parser.feed(text)
    parser.close()
    return parser


def of(parsed, *names):
    return [attributes for tag, attributes, _ in parsed.tags if tag in names]


def test_every_tag_is_closed_in_order(parsed):
    assert parsed.open == []


def test_ids_are_distinct_and_every_reference_finds_its_element(parsed):
    ids = Counter(attributes["id"] for _, attributes, _ in parsed.tags if "id" in attributes)
    assert max(ids.values()) == 1
    named = [a["aria-labelledby"] for _, a, _ in parsed.tags if "aria-labelledby" in a]
    links = [a["href"][1:] for a in of(parsed, "a") if "=" not in a["href"]]
    assert len(links) >= 6
    assert set(named) | set(links) <= set(ids)


def test_elements_lie_where_html_allows_them(parsed):
    """Rows in tables, list items in lists, and nothing interactive inside a button or a link."""
    for tag, _, around in parsed.tags:
        if tag in ("tr", "th", "td", "caption"):
            assert "table" in around
        if tag in ("button", "a", "input", "select"):
            assert not {"button", "a"} & set(around), tag
        if tag in ("div", "p", "figure", "table", "ul", "dl", "section"):
            assert "p" not in around, f"<{tag}> inside <p>"


def test_pictures_have_a_text_and_controls_have_a_name(parsed):
    assert all("alt" in a for a in of(parsed, "img"))
    charts = [a for a in of(parsed, "svg") if a.get("class") == "chart"]
    assert len(charts) == 7
    assert all(a["role"] == "img" and a["aria-label"] for a in charts)
    for tag, attributes, around in parsed.tags:
        if tag in ("select", "input"):
            assert "label" in around or "aria-label" in attributes


def test_headings_leave_no_level_out(parsed):
    levels = [int(tag[1]) for tag, _, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_the_page_refers_to_nothing_outside_itself(text, parsed):
    addresses = [
        a[name] for _, a, _ in parsed.tags for name in ("src", "href", "srcset", "action", "data") if a.get(name)
    ]
    assert addresses
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert all(url.startswith("data:image/webp;base64,") for url in re.findall(r"url\(\s*[\"']?([^)\"']+)", text))
    assert not re.search(r"https?://|@import|<link|<iframe|<base|fetch\(|XMLHttpRequest|import\(", text)


def test_a_browser_is_told_to_fetch_nothing(parsed):
    (policy,) = (a["content"] for a in of(parsed, "meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_text_stays_text(text, parsed):
    assert "A &lt;b&gt;tricky&lt;/b&gt; &amp; title" in text
    assert not of(parsed, "b")


def test_the_scores_are_those_of_the_two_blocks(parsed):
    """1920 voxels of 2880 true ones are found, 960 more are predicted: precision, recall and F1 are 2/3; one cleft of two."""
    words = "|".join(t.strip() for t in parsed.texts if t.strip())
    assert "CleftNet|0.6667|0.6667|0.6667|" in words
    assert "F1 of clefts|0.500|1 of 2 found, 2 predicted" in words


def test_every_section_and_layer_of_every_model_is_in_the_page(text):
    slices = json.loads(re.search(r'<script type="application/json" id="slices">(.*?)</script>', text, re.S)[1])
    (scene,) = slices["scenes"]
    assert scene["sections"] == [10, 11, 12, 13, 14]
    assert {len(scene[name]) for name in ("raw", "truth")} == {5}
    assert [key for key, _ in slices["entries"]] == ["cleftnet", "unet3d"]
    assert [len(scene["entries"]["cleftnet"][layer]) for layer in ("probability", "distance", "errors", "boxes")] == [
        5
    ] * 4
    assert scene["entries"]["unet3d"]["distance"] is False
    assert [box[0] for box in scene["entries"]["cleftnet"]["boxes"][2]] == ["fp", "fn"]
    assert scene["entries"]["cleftnet"]["boxes"][0] == []


def test_models_that_would_make_the_page_too_large_are_named(contents, tmp_path, monkeypatch):
    monkeypatch.setattr("cleftnet.reporting.page.MAX_SLICE_BYTES", 1)
    written = write_page(contents, tmp_path / "small.html").read_text()
    assert "To keep the page small, it does not include the slices of 3D U-Net." in written


def test_nothing_to_show_is_an_error(contents, tmp_path):
    with pytest.raises(InputError, match="a report needs one"):
        write_page(Contents("Empty", "", contents.scenes, ()), tmp_path / "empty.html")
    assert not any(tmp_path.iterdir())


def test_a_page_is_not_overwritten_unless_asked(contents, page):
    with pytest.raises(InputError, match="exists already"):
        write_page(contents, page)
