import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cleftnet.nets.attention import (
    ChannelGate,
    FeatureAugmentor,
    SelfAttention,
    SpatialGate,
    attend,
    features,
    resize,
    tokens,
)
from cleftnet.nets.keys import cell_bias, reduce_keys, reduced_shape

SHAPES = {  # the paper's three scenarios, an axis of 1, odd sides, and sizes that mix growing with shrinking
    "down": ((2, 6, 4), (1, 3, 2)),
    "same": ((2, 3, 4), (2, 3, 4)),
    "up": ((1, 3, 2), (2, 6, 4)),
    "flat": ((1, 8, 8), (1, 4, 4)),
    "odd": ((9, 7, 5), (4, 3, 2)),
    "any": ((2, 6, 5), (3, 4, 9)),
}


def random_augmentor(channels, in_shape, out_shape, **options):
    """A feature augmentor whose softmax is far from uniform, in eval mode."""
    fa = FeatureAugmentor(channels, in_shape, out_shape, **options)
    torch.nn.init.normal_(fa.query, std=2.0)
    return fa


def transcription(m, fa, out_shape):
    """Eqs. 3-5 in NumPy float64, with the residual left out: the map is formed, nothing is clever."""
    weights = {name: p.detach().double().numpy() for name, p in fa.named_parameters()}
    w_k, w_v, w_o = (weights[f"{name}.weight"][:, :, 0, 0, 0] for name in ("key", "value", "output"))
    b_k, b_v, b_o = (weights[f"{name}.bias"][:, None] for name in ("key", "value", "output"))
    m = m.reshape(len(m), -1)
    k, v, q = w_k @ m + b_k, w_v @ m + b_v, weights["query"].reshape(len(w_k), -1)  # (3)
    scores = np.exp(k.T @ q)
    z = v @ (scores / scores.sum(axis=0))  # (4)
    return (w_o @ z + b_o).reshape(-1, *out_shape)  # (5) without Residual(M)


def max_pool(m, shape):
    """Cut every axis into `n // side` voxels and take the maximum; what does not fill a cell is dropped."""
    for axis, side in enumerate(shape, start=1):
        cell = m.shape[axis] // side
        m = np.stack([m.take(range(i * cell, (i + 1) * cell), axis).max(axis) for i in range(side)], axis)
    return m


def trilinear(m, shape):
    """Interpolate axis by axis between voxel centers; beyond the first and last center the value stays."""
    for axis, side in enumerate(shape, start=1):
        n = m.shape[axis]
        at = (np.arange(side) + 0.5) * n / side - 0.5
        m = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, m)
    return m


@pytest.mark.parametrize("mode", ["down", "same", "up", "flat", "odd"])
@pytest.mark.parametrize("channels", [{}, {"key_channels": 3, "value_channels": 6}], ids=["c", "ck3-cv6"])
def test_it_is_equations_3_to_5_in_float32_to_a_relative_error_of_1e_5(mode, channels):
    torch.manual_seed(0)
    in_shape, out_shape = SHAPES[mode]
    fa = random_augmentor(4, in_shape, out_shape, **channels)
    x = torch.randn(2, 4, *in_shape)
    found = fa(x).detach().double().numpy()
    residual = trilinear if np.prod(out_shape) > np.prod(in_shape) else max_pool
    for m, n in zip(x.double().numpy(), found, strict=True):
        expected = transcription(m, fa, out_shape) + residual(m, out_shape)
        assert np.linalg.norm(n - expected) / np.linalg.norm(expected) < 1e-5


def test_it_is_exact_at_a_thousand_keys_and_scores_of_tens():
    torch.manual_seed(0)
    fa = random_augmentor(8, (4, 16, 16), (2, 8, 8))
    torch.nn.init.normal_(fa.query, std=10.0)  # a softmax that nearly picks single voxels
    x = torch.randn(1, 8, 4, 16, 16)
    expected = transcription(x[0].double().numpy(), fa, (2, 8, 8))
    found = (fa(x) - resize(x, (2, 8, 8)))[0].detach().double().numpy()
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5


