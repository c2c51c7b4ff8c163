"""Queries on a coarse grid (docs/method.md, "Coarse queries") and augmentors that start as their residual."""

import io

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, load_model, save_model
from cleftnet.nets.attention import FeatureAugmentor, attend, interpolate, resize
from cleftnet.nets.costs import cost
from cleftnet.nets.folding import FoldedAugmentor, fold
from cleftnet.nets.resizing import fit_queries, resize_network
from cleftnet.nets.skeleton import NetSpec
from cleftnet.nets.zoo import ZOO, build, spec
from cleftnet.training.recipe import Recipe

SHAPES = {
    "down": ((2, 6, 6), (1, 3, 3)),
    "same": ((2, 3, 4), (2, 3, 4)),
    "up": ((1, 3, 3), (2, 6, 6)),
    "any": ((2, 6, 5), (3, 4, 9)),
}
SMALL = {"widths": (4, 6, 8), "patch": (4, 16, 16)}


def augmentor(in_shape, out_shape, query, **options):
    """Return an augmentor in float64 with the given query `k z y x`."""
    torch.manual_seed(0)
    fa = FeatureAugmentor(3, in_shape, out_shape, **options).double()
    assert fa.query.shape == query.shape
    fa.query.data = query
    return fa


def queries(*shape, spread=2.0):
    return spread * torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def attended(fa, x):
    return (fa(x) - resize(x, fa.out_shape)).detach()


@pytest.mark.parametrize("mode", SHAPES)
@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("max_keys", [None, 8])
def test_a_constant_query_gives_the_full_form(mode, grid, max_keys):
    in_shape, out_shape = SHAPES[mode]
    vector, x = queries(1, 1, 1), torch.randn(2, 3, *in_shape, dtype=torch.float64)
    coarse = augmentor(in_shape, out_shape, vector.expand(-1, *grid), query_grid=grid, max_keys=max_keys)
    full = augmentor(in_shape, out_shape, vector.expand(-1, *out_shape), max_keys=max_keys)
    torch.testing.assert_close(coarse(x), full(x), rtol=1e-12, atol=1e-12)


def test_a_grid_of_the_outputs_size_or_larger_is_the_full_form_bit_for_bit():
    query, x = queries(1, 3, 3), torch.randn(2, 3, 2, 6, 6, dtype=torch.float64)
    full = augmentor((2, 6, 6), (1, 3, 3), query)
    assert torch.equal(augmentor((2, 6, 6), (1, 3, 3), query, query_grid=(4, 8, 3))(x), full(x))


def test_a_query_agrees_with_its_nearest_neighbor_enlargement_at_the_middle_of_each_cell():
    query, x = queries(1, 2, 2), torch.randn(2, 3, 1, 6, 6, dtype=torch.float64)
    coarse = augmentor((1, 6, 6), (1, 6, 6), query, query_grid=(1, 2, 2))
    full = augmentor((1, 6, 6), (1, 6, 6), query.repeat_interleave(3, 2).repeat_interleave(3, 3))
    torch.testing.assert_close(attended(coarse, x)[..., 1::3, 1::3], attended(full, x)[..., 1::3, 1::3])
    assert not torch.allclose(attended(coarse, x), attended(full, x))


