import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.nets.attention import tokens
from cleftnet.nets.skeleton import HEADS, NetSpec, Network
from cleftnet.nets.zoo import build


def test_the_papers_patch_is_halved_level_by_level_and_a_side_never_drops_below_1():
    assert NetSpec(patch=(8, 256, 256)).shapes == ((8, 256, 256), (4, 128, 128), (2, 64, 64), (1, 32, 32), (1, 16, 16))


def test_odd_sides_lose_their_last_voxel():
    assert NetSpec(patch=(9, 50, 34), widths=(1, 1, 1, 1)).shapes == ((9, 50, 34), (4, 25, 17), (2, 12, 8), (1, 6, 4))


@pytest.mark.parametrize("row", ["segnet", "unet3d", "vnet", "cleftnet"])
def test_pooling_may_keep_all_sections_at_every_level(row):
    net = build(row, patch=(3, 8, 8), pooling=(1, 2, 2), widths=(2, 3, 4)).eval()
    assert net.spec.shapes == ((3, 8, 8), (3, 4, 4), (3, 2, 2))
    assert net(torch.rand(1, 1, 3, 8, 8)).shape[-3:] == (3, 8, 8)


def test_pooling_is_by_1_or_2():
    with pytest.raises(InputError, match="pooling"):
        NetSpec(pooling=(1, 3, 3))


@settings(deadline=None, max_examples=15)
@given(st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)), st.sampled_from(["fa", "transposed-conv"]))
def test_every_patch_comes_back_in_its_size(patch, up):
    net = Network(NetSpec(widths=(1, 2, 2), patch=patch, up=up)).eval()
    assert net(torch.rand(1, 1, *patch)).shape == (1, 1, *patch)


@pytest.mark.parametrize("field", ["block", "down", "bottom", "up", "skip"])
def test_an_unknown_part_is_named_with_those_there_are(field):
    with pytest.raises(InputError, match=f"unknown {field} 'zzz'; known: "):
        NetSpec(**{field: "zzz"})


@pytest.mark.parametrize("parts", [{"down": "max-pool-indices"}, {"up": "max-unpool"}], ids=str)
def test_pooling_indices_and_unpooling_come_together(parts):
    with pytest.raises(InputError, match="'max-unpool' work only together"):
        NetSpec(**parts)


def test_heads_are_segmentation_alone_or_with_boundary():
    with pytest.raises(InputError, match="heads"):
        NetSpec(heads=HEADS[::-1])


def test_a_spec_comes_back_from_json():
    spec = NetSpec(down="fa", up="fa", heads=HEADS, patch=(4, 32, 32), max_keys=64)
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("shape", [(1, 1, 2, 8, 9), (1, 2, 2, 8, 8), (1, 2, 8, 8)], ids=str)
def test_an_input_of_another_size_is_refused_with_the_size_that_fits(shape):
    net = Network(NetSpec(widths=(2, 3), patch=(2, 8, 8)))
    with pytest.raises(InputError, match="this model takes b×1×2×8×8"):
        net(torch.zeros(shape))


def test_training_on_a_single_voxel_at_the_bottom_is_refused_and_two_patches_are_not():
    net = Network(NetSpec(widths=(2, 3), patch=(1, 2, 2)))
    with pytest.raises(InputError, match="more than one patch"):
        net(torch.rand(1, 1, 1, 2, 2))
    assert net(torch.rand(2, 1, 1, 2, 2)).shape == (2, 1, 1, 2, 2)
    assert net.eval()(torch.rand(1, 1, 1, 2, 2)).shape == (1, 1, 1, 2, 2)


def test_the_channels_last_layout_copies_no_query_and_changes_no_output():
    torch.manual_seed(0)
    net = Network(NetSpec(down="fa", bottom="fa", up="fa", widths=(4, 8), patch=(2, 8, 8))).eval()
    x = torch.rand(1, 1, 2, 8, 8)
    before = net(x)
    query = net.channels_last().bottom.query
    assert tokens(query[None]).data_ptr() == query.data_ptr()
    torch.testing.assert_close(net(x), before)


def test_a_network_that_folds_raw_into_channels_computes_smaller_levels_and_returns_full_size():
    spec = NetSpec(widths=(2, 3), patch=(2, 8, 12), pixel_unshuffle=4, heads=HEADS)
    net = Network(spec)
    assert spec.shapes == ((2, 2, 3), (1, 1, 1))
    assert net.encoder[0][0][0].in_channels == 16
    assert net(torch.rand(2, 1, 2, 8, 12)).shape == (2, 2, 2, 8, 12)


def test_folding_and_unfolding_keep_every_voxel_at_its_place():
    """A network whose blocks pass their input on, and whose head passes on its folded channels, returns raw."""
    net = Network(NetSpec(widths=(4, 4), patch=(2, 6, 4), pixel_unshuffle=2))
    net.encoder[0], net.decoder[0] = torch.nn.Identity(), torch.nn.Identity()
    net.skips[0] = type("Kept", (torch.nn.Module,), {"forward": lambda self, up, kept: kept})()
    torch.nn.init.zeros_(net.head.bias)
    with torch.no_grad():
        net.head.weight.copy_(torch.eye(4)[:, :, None, None, None])
    raw = torch.rand(1, 1, 2, 6, 4)
    assert torch.equal(net.eval()(raw), raw)


def test_a_patch_that_cannot_be_folded_is_refused():
    with pytest.raises(InputError, match="must be multiples"):
        NetSpec(patch=(2, 8, 6), pixel_unshuffle=4)


def test_outputs_for_tissue_exist_in_training_only():
    net = Network(NetSpec(widths=(2, 3), patch=(2, 8, 8), heads=HEADS, tissue_classes=4))
    raw = torch.rand(2, 1, 2, 8, 8)
    assert net(raw).shape == (2, 6, 2, 8, 8)
    assert net.eval()(raw).shape == (2, 2, 2, 8, 8)
