"""Peak memory of the exact feature augmentor, each way in a process of its own, by the kernel's high-water mark."""

import subprocess
import sys
from pathlib import Path

import pytest

KEYS, QUERIES = (8, 64, 64), (16, 32, 32)
MAP_BYTES = 32_768 * 16_384 * 4  # 2.1 GB
EIGHTH = (2, 32, 32)  # of the queries

# The high-water mark is reset after everything is loaded and warm, so that neither the imports nor the parent process
# (whose own mark `ru_maxrss` inherits) can hide a growth.
PROGRAM = """
import sys
from pathlib import Path
import torch
from cleftnet.nets.attention import FeatureAugmentor, attend, resize

def mark():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def by_map(fa, x):  # the same numbers with the map formed; in place, which is the least memory it can take
    scores = fa.key(x).flatten(2).transpose(1, 2) @ fa.query.flatten(1)
    scores -= scores.amax(1, keepdim=True)
    weights = scores.exp_()
    weights /= weights.sum(1, keepdim=True)
    z = (fa.value(x).flatten(2) @ weights).view(1, -1, *fa.out_shape)
    return fa.output(z) + resize(x, fa.out_shape)

def run(way, in_shape, out_shape):
    torch.manual_seed(0)
    fa = FeatureAugmentor(8, in_shape, out_shape)
    x = torch.randn(1, 8, *in_shape, requires_grad=way == "exact")
    Path("/proc/self/clear_refs").write_text("5")
    before = mark()
    if way == "exact":
        fa(x).square().sum().backward()
    else:
        with torch.no_grad():
            by_map(fa, x)
    return mark() - before

torch.set_num_threads(1)
way, *shapes = sys.argv[1:]
run(way, (2, 8, 8), (1, 4, 4))
print(run(way, *(tuple(map(int, shape.split(","))) for shape in shapes)))
"""


@pytest.fixture(scope="module")
def measure():
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("the high-water mark of memory can only be reset on Linux")

    def run(way, *shapes):
        arguments = (",".join(map(str, shape)) for shape in shapes)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, way, *arguments], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    return run


def test_the_exact_form_takes_less_than_a_tenth_of_its_map_forward_and_backward(measure):
    assert measure("exact", KEYS, QUERIES) < MAP_BYTES / 10


def test_the_same_meter_sees_the_map_that_a_plain_restatement_forms(measure):
    assert measure("map", KEYS, EIGHTH) > MAP_BYTES / 8