def test_the_difference_from_an_interpolated_query_falls_with_the_square_of_its_spread():
    x, errors = torch.randn(1, 3, 1, 6, 6, dtype=torch.float64), []
    for spread in (0.02, 0.01):
        query = queries(1, 2, 2, spread=spread)
        coarse = augmentor((1, 6, 6), (1, 6, 6), query, query_grid=(1, 2, 2))
        full = augmentor((1, 6, 6), (1, 6, 6), interpolate(query[None], (1, 6, 6))[0])
        errors.append((attended(coarse, x) - attended(full, x)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_the_output_convolution_may_come_before_the_interpolation():
    """Weights of an interpolation sum to 1, so a 1×1×1 convolution with its bias gives the same before and after it."""
    query, x = queries(1, 2, 2), torch.randn(2, 3, 2, 6, 6, dtype=torch.float64)
    fa = augmentor((2, 6, 6), (1, 3, 3), query, query_grid=(1, 2, 2))
    rows = [conv(x).flatten(2).transpose(1, 2).contiguous() for conv in (fa.key, fa.value)]
    z = attend(query.flatten(1).T[None].contiguous(), *rows).transpose(1, 2).reshape(2, 3, 1, 2, 2)
    expected = fa.output(interpolate(z, (1, 3, 3))) + resize(x, (1, 3, 3))
    torch.testing.assert_close(fa(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", SHAPES)
def test_gradients_are_those_of_finite_differences(mode):
    in_shape, out_shape = (tuple(min(n, 3) for n in shape) for shape in SHAPES[mode])
    fa = augmentor(in_shape, out_shape, queries(1, 2, 2), query_grid=(1, 2, 2))
    x = torch.randn(1, 3, *in_shape, dtype=torch.float64)

    def call(query):
        return torch.func.functional_call(fa, {"query": query}, (x,))

    assert torch.autograd.gradcheck(call, (fa.query,))


def coarse(grid=(1, 2, 2), **changes):
    torch.manual_seed(0)
    return build("cleftnet", query_grid=grid, **SMALL | changes)


def test_levels_smaller_than_the_grid_have_their_own_size():
    assert coarse((2, 100, 3)).bottom.query.shape == (8, 1, 4, 3)
    assert coarse((2, 100, 3)).ups[-1].part.query.shape == (6, 2, 16, 3)


def test_parameters_lose_all_queries_but_those_of_the_grid():
    full, tiny = cost(ZOO["cleftnet"]), cost(spec("cleftnet", query_grid=(1, 1, 1)))
    assert tiny.query_parameters == 32 + 64 + 96 + 128 + 160 + 160 + 128 + 96 + 64
    assert full.parameters - full.query_parameters == tiny.parameters - tiny.query_parameters


def test_a_coarse_cleftnet_costs_hardly_more_than_resunet_with_all_keys():
    found, resunet = cost(spec("cleftnet", query_grid=(1, 4, 4))), cost(ZOO["resunet"])
    assert found.flops < 1.05 * resunet.flops
    assert found.attention_flops < 0.01 * resunet.flops
    assert found.training_bytes < 1.2 * resunet.training_bytes


@pytest.mark.parametrize("max_keys", [None, 16])
def test_folding_gives_the_same_output(max_keys):
    net, x = coarse(max_keys=max_keys).eval(), torch.rand(2, 1, 4, 16, 16)
    net.bottom.query.data *= 100
    folded = fold(net)
    assert isinstance(folded.bottom, FoldedAugmentor)
    assert ((folded(x) - net(x)).norm() / net(x).norm()).item() < 1e-5


def test_channels_last_weights_give_the_same_output():
    net, x = coarse().eval(), torch.rand(1, 1, 4, 16, 16)
    before = net(x)
    torch.testing.assert_close(net.channels_last()(x), before)


def test_an_export_with_any_batch_size_comes_back_with_the_same_output():
    net, file = coarse().eval(), io.BytesIO()
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 4, 16, 16),), dynamic_shapes=sizes), file)
    file.seek(0)
    x = torch.rand(3, 1, 4, 16, 16)
    torch.testing.assert_close(torch.export.load(file).module()(x), net(x))


def test_a_saved_network_comes_back_with_the_same_output(tmp_path):
    net, x = coarse(zero_start=True), torch.rand(1, 1, 4, 16, 16)
    save_model(tmp_path / "net.safetensors", Model(net, ModelCard(spec=net.spec)))
    loaded = load_model(tmp_path / "net.safetensors")
    assert loaded.card.spec == net.spec
    torch.testing.assert_close(loaded.net(x), net.eval()(x))


