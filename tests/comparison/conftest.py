"""A comparison of two tiny networks on a synthetic volume, in seconds."""

from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def tiny(cremi_file) -> dict:
    """The content of a comparison recipe: two rows, one seed."""
    return {
        "base": {
            "net": {"name": "cleftnet", "patch": [2, 16, 16], "widths": [2, 4], "max_keys": 16},
            "data": {
                "train": [{"raw": str(cremi_file), "roi": "0:16,0:64,0:96"}],
                "validate": [{"raw": str(cremi_file), "roi": "0:16,64:96,0:96"}],
            },
            "training": {
                "steps": 4,
                "batch": 2,
                "learning_rate": 0.01,
                "validate_every": 2,
                "validation_overlap": 0,
                "save_every": 1,
            },
        },
        "seeds": [0],
        "rows": {
            "cleftnet": {"label": "CleftNet"},
            "resunet": {"label": "ResUnet", "set": {"net.name": "resunet"}},
        },
        "tables": [{"title": "Two", "rows": ["resunet", "cleftnet"], "paper": {"resunet": {"f1": 0.874}}}],
        "reference": "cleftnet",
        "synapses": {"thresholds": [0.1, 0.3], "sizes_nm3": [0, 1e5]},
    }


@pytest.fixture
def write(tmp_path):
    """Write a comparison recipe and return its path."""

    def _write(content: dict) -> Path:
        path = tmp_path / "tables.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return _write