@pytest.mark.parametrize("mode", SHAPES)
def test_its_gradients_are_those_of_finite_differences(mode):
    torch.manual_seed(0)
    in_shape, out_shape = (tuple(min(n, 3) for n in shape) for shape in SHAPES[mode])
    fa = random_augmentor(2, in_shape, out_shape).double()
    names, parameters = zip(*fa.named_parameters(), strict=True)
    x = torch.randn(1, 2, *in_shape, dtype=torch.float64, requires_grad=True)

    def call(x, *values):
        return torch.func.functional_call(fa, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(["down", "same", "up"]))
def test_what_it_attends_to_does_not_depend_on_where_voxels_stand(seed, mode):
    in_shape, out_shape = SHAPES[mode]
    torch.manual_seed(seed)
    fa = random_augmentor(3, in_shape, out_shape).double()
    x = torch.randn(1, 3, *in_shape, dtype=torch.float64)
    moved = x.flatten(2)[..., torch.randperm(x[0, 0].numel())].view_as(x)
    assume(not torch.equal(moved, x))
    attended, attended_moved = fa(x) - resize(x, out_shape), fa(moved) - resize(moved, out_shape)
    torch.testing.assert_close(attended, attended_moved)
    assert not torch.allclose(fa(x), fa(moved))  # the residual does depend on it


def test_every_sample_of_a_batch_attends_to_itself_alone():
    torch.manual_seed(0)
    fa, x = random_augmentor(3, (2, 4, 4), (1, 2, 2)), torch.randn(3, 3, 2, 4, 4)
    torch.testing.assert_close(fa(x), torch.cat([fa(sample[None]) for sample in x]))


def test_a_query_that_scores_all_voxels_alike_takes_their_mean():
    x = torch.arange(8.0).view(1, 8, 1)
    assert attend(torch.zeros(1, 1, 1), x, x).item() == pytest.approx(3.5)


def test_a_query_that_scores_one_voxel_far_above_all_others_takes_its_value():
    key = torch.tensor([0.0, 0.0, 50.0, 0.0]).view(1, 4, 1)
    value = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1)
    assert attend(torch.ones(1, 1, 1), key, value).item() == pytest.approx(3.0)


def test_scores_are_not_divided_by_the_root_of_the_channels():
    # Eq. 4 prints none: keys 0 and ln 3 under a query of 1 weigh 1/4 and 3/4, so that values 0 and 1 give 3/4.
    key = torch.tensor([[0.0, 0.0, 0.0, 0.0], [np.log(3), 0.0, 0.0, 0.0]]).view(1, 2, 4)
    value, query = torch.tensor([0.0, 1.0]).view(1, 2, 1), torch.ones(1, 1, 4)
    assert attend(query, key.float(), value).item() == pytest.approx(0.75)
    assert attend(query, key.float(), value, scale=0.0).item() == pytest.approx(0.5)


def test_tokens_are_the_voxels_as_rows_and_features_are_their_inverse():
    x = torch.arange(12.0).view(1, 2, 1, 2, 3)
    assert tokens(x)[0].tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
    assert torch.equal(features(tokens(x), (1, 2, 3)), x)


def test_nothing_is_copied_between_features_with_channels_last_and_tokens():
    x = torch.randn(2, 3, 2, 4, 4).to(memory_format=torch.channels_last_3d)
    assert tokens(x).data_ptr() == x.data_ptr()
    assert features(tokens(x), (2, 4, 4)).data_ptr() == x.data_ptr()
    assert features(tokens(x), (2, 4, 4)).is_contiguous(memory_format=torch.channels_last_3d)


