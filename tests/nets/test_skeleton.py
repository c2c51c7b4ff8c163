import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleftnet.errors import InputError
from cleftnet.nets.attention import tokens
from cleftnet.nets.skeleton import HEADS, NetSpec, Network


def test_the_papers_patch_is_halved_level_by_level_and_a_side_never_drops_below_1():
    assert NetSpec(patch=(8, 256, 256)).shapes == ((8, 256, 256), (4, 128, 128), (2, 64, 64), (1, 32, 32), (1, 16, 16))


def test_odd_sides_lose_their_last_voxel():
    assert NetSpec(patch=(9, 50, 34), widths=(1, 1, 1, 1)).shapes == ((9, 50, 34), (4, 25, 17), (2, 12, 8), (1, 6, 4))


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
