"""A browser that draws with WebGL, on the processor."""

import pytest

from tests.browser import WITH_WEBGL, chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; skips, saying so, where there is none."""
    with chromium(tmp_path_factory.mktemp("chromium"), WITH_WEBGL) as tab:
        yield tab