def test_what_it_returns_has_channels_last_where_its_input_does():
    x = torch.randn(2, 3, 2, 4, 4).to(memory_format=torch.channels_last_3d)
    for shape in ((1, 2, 2), (2, 4, 4), (4, 8, 8)):
        assert FeatureAugmentor(3, (2, 4, 4), shape)(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_queries_start_as_normal_with_a_deviation_of_2_percent_and_are_shared_by_all_inputs():
    query = FeatureAugmentor(16, (8, 16, 16), (8, 16, 16)).query
    assert query.shape == (16, 8, 16, 16)
    assert abs(query.mean()) < 1e-3
    assert query.std().item() == pytest.approx(0.02, rel=0.05)


def test_keys_and_values_may_have_channels_of_their_own():
    fa = FeatureAugmentor(4, (2, 4, 4), (1, 2, 2), key_channels=3, value_channels=6)
    assert [tuple(p.shape[:2]) for p in (fa.key.weight, fa.value.weight, fa.output.weight)] == [(3, 4), (6, 4), (4, 6)]
    assert fa.query.shape == (3, 1, 2, 2)


def test_the_residual_of_halves_is_the_maximum_of_each_cell():
    x = torch.tensor([1.0, 5.0, 2.0, 3.0]).view(1, 1, 1, 1, 4)
    assert resize(x, (1, 1, 2)).flatten().tolist() == [5, 3]


def test_the_residual_of_doubles_is_interpolated_between_voxel_centers():
    x = torch.tensor([0.0, 4.0]).view(1, 1, 1, 1, 2)
    assert resize(x, (1, 1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_the_residual_of_the_same_size_is_the_input_itself():
    x = torch.randn(1, 2, 3, 4, 5)
    assert resize(x, (3, 4, 5)) is x


def test_keys_are_reduced_by_halving_the_longest_side():
    assert reduced_shape((8, 256, 256), 2048) == (8, 16, 16)
    assert reduced_shape((8, 16, 16), 2047) == (8, 8, 16)
    assert reduced_shape((9, 50, 34), None) == (9, 50, 34)
    assert reduced_shape((9, 50, 34), 1) == (1, 1, 1)


def test_a_bound_below_one_key_is_refused():
    with pytest.raises(ValueError, match="max_keys is 0; expected at least 1"):
        reduced_shape((1, 1, 1), 0)


@pytest.mark.parametrize("max_keys", [128, 10_000])
def test_a_bound_that_all_keys_fit_in_changes_nothing(max_keys):
    torch.manual_seed(0)
    exact = random_augmentor(2, (2, 8, 8), (1, 4, 4))
    bounded = FeatureAugmentor(2, (2, 8, 8), (1, 4, 4), max_keys=max_keys)
    bounded.load_state_dict(exact.state_dict())
    x = torch.randn(1, 2, 2, 8, 8)
    assert torch.equal(exact(x), bounded(x))


def test_reduced_keys_of_an_input_that_is_uniform_within_each_cell_are_exact():
    torch.manual_seed(0)
    exact = random_augmentor(2, (2, 8, 8), (1, 4, 4))
    reduced = FeatureAugmentor(2, (2, 8, 8), (1, 4, 4), max_keys=32)
    reduced.load_state_dict(exact.state_dict())
    x = torch.randn(1, 2, 2, 4, 4).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(exact(x), reduced(x))


def test_bfloat16_differs_from_float32_by_less_than_its_eight_bits_allow():
    torch.manual_seed(0)
    fa, x = FeatureAugmentor(4, (2, 8, 8), (1, 4, 4)), torch.randn(1, 4, 2, 8, 8)
    exact, half = fa(x), fa.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert ((half.float() - exact).norm() / exact.norm()).item() < 0.01


def test_it_runs_under_autocast_with_float32_parameters_and_gradients():
    torch.manual_seed(0)
    fa, x = random_augmentor(4, (2, 8, 8), (1, 4, 4)), torch.randn(1, 4, 2, 8, 8)
    exact = fa(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = fa(x)
    y.float().square().sum().backward()
    assert ((y.float() - exact).norm() / exact.norm()).item() < 0.02
    assert fa.query.grad is not None
    assert fa.query.grad.dtype == torch.float32
    assert fa.query.grad.abs().max() > 0


@pytest.mark.parametrize("max_keys", [None, 16])
def test_torch_compile_takes_it_whole_without_a_graph_break(max_keys):
    torch.manual_seed(0)
    fa, x = random_augmentor(4, (2, 8, 8), (1, 4, 4), max_keys=max_keys), torch.randn(1, 4, 2, 8, 8)
    compiled = torch.compile(fa, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), fa(x))


def test_self_attention_is_the_augmentor_with_a_query_computed_from_the_input():
    torch.manual_seed(0)
    attention, x = SelfAttention(3, (2, 4, 4), (1, 2, 2)), torch.randn(2, 3, 2, 4, 4)
    fa = FeatureAugmentor(3, (2, 4, 4), (1, 2, 2))
    fa.load_state_dict(
        {k: v for k, v in attention.state_dict().items() if not k.startswith("query")} | {"query": fa.query.data}
    )
    for sample, expected in zip(x, attention(x), strict=True):
        fa.query.data = attention.query(sample[None])[0].detach()
        torch.testing.assert_close(fa(sample[None])[0], expected)


def test_the_spatial_gate_scales_each_voxel_by_its_share_of_the_scores():
    gate = SpatialGate(1)
    gate.query.data.fill_(1.0)
    x = torch.tensor([0.0, np.log(3)]).float().view(1, 1, 1, 1, 2)  # scores 1 : 3
    assert gate(x).flatten().tolist() == pytest.approx([0.0, 0.75 * np.log(3)])


def test_the_channel_gate_scales_each_channel_by_its_share_of_the_scores():
    gate = ChannelGate((1, 1, 2))
    gate.query.data.fill_(1.0)
    x = torch.tensor([[0.0, 0.0], [np.log(3), 0.0]]).float().view(1, 2, 1, 1, 2)  # channel scores 1 : 3
    assert gate(x).flatten().tolist() == pytest.approx([0.0, 0.0, 0.75 * np.log(3), 0.0])


@pytest.mark.parametrize("gate", [SpatialGate(3), ChannelGate((2, 4, 4))], ids=["spatial", "channel"])
def test_gates_let_gradients_reach_their_query(gate):
    torch.manual_seed(0)
    gate(torch.randn(1, 3, 2, 4, 4)).square().sum().backward()
    assert gate.query.grad.abs().max() > 0


def test_the_reference_transcription_and_pytorch_interpolate_alike():
    x = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64)
    ours = trilinear(x[0].numpy(), (6, 8, 10))
    theirs = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)[0].numpy()
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 1, 5), (3, 7, 9), (5, 6, 11), (4, 8, 8)])
@pytest.mark.parametrize("max_keys", [2, 12, 40])
def test_fewer_keys_weigh_all_voxels_alike_at_any_side(shape, max_keys):
    """A query that scores all keys alike takes the mean over all voxels, however they are cut into cells."""
    torch.manual_seed(0)
    x, cells = torch.randn(2, 3, *shape, dtype=torch.float64), reduced_shape(shape, max_keys)
    values = tokens(reduce_keys(x, cells))
    assert values.shape[1] == math.prod(cells)
    found = attend(torch.zeros(1, 4, 3, dtype=torch.float64), values, values, 1.0, cell_bias(x, cells))
    torch.testing.assert_close(found, x.flatten(2).mean(-1)[:, None].expand(-1, 4, -1))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_a_bias_is_added_to_the_scaled_products(scale):
    torch.manual_seed(0)
    query, key, value, bias = torch.randn(1, 4, 3), torch.randn(2, 6, 3), torch.randn(2, 6, 5), torch.randn(6)
    weights = (scale * key @ query[0].T + bias[:, None]).softmax(1)
    torch.testing.assert_close(attend(query, key, value, scale, bias), weights.transpose(1, 2) @ value)


def test_cells_of_equal_size_need_no_bias():
    assert cell_bias(torch.zeros(1, 1, 8, 96, 96), (8, 6, 12)) is None