def test_another_patch_size_keeps_every_query():
    net = coarse((1, 2, 2))
    resized = resize_network(net, (4, 32, 24)).state_dict()
    assert all(torch.equal(weight, resized[path]) for path, weight in net.state_dict().items())


def test_queries_of_a_full_network_become_the_means_of_the_cells_of_a_grid():
    torch.manual_seed(0)
    full = build("cleftnet", **SMALL)
    fitted = fit_queries(full, full.spec.changed(query_grid=(1, 2, 1)))
    query, last = full.ups[-1].part.query, fitted.ups[-1].part.query
    torch.testing.assert_close(last[:, 0, 1, 0], query[:, :, 8:, :].mean((1, 2, 3)))
    assert torch.equal(fitted.bottom.key.weight, full.bottom.key.weight)


def test_a_single_query_becomes_a_constant_full_one_with_the_same_output():
    net, x = coarse((1, 1, 1)).eval(), torch.rand(1, 1, 4, 16, 16)
    full = fit_queries(net, net.spec.changed(query_grid=None))
    assert full.bottom.query.shape == (8, 1, 4, 4)
    torch.testing.assert_close(full(x), net(x))


@pytest.mark.parametrize("changes", [{}, {"query_grid": (1, 1, 1)}], ids=["full", "coarse"])
def test_a_network_that_starts_at_zero_is_its_residuals(changes):
    torch.manual_seed(0)
    net, x = build("cleftnet", zero_start=True, **SMALL | changes).eval(), torch.rand(1, 1, 4, 16, 16)
    before = net(x)
    for part in [*(down.part for down in net.downs), net.bottom, *(up.part for up in net.ups)]:
        part.forward = lambda x, shape=part.out_shape: resize(x, shape)
    torch.testing.assert_close(net(x), before)


def test_starting_at_zero_changes_no_other_initial_weight():
    nets = []
    for zero_start in (False, True):
        torch.manual_seed(0)
        nets.append(build("cleftnet", zero_start=zero_start, **SMALL))
    for (path, weight), (_, started) in zip(*(net.named_parameters() for net in nets), strict=True):
        expected = torch.zeros_like(weight) if ".output." in path else weight
        assert torch.equal(started, expected), path


def test_an_augmentor_that_starts_at_zero_learns_from_the_second_step_on():
    net = coarse(zero_start=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.rand(2, 1, 4, 16, 16)).square().mean().backward()
        moved.append(bool(net.bottom.value.weight.grad.abs().max() > 0))
        optimizer.step()
    assert moved == [False, True]


@pytest.mark.parametrize("grid", [(0, 1, 1), (1, 1), "1"], ids=str)
def test_a_grid_without_three_positive_sides_is_refused_in_one_line(grid):
    with pytest.raises(InputError, match="query_grid") as refused:
        NetSpec(query_grid=grid)
    assert "\n" not in str(refused.value)
    if grid == (0, 1, 1):
        with pytest.raises(ValueError, match="query_grid is"):
            FeatureAugmentor(3, (2, 6, 6), (1, 3, 3), query_grid=grid)


def test_a_recipe_sets_grid_and_start_as_fields_of_its_network():
    net = {"name": "cleftnet", "query_grid": [1, 4, 4], "zero_start": True}
    data = {name: [{"raw": "a.hdf"}] for name in ("train", "validate")}
    recipe = Recipe(net=net, data=data, training={"steps": 1})
    assert recipe.net == spec("cleftnet", query_grid=(1, 4, 4), zero_start=True)


class Operations(TorchDispatchMode):
    """Collects the names of the operations called within it."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 4)], ids=str)
def test_a_coarse_augmentor_runs_the_kernel_that_forms_no_map(grid):
    fa, x = FeatureAugmentor(8, (2, 16, 16), (2, 16, 16), query_grid=grid), torch.randn(1, 8, 2, 16, 16)
    with Operations() as called:
        fa(x).sum().backward()
    assert "aten::_scaled_dot_product_flash_attention_for_cpu_backward" in called.names
    assert not [name for name in called.names if "softmax" in name]
