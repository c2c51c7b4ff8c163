import os
import subprocess
import sys

import pytest

from cleftnet.cli import main

FAULTS = """
import resource, sys
import torch
from cleftnet.nets.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    raise SystemExit
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        arrays = [torch.ones(2**21) for _ in range(8)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(how):
    # A fixed threshold: otherwise glibc raises it after the first large array is freed, and may keep what follows too.
    environment = os.environ | ({} if how == "kept" else {"MALLOC_MMAP_THRESHOLD_": "131072"})
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


def test_freed_arrays_are_used_again_without_a_page_fault():
    """Ten times eight arrays of 8 MiB are 160,000 pages of 4 KiB."""
    kept = page_faults("kept")
    if kept < 0:
        pytest.skip("there is no glibc here to tell")
    assert kept < 1000 < page_faults("given back")


def test_the_command_line_keeps_freed_memory(monkeypatch):
    calls = []
    monkeypatch.setattr("cleftnet.nets.memory.keep_freed_memory", lambda: calls.append("kept"))
    with pytest.raises(SystemExit):
        main(["info", "missing.hdf"])
    assert calls == ["kept"]
