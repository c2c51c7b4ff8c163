"""Tests that need a GPU; CLEFTNET_GPU_TESTS_ON=cpu runs what a CPU can do of them, to try the tests themselves.

They import only what a bare GPU machine has: PyTorch, NumPy, pytest and the package.
"""

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("CLEFTNET_GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device(name)


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    if device.type != "cuda":
        pytest.skip("a CPU cannot stand in for a GPU here")
    return device
