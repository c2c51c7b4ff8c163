"""The contract that every row of the zoo keeps."""

import io

import pytest
import torch

from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, load_model, save_model
from cleftnet.nets.costs import cost
from cleftnet.nets.skeleton import HEADS
from cleftnet.nets.zoo import ZOO, build, spec
from cleftnet.training.losses import LossSettings, cleft_loss

SMALL = {"widths": (4, 6, 8), "patch": (4, 16, 16)}

# At the paper's sizes, widths 32 64 96 128 160 and patch 8×256×256: (all parameters, of them queries). docs/method.md
# derives every number by hand.
PARAMETERS = {
    "segnet": (4_330_817, 0),
    "unet3d": (5_735_873, 0),
    "vnet": (8_268_097, 0),
    "resunet": (8_087_553, 0),
    "attnunet": (8_123_717, 0),
    "cleftnet-no-la": (51_936_545, 43_851_776),
    "cleftnet-no-fa": (8_087_586, 0),
    "cleftnet-selfattn": (8_631_522, 0),
    "cleftnet": (51_936_578, 43_851_776),
}

every_network = pytest.mark.parametrize("name", ZOO)


def seeded(name, **changes):
    torch.manual_seed(0)
    return build(name, **SMALL | changes)


def fixed_batch(patch=SMALL["patch"]):
    """Two noisy patches with one bright plate each, its classes and a distance map of one voxel's depth."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.zeros(2, *patch, dtype=torch.uint8)
    classes[:, 1:3, 5:8, 4:12] = 1
    raw = 0.3 * torch.rand(2, 1, *patch, generator=generator) + 0.5 * classes[:, None]
    return raw, classes, classes * 0.76


def loss_of(net, batch):
    raw, classes, distance = batch
    return cleft_loss(net(raw), classes, distance, LossSettings()).total


def test_the_nine_networks_of_the_paper_are_the_nine_rows():
    assert list(PARAMETERS) == list(ZOO)


@every_network
def test_a_patch_becomes_one_logit_a_head_and_voxel(name):
    heads = len(ZOO[name].heads)
    assert seeded(name)(torch.rand(2, 1, 4, 16, 16)).shape == (2, heads, 4, 16, 16)


@every_network
def test_parameters_at_the_papers_sizes(name):
    counted = cost(ZOO[name])
    assert (counted.parameters, counted.query_parameters) == PARAMETERS[name]


@every_network
def test_the_gradient_reaches_every_parameter_but_the_key_bias_which_cancels_in_the_softmax(name):
    net = seeded(name)
    loss_of(net, fixed_batch()).backward()
    for path, parameter in net.named_parameters():
        largest = parameter.grad.abs().max().item()
        if path.endswith("key.bias"):
            assert largest < 1e-6, path
        else:
            assert largest > 1e-9, path


@every_network
def test_the_same_seed_gives_the_same_weights_loss_and_gradients(name):
    first, second = seeded(name), seeded(name)
    losses = [loss_of(net, fixed_batch()) for net in (first, second)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)


@every_network
@pytest.mark.parametrize("patch", [(9, 50, 34), (1, 33, 20)], ids=str)
def test_patches_with_odd_sides_and_with_a_single_section_come_back_in_their_size(name, patch):
    net = seeded(name, widths=(2, 3, 4, 5, 6), patch=patch).eval()
    assert net(torch.rand(1, 1, *patch)).shape[-3:] == patch


@every_network
def test_reduced_keys_leave_parameters_and_shape_alone(name):
    exact, reduced = seeded(name), seeded(name, max_keys=20)
    reduced.load_state_dict(exact.state_dict())
    assert reduced(torch.rand(1, 1, 4, 16, 16)).shape == exact(torch.rand(1, 1, 4, 16, 16)).shape


@every_network
def test_channels_last_weights_give_the_same_output(name):
    net, x = seeded(name).eval(), torch.rand(1, 1, 4, 16, 16)
    before = net(x)
    torch.testing.assert_close(net.channels_last()(x), before)


@every_network
def test_an_export_with_any_batch_size_comes_back_from_disk_with_the_same_output(name):
    net = seeded(name).eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(net, (torch.rand(2, 1, 4, 16, 16),), dynamic_shapes=(batch,))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    x = torch.rand(3, 1, 4, 16, 16)
    torch.testing.assert_close(torch.export.load(file).module()(x), net(x))


@every_network
def test_a_saved_network_comes_back_with_the_same_output(name, tmp_path):
    net, x = seeded(name), torch.rand(1, 1, 4, 16, 16)
    net(fixed_batch()[0])  # so that the statistics of the batch norms are not those it starts with
    save_model(tmp_path / "net.safetensors", Model(net, ModelCard(spec=net.spec)))
    loaded = load_model(tmp_path / "net.safetensors")
    assert loaded.card.spec == net.spec
    torch.testing.assert_close(loaded.net(x), net.eval()(x))


@every_network
def test_the_loss_falls_on_a_fixed_batch(name):
    net, batch = seeded(name), fixed_batch()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = loss_of(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_cleftnet_without_augmentors_is_resunet_weight_for_weight():
    torch.manual_seed(0)
    cleftnet, resunet = build("cleftnet", **SMALL), build("resunet", **SMALL)
    ours, theirs = cleftnet.state_dict(), resunet.state_dict()
    ours["head.weight"], ours["head.bias"] = ours["head.weight"][:1], ours["head.bias"][:1]  # minus LA
    augmentors = ("downs.", "bottom.", "ups.")
    ours = {path: w for path, w in ours.items() if not path.startswith(augmentors)}  # minus FA
    ups = {path: w for path, w in theirs.items() if path.startswith("ups.")}
    assert {k: v.shape for k, v in (ours | ups).items()} == {k: v.shape for k, v in theirs.items()}

    resunet.load_state_dict(ours | ups)
    cleftnet.downs, cleftnet.bottom, cleftnet.ups = resunet.downs, resunet.bottom, resunet.ups
    x = torch.rand(2, 1, 4, 16, 16)
    assert torch.equal(cleftnet(x)[:, :1], resunet(x))


def test_cleftnets_row_without_augmentors_is_resunets_row():
    cut = ZOO["cleftnet"].model_copy(update={"down": "max-pool", "bottom": "none", "up": "transposed-conv"})
    assert cut == ZOO["cleftnet-no-fa"]
    assert cut.model_copy(update={"heads": HEADS[:1]}) == ZOO["resunet"]


def test_all_rows_share_widths_and_patch():
    assert {(row.widths, row.patch, row.max_keys) for row in ZOO.values()} == {
        ((32, 64, 96, 128, 160), (8, 256, 256), None)
    }


def test_an_unknown_network_names_the_closest_one():
    with pytest.raises(InputError, match=r"unknown network 'clefnet'; did you mean 'cleftnet'\?"):
        build("clefnet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": (0, 8, 8)}, r"patch\.0: .*greater than 0 \(given: 0\)"),
        ({"widths": (8,)}, "widths: .*at least 2"),
        ({"max_keys": 0}, "max_keys: .*greater than 0"),
        ({"max_key": 4}, "unknown key 'max_key'; did you mean 'max_keys'"),
    ],
    ids=["patch", "widths", "max_keys", "unknown"],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        spec("cleftnet", **changes)
