import re

import pytest
import torch

from cleftnet.errors import InputError
from cleftnet.nets.resizing import resize_network
from cleftnet.nets.skeleton import NetSpec, Network
from cleftnet.nets.zoo import ZOO, build

SMALL = {"widths": (4, 6, 8), "patch": (4, 16, 16)}


def seeded(name, **changes):
    torch.manual_seed(0)
    return build(name, **SMALL | changes).eval()


@pytest.mark.parametrize("name", ZOO)
def test_the_same_patch_gives_the_same_output(name):
    net, x = seeded(name), torch.rand(1, 1, 4, 16, 16)
    torch.testing.assert_close(resize_network(net, (4, 16, 16))(x), net(x))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("patch", [(6, 24, 20), (5, 17, 31)], ids=str)
def test_every_network_takes_another_patch(name, patch):
    assert resize_network(seeded(name), patch)(torch.rand(1, 1, *patch)).shape[-3:] == patch


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"cleftnet", "cleftnet-no-la"}))
def test_only_queries_change(name):
    net = seeded(name)
    before, after = net.state_dict(), resize_network(net, (6, 24, 20)).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[path], after[path]) for path in before if not path.endswith("query"))


def test_a_query_is_interpolated_between_the_centers_of_its_voxels():
    net = Network(NetSpec(bottom="fa", widths=(1, 1), patch=(1, 2, 4)))
    net.bottom.query.data = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    assert resize_network(net, (1, 2, 8)).bottom.query.flatten().tolist() == [0, 1, 3, 4]


def test_a_query_comes_back_from_twice_the_size_by_averaging_where_it_is_linear():
    net = Network(NetSpec(bottom="fa", widths=(1, 1), patch=(1, 2, 8)))
    net.bottom.query.data = torch.arange(4.0).view(1, 1, 1, 4)
    double = resize_network(net, (1, 2, 16)).bottom.query.flatten()
    assert double.view(4, 2).mean(1).tolist() == pytest.approx([0.125, 1, 2, 2.875])  # edges repeat the last center


def test_the_score_of_a_channel_gate_stays_that_of_a_larger_uniform_input():
    torch.manual_seed(0)
    net = Network(NetSpec(skip="cwa-concat", widths=(1, 1), patch=(1, 4, 4)))
    gate, larger = net.skips[0].attention.query, resize_network(net, (1, 4, 8)).skips[0].attention.query
    assert larger.sum().item() == pytest.approx(gate.sum().item(), rel=1e-5)


def test_the_spatial_gate_knows_no_patch_size():
    net = Network(NetSpec(skip="swa-concat", widths=(2, 2), patch=(1, 4, 4)))
    assert torch.equal(resize_network(net, (1, 4, 8)).skips[0].attention.query, net.skips[0].attention.query)


@pytest.mark.parametrize("name", ["vnet", "resunet", "cleftnet-selfattn"])
@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ((2, 16, 16), "z = 2 is halved 1 times where training halved 2 times (4 or more fits)"),
        ((4, 16, 3), "x = 3 is halved 1 times where training halved 2 times (4 or more fits)"),
    ],
    ids=["z", "x"],
)
def test_learned_kernels_refuse_a_side_that_is_halved_less_often_and_say_what_fits(name, patch, message):
    with pytest.raises(InputError, match=re.escape(message)):
        resize_network(seeded(name), patch)


def test_learned_kernels_refuse_a_side_that_is_halved_more_often_and_say_what_fits():
    message = "z = 4 is halved 2 times where training halved 1 times (2 to 3 fits)"
    with pytest.raises(InputError, match=re.escape(message)):
        resize_network(seeded("resunet", patch=(2, 16, 16)), (4, 16, 16))


def test_augmentors_have_no_learned_kernel_and_take_any_side():
    assert resize_network(seeded("cleftnet"), (1, 16, 16))(torch.rand(1, 1, 1, 16, 16)).shape == (1, 2, 1, 16, 16)


def test_mode_and_type_are_kept():
    net = seeded("cleftnet").train().double()
    resized = resize_network(net, (6, 24, 20))
    assert resized.training
    assert {p.dtype for p in resized.parameters()} == {torch.float64}


def test_a_patch_without_voxels_is_refused():
    with pytest.raises(InputError, match=r"patch\.0: .*greater than 0 \(given: 0\)"):
        resize_network(seeded("cleftnet"), (0, 16, 16))
