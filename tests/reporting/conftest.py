"""A page made by hand, and a browser to open it."""

import numpy as np
import pytest

from cleftnet.comparison.tables import TextTable
from cleftnet.reporting import Contents, Entry, History, Scene, ScenePrediction, write_page
from cleftnet.volumes import Volume
from tests.browser import WITHOUT_GRAPHICS, chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; skips, saying so, where there is none."""
    with chromium(tmp_path_factory.mktemp("chromium"), WITHOUT_GRAPHICS) as tab:
        yield tab


SIZE_NM = (40.0, 4.0, 4.0)
SHAPE = (5, 120, 200)
FALSE_POSITIVE, FALSE_NEGATIVE, RIGHT = (
    (2, 30, 150),
    (2, 90, 40),
    (2, 30, 40),
)  # z y x, the middle of blocks of 24×40 voxels


def block(at, depth=1):
    """A block of 24×40 voxels around a place."""
    z, y, x = at
    return slice(z, z + depth), slice(y - 12, y + 12), slice(x - 20, x + 20)


@pytest.fixture(scope="session")
def contents():
    """Two models on one scene: in section 2 one cleft is right, one is not found, and one is predicted where there is none."""
    rng = np.random.default_rng(0)
    truth, probability = np.zeros(SHAPE, np.uint64), rng.integers(0, 40, SHAPE).astype(np.uint8)
    truth[block(RIGHT, 2)], truth[block(FALSE_NEGATIVE)] = 1, 2
    probability[block(RIGHT, 2)], probability[block(FALSE_POSITIVE)] = 230, 220
    raw = rng.integers(60, 200, SHAPE).astype(np.uint8)
    offset = (400.0, 0.0, 0.0)

    def volume(values):
        return Volume(values, SIZE_NM, offset)

    steps = np.arange(1.0, 201.0)
    history = History(
        {"step": np.array([100.0, 200.0]), "f1": np.array([0.4, 0.6]), "cremi_score": np.array([90.0, np.nan])},
        {"step": steps, "loss_total": 1 / steps, "loss_segmentation": 0.5 / steps},
    )
    with_distance = ScenePrediction(volume(probability), volume(probability // 2))
    worse = ScenePrediction(volume((probability * 0.9).astype(np.uint8)))
    return Contents(
        title="A <b>tricky</b> & title",
        about="Made by hand.",
        scenes=(Scene("hand-made", volume(raw), volume(truth), (10, 0, 0)),),
        entries=(
            Entry("cleftnet", "CleftNet", (with_distance,), 0.5, (history, history)),
            Entry("unet3d", "3D U-Net", (worse,), 0.5),
        ),
        tables=(TextTable("Table II", ("", "F1"), (("CleftNet", "0.6"), ("3D U-Net", "0.5"))),),
        recipe="seed: 0\nnet: {name: cleftnet}\n",
        provenance={"git": "abc", "versions": {"python": "3.11"}},
    )


@pytest.fixture(scope="session")
def page(contents, tmp_path_factory):
    """The page of `contents`."""
    return write_page(contents, tmp_path_factory.mktemp("report") / "page.html")
