"""Fixtures shared by the tests: the synthetic volume, a tiny model, log messages, and the folder of real data."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cleftnet.models.checkpoint import Model, ModelCard
from cleftnet.nets.zoo import build
from cleftnet.synthetic import Synthetic, synthetic_volume
from cleftnet.volumes import data_folder, write_cremi

torch.set_num_threads(2)
SHAPE = (16, 96, 96)
HANDLERS = tuple(logging.getLogger("cleftnet").handlers)  # those of the package itself


@pytest.fixture(scope="session")
def synthetic() -> Synthetic:
    """A synthetic volume of 16×96×96 voxels, seed 0."""
    return synthetic_volume(SHAPE, seed=0)


@pytest.fixture(scope="session")
def cremi_file(synthetic: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic volume as a CREMI file."""
    path = tmp_path_factory.mktemp("volume") / "volume.hdf"
    write_cremi(path, raw=synthetic.raw, clefts=synthetic.labels)
    return path


@pytest.fixture(autouse=True)
def _no_log_messages_of_another_test() -> Iterator[None]:
    """Take away what the command line leaves in the process, also in a fixture of a module: messages on standard error."""
    _reset_logging()
    yield
    _reset_logging()


def _reset_logging() -> None:
    logger = logging.getLogger("cleftnet")
    logger.handlers[:] = HANDLERS
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def model() -> Model:
    """An untrained CleftNet of patch 8×32×32 with fixed weights."""
    torch.manual_seed(0)
    net = build("cleftnet", widths=(4, 8), patch=(8, 32, 32), max_keys=64).eval()
    return Model(net, ModelCard(spec=net.spec, threshold=0.25, voxel_size_nm=(40, 4, 4)))


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The package's log messages; `messages.text` is all of them so far."""
    caplog.set_level(logging.INFO, "cleftnet")
    return caplog


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public volumes (CLEFTNET_DATA); a test that needs it is skipped where vnc-l3 is not in it."""
    folder = data_folder().absolute()
    if not (folder / "vnc-l3/vnc-l3.hdf").is_file():
        pytest.skip(f"{folder} has no vnc-l3/vnc-l3.hdf: set CLEFTNET_DATA, or run cleftnet download vnc-l3")
    return folder
