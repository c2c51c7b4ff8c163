"""Costs against numbers by hand, and the memory of a training step against what the tensors of a real one take."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cleftnet.nets.costs import cost
from cleftnet.nets.skeleton import NetSpec, Network
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


@pytest.mark.parametrize(("skip", "channels"), [("swa-concat", 2), ("cwa-concat", 2)])
def test_operations_of_a_gate_are_those_of_its_scores(skip, channels):
    """One multiply-add for each channel of the skip and voxel."""
    plain, gated = cost(TINY), cost(TINY.changed(skip=skip))
    assert gated.flops - plain.flops == 2 * channels * 32


# GiB at the paper's size, counted tensor by tensor on PyTorch's fake tensors, which have shapes and no contents.
TRAINING_GIB = {
    "segnet": 1.2066,
    "unet3d": 1.3752,
    "vnet": 1.8727,
    "resunet": 1.8912,
    "attnunet": 2.0876,
    "cleftnet-no-la": 2.7525,
    "cleftnet-no-fa": 1.8951,
    "cleftnet-selfattn": 2.4393,
    "cleftnet": 2.7564,
}


@pytest.mark.parametrize("name", ZOO)
def test_training_memory_at_the_papers_size_is_that_of_a_count_tensor_by_tensor(name):
    assert cost(ZOO[name]).training_bytes / 2**30 == pytest.approx(TRAINING_GIB[name], rel=0.005)


class LiveBytes(TorchDispatchMode):
    """Adds up the bytes of all tensors made within it and still alive, and holds the most there were.

    Workspaces of kernels are not tensors: what a process takes besides depends on the processor (docs/log.md).
    """

    def __init__(self):
        super().__init__()
        self.peak = self.now = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and storage(tensor) not in self.known | given:
                self.add(tensor.untyped_storage())
        return result

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.remove, key, size)

    def remove(self, key, size):
        self.known.discard(key)
        self.now -= size


def storage(tensor):
    return tensor.untyped_storage()._cdata


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("segnet", {}),
        ("unet3d", {}),
        ("vnet", {}),
        ("attnunet", {}),
        ("cleftnet-selfattn", {"max_keys": 256}),
        ("cleftnet", {"patch": (4, 32, 32)}),
        ("cleftnet", {"max_keys": 256}),
        ("cleftnet", {"query_grid": (1, 2, 2)}),
    ],
    ids=str,
)
def test_the_tensors_of_real_training_steps_take_what_is_estimated(name, changes):
    sizes = spec(name, **{"widths": (8, 16), "patch": (4, 48, 48)} | changes)
    with LiveBytes() as memory:
        net = Network(sizes).channels_last()
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss = net(torch.rand(1, 1, *sizes.patch)).square().mean()
            loss.backward()
            optimizer.step()
            del loss
    assert memory.peak / cost(sizes).training_bytes == pytest.approx(1, abs=0.05)
