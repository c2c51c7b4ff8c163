import itertools

import pytest
import torch

from cleftnet.nets.parts import (
    BLOCKS,
    BOTTOMS,
    DOWNS,
    SKIPS,
    UPS,
    GatedConcatenate,
    IndexedMaxPool,
    MaxUnpool,
    ResidualBlock,
    Site,
)
from cleftnet.nets.skeleton import NetSpec, Network


def site(channels, in_shape, out_shape, level_channels=None):
    return Site(channels, in_shape, out_shape, level_channels or channels, None)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_change_channels_and_keep_the_size(name):
    assert BLOCKS[name](2, 5)(torch.randn(2, 2, 3, 4, 5)).shape == (2, 5, 3, 4, 5)


def test_a_residual_block_whose_second_norm_is_silenced_passes_positive_input_through():
    block = ResidualBlock(2)
    torch.nn.init.zeros_(block.second[1].weight)
    x = torch.rand(2, 2, 3, 4, 5)
    assert torch.equal(block(x), x)  # ELU is the identity above zero


def test_the_elu_of_a_residual_block_comes_after_its_sum():
    block = ResidualBlock(1)
    torch.nn.init.zeros_(block.second[1].weight)
    x = torch.full((2, 1, 1, 2, 2), -1.0)
    torch.testing.assert_close(block(x), torch.full_like(x, torch.e**-1 - 1))


@pytest.mark.parametrize("name", DOWNS)
@pytest.mark.parametrize("shapes", [((4, 8, 8), (2, 4, 4)), ((1, 9, 7), (1, 4, 3))], ids=str)
def test_ways_down_keep_channels_and_halve_the_size(name, shapes):
    x, _ = DOWNS[name](site(3, *shapes))(torch.randn(2, 3, *shapes[0]))
    assert x.shape == (2, 3, *shapes[1])


@pytest.mark.parametrize("name", BOTTOMS)
def test_bottoms_keep_channels_and_size(name):
    assert BOTTOMS[name](site(3, (2, 4, 4), (2, 4, 4)))(torch.randn(2, 3, 2, 4, 4)).shape == (2, 3, 2, 4, 4)


@pytest.mark.parametrize("name", UPS)
@pytest.mark.parametrize("shapes", [((2, 4, 4), (4, 8, 8)), ((1, 4, 3), (1, 9, 7))], ids=str)
def test_ways_up_return_to_the_size_of_the_skip(name, shapes):
    up = UPS[name](site(3, *shapes, level_channels=2))
    _, indices = IndexedMaxPool((1 if shapes[0][0] == 1 else 2, 2, 2))(torch.randn(2, 2, *shapes[1]))
    assert up(torch.randn(2, 3, *shapes[0]), indices).shape == (2, up.out_channels, *shapes[1])


def test_unpooling_returns_each_value_to_where_its_maximum_stood():
    x = torch.tensor([1.0, 7.0, 6.0, 2.0]).view(1, 1, 1, 1, 4)
    pooled, indices = IndexedMaxPool((1, 1, 2))(x)
    up = MaxUnpool(site(1, (1, 1, 2), (1, 1, 4)))
    torch.nn.init.ones_(up.reduce.weight)
    torch.nn.init.zeros_(up.reduce.bias)
    assert pooled.flatten().tolist() == [7, 6]
    assert up(pooled, indices).flatten().tolist() == [0, 7, 6, 0]


@pytest.mark.parametrize("name", SKIPS)
def test_skips_give_the_channels_they_promise(name):
    skip = SKIPS[name](3, 2, (2, 4, 4))
    assert skip(torch.randn(2, 3, 2, 4, 4), torch.randn(2, 2, 2, 4, 4)).shape == (2, skip.out_channels, 2, 4, 4)


def test_a_plain_skip_puts_what_came_up_before_what_was_kept():
    x, kept = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
    assert SKIPS["concat"](1, 1, (1, 1, 1))(x, kept).flatten().tolist() == [0, 1]


def test_the_attention_gate_weighs_every_kept_voxel_between_0_and_1_by_one_number_for_all_its_channels():
    torch.manual_seed(0)
    kept = torch.randn(1, 4, 2, 4, 4)
    share = GatedConcatenate(3, 4, (2, 4, 4)).gate(torch.randn(1, 3, 2, 4, 4), kept) / kept
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert share.std() > 1e-3  # and they are not all the same


PAIRS = [pair for pair in itertools.product(DOWNS, UPS) if (pair[0] == "max-pool-indices") == (pair[1] == "max-unpool")]


def test_an_added_skip_is_the_kept_features_and_a_convolution_of_those_that_came_up():
    skip = SKIPS["add"](2, 1, (1, 1, 1))
    torch.nn.init.ones_(skip.match.weight)
    torch.nn.init.zeros_(skip.match.bias)
    assert skip(torch.tensor([2.0, 3.0]).view(1, 2, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 10.0)).item() == 15


TOGETHER = list(zip(PAIRS, itertools.cycle(BOTTOMS), itertools.cycle(SKIPS)))


@pytest.mark.parametrize(("pair", "bottom", "skip"), TOGETHER)
def test_parts_that_no_row_of_the_zoo_joins_make_a_network_too(pair, bottom, skip):
    spec = NetSpec(down=pair[0], bottom=bottom, up=pair[1], skip=skip, widths=(2, 3), patch=(2, 4, 4))
    assert Network(spec).eval()(torch.rand(1, 1, 2, 4, 4)).shape == (1, 1, 2, 4, 4)
