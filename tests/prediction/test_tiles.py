import numpy as np
import pytest
import torch

from cleftnet.geometry import Block, Box
from cleftnet.prediction import tiles, whole_logits
from cleftnet.prediction.blending import Blending
from cleftnet.prediction.prediction_settings import precision_on
from cleftnet.volumes import Volume


@pytest.fixture(scope="module")
def raw():
    voxels = np.random.default_rng(0).integers(0, 256, (11, 45, 33), np.uint8)
    return Volume(voxels, (40, 4, 4), (80.0, 8.0, 12.0))


def test_a_tile_equals_the_network_on_that_patch(model, raw):
    box = Box((3, 13, 1), (11, 45, 33))  # the last tile, shifted inwards on all axes
    x = torch.from_numpy(raw[box].astype(np.float32) / 255)[None, None]
    with torch.no_grad():
        expected = model.net(x)[0].numpy()
    out = whole_logits(model.net, raw, overlap=0.0)
    assert out[:, 8:, 32:, 32:] == pytest.approx(expected[:, 5:, 19:, 31:], abs=1e-5)  # no other tile reaches there


def test_prediction_leaves_the_network_in_the_mode_it_was_in(model, raw):
    model.net.train()
    whole_logits(model.net, raw, overlap=0.0)
    assert model.net.training


def test_averaging_over_flips_and_turns_makes_a_prediction_that_turns_with_its_input(model):
    """The mean over the whole group of flips and in-plane turns is equivariant; a single pass is not."""
    voxels = np.random.default_rng(1).integers(0, 256, (8, 32, 32), np.uint8)
    turned = np.ascontiguousarray(np.rot90(voxels[::-1], axes=(1, 2)))
    for tta, same in ((True, True), (False, False)):
        one = whole_logits(model.net, Volume(voxels), tta=tta)
        two = whole_logits(model.net, Volume(turned), tta=tta)
        assert np.allclose(np.rot90(one[:, ::-1], axes=(2, 3)), two, atol=1e-4) is same


def test_threads_change_no_bit_and_are_restored(model, raw):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(whole_logits(model.net, raw))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*found)


def test_no_more_tiles_are_computed_at_once_than_fit_the_memory(model, monkeypatch):
    """8 maps of 4 channels of 8·32·32 voxels of 4 bytes are 1 MiB."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(tiles, "TILES_BYTES", 5 * 2**20)
    assert tiles.TileNetwork(model.net).at_once == 5


@pytest.mark.parametrize("batch", [5, 60])
def test_batches_of_tiles_give_what_single_tiles_give_up_to_rounding(model, raw, monkeypatch, batch):
    """As on a GPU: batches, the last of which is not full. Tolerance: 1e-5 of logits that go up to 0.5, in float32."""
    one_by_one = whole_logits(model.net, raw)
    monkeypatch.setattr(tiles.TileNetwork, "batch", batch)
    monkeypatch.setattr(tiles.TileNetwork, "threads", tiles.GPU_THREADS)
    assert whole_logits(model.net, raw) == pytest.approx(one_by_one, abs=1e-5)


def test_tensors_are_blended_as_arrays_are(model, raw, monkeypatch):
    """As on a GPU, whose tiles are blended where they lie."""
    arrays = whole_logits(model.net, raw)
    monkeypatch.setattr(Blending, "_uses_tensors", True)
    tensors = whole_logits(model.net, raw)
    assert isinstance(tensors, np.ndarray)
    assert np.array_equal(arrays, tensors)


def test_tiles_keep_their_order_in_batches(model, monkeypatch):
    """Tiles of one gray value each, three to a batch: the logits of tile n are those of the value n."""
    monkeypatch.setattr(tiles.TileNetwork, "batch", 3)
    network = tiles.TileNetwork(model.net)
    boxes = [Box.at((0, 0, 32 * n), (8, 32, 32)) for n in range(7)]
    found = list(network.logits([Block(box, box) for box in boxes], lambda box: gray(box.start[2] // 32)))
    assert [tile.read for tile, _ in found] == boxes
    for value, (_, logits) in enumerate(found):
        with torch.no_grad():
            expected = model.net(torch.full((1, 1, 8, 32, 32), value / 255))[0].numpy()
        assert logits == pytest.approx(expected, abs=1e-5)


def gray(value):
    return np.full((8, 32, 32), value, np.uint8)


def test_a_cpu_computes_tiles_one_by_one_in_float32_and_a_gpu_in_bf16(model):
    assert tiles.TileNetwork(model.net).batch == 1
    assert precision_on(torch.device("cpu")) == "float32"
    assert precision_on(torch.device("cuda")) == "bf16"
    assert precision_on(torch.device("cuda"), "float32") == "float32"
