"""Costs against numbers by hand, and the memory of a training step against what a process really takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cleftnet.nets.costs import cost
from cleftnet.nets.skeleton import NetSpec
from cleftnet.nets.zoo import ZOO, spec

TINY = NetSpec(widths=(2, 4), patch=(2, 4, 4), block="conv-conv")


def test_operations_of_convolutions_by_hand():
    """Twice the kernel's voxels × input × output channels × output voxels, convolution by convolution.

    32 voxels above, 4 below. Encoder 27·1·2·32 + 27·2·2·32; bottom 27·2·4·4 + 27·4·4·4; up 8·4·4·4 (each input voxel meets
    all 8 of the kernel); decoder 27·6·2·32 + 27·2·2·32; head 1·2·1·32.
    """
    by_hand = 27 * (2 + 4 + 12 + 4) * 32 + 27 * (8 + 16) * 4 + 8 * 16 * 4 + 2 * 32
    assert cost(TINY).flops == 2 * by_hand


def test_operations_of_an_attention_by_hand():
    """Queries × keys × (key + value channels), twice: at the bottom 4 queries meet 4 keys of 8 + 8 channels."""
    with_bottom = TINY.changed(widths=(2, 8), bottom="fa")
    assert cost(with_bottom).attention_flops == 2 * 4 * 4 * (8 + 8)


def test_the_exact_attentions_of_the_papers_size_take_40_times_the_backbone():
    found = cost(ZOO["cleftnet"])
    assert found.attention_flops == pytest.approx(13.5e12, rel=0.01)
    assert found.flops - found.attention_flops == pytest.approx(0.35e12, rel=0.02)


def test_reduced_keys_cut_attention_alone():
    exact, reduced = cost(ZOO["cleftnet"]), cost(spec("cleftnet", max_keys=2048))
    assert reduced.attention_flops < exact.attention_flops / 30
    assert (reduced.parameters, reduced.query_parameters) == (exact.parameters, exact.query_parameters)


def test_query_parameters_are_the_channels_times_the_voxels_of_every_output():
    sizes = spec("cleftnet", widths=(2, 4), patch=(2, 4, 4))  # down 2·(1·2·2), same 4·(1·2·2), up 4·(2·4·4)
    assert cost(sizes).query_parameters == 2 * 4 + 4 * 4 + 4 * 32


@pytest.mark.parametrize("name", ["resunet", "cleftnet"])
def test_training_memory_of_a_tiny_patch_is_weights_gradients_and_two_moments(name):
    found = cost(spec(name, patch=(1, 32, 32)))
    assert 4 < found.training_bytes / (4 * found.parameters) < 4.5


def test_training_memory_counts_a_gate_of_one_channel_where_it_is_larger():
    assert cost(ZOO["attnunet"]).training_bytes > cost(ZOO["resunet"]).training_bytes


# Freed memory goes back to the system at once (MALLOC_MMAP_THRESHOLD_), or else the C library's own habits are measured;
# the high-water mark is reset after everything is loaded and warm.
STEP = """
import sys
from pathlib import Path
import torch
from cleftnet.nets.skeleton import NetSpec, Network

def mark():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

def train(spec, steps):
    net = Network(spec).channels_last()
    optimizer = torch.optim.Adam(net.parameters())
    for _ in range(steps):
        loss = net(torch.rand(1, 1, *spec.patch)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

torch.set_num_threads(1)
spec = NetSpec.model_validate_json(sys.argv[1])
train(spec.changed(widths=(2, 3), patch=(2, 8, 8)), 1)
Path("/proc/self/clear_refs").write_text("5")
before = mark()
train(spec, 2)
print(mark() - before)
"""


@pytest.mark.parametrize("name", ["unet3d", "cleftnet"])
def test_the_memory_of_a_real_training_step_is_at_most_a_fifth_above_the_estimate(name):
    """The fifth is what the kernels take for themselves; at 16 channels oneDNN takes more than the network (docs/log.md)."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the high-water mark of memory can only be reset on Linux")
    sizes = spec(name, widths=(32, 64), patch=(8, 96, 96), max_keys=256)
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", STEP, sizes.model_dump_json()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0.95 < int(done.stdout) / cost(sizes).training_bytes < 1.2
