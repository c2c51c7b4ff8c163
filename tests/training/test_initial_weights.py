import pytest
import torch
import yaml

import cleftnet
from cleftnet.errors import InputError
from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.zoo import build
from cleftnet.training.initial_weights import start_from
from cleftnet.volumes import NormalizationSettings

TINY = {"widths": (4, 8), "patch": (4, 16, 16)}


@pytest.fixture
def saved(tmp_path):
    """Save an untrained network of the zoo; return it and its file."""

    def _save(name="cleftnet", **changes):
        torch.manual_seed(7)
        net = build(name, **(TINY | changes))
        save_model(tmp_path / f"{name}.safetensors", Model(net, ModelCard(spec=net.spec)))
        return net, tmp_path / f"{name}.safetensors"

    return _save


def test_the_same_network_takes_on_every_weight(saved):
    source, path = saved()
    net = build("cleftnet", **TINY)
    found = start_from(net, path)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), source.state_dict().values(), strict=True))
    assert (found.fresh, found.changed, found.unused, found.resized) == ([], [], [], [])


def test_another_patch_size_interpolates_the_queries_alone(saved):
    _, path = saved()
    net = build("cleftnet", **(TINY | {"patch": (4, 24, 24)}))
    found = start_from(net, path)
    assert len(found.loaded) == len(net.state_dict())
    assert found.resized == [name for name in net.state_dict() if name.endswith("query")]


def test_a_coarse_grid_starts_from_the_means_of_a_full_query(saved):
    source, path = saved()
    net = build("cleftnet", query_grid=(1, 1, 1), **TINY)
    found = start_from(net, path)
    assert len(found.loaded) == len(net.state_dict())
    assert found.resized == [name for name in net.state_dict() if name.endswith("query")]
    torch.testing.assert_close(net.bottom.query.flatten(), source.bottom.query.mean((1, 2, 3)))


def test_another_number_of_heads_leaves_the_head_alone_random(saved):
    _, path = saved("resunet")
    net = build("cleftnet-no-fa", **TINY)
    head = net.head.weight.clone()
    found = start_from(net, path)
    assert found.changed == ["head.weight (2, 4, 1, 1, 1) from (1, 4, 1, 1, 1)", "head.bias (2,) from (1,)"]
    assert torch.equal(net.head.weight, head)


def test_what_only_one_of_both_has_is_told(saved):
    """ResUnet comes up by transposed convolutions, CleftNet by feature augmentors."""
    _, path = saved("resunet")
    found = start_from(build("cleftnet", **TINY), path)
    assert all(name.startswith(("downs.", "bottom.", "ups.")) for name in found.fresh)
    assert all(name.startswith("ups.") for name in found.unused)
    said = "\n".join(found.lines())
    assert f"starting from {path}: {len(found.loaded)} of" in said
    assert "not in the model, so random: downs.0" in said
    assert "in the model but not in this network, so unused: ups.0" in said


def test_a_model_of_other_widths_is_refused(saved):
    _, path = saved(widths=(3, 5))
    with pytest.raises(InputError, match=r"no kernel of .* fits this network"):
        start_from(build("cleftnet", **TINY), path)


def test_a_recipe_with_init_learns_from_there(cremi_file, tmp_path, messages):
    """With a learning rate of next to nothing the trained weights are still those of the model."""
    torch.manual_seed(7)
    net = build("cleftnet", widths=(4, 8), patch=(8, 32, 32), max_keys=64)
    card = ModelCard(spec=net.spec, normalize=NormalizationSettings(levels=(32, 204)))
    save_model(tmp_path / "m.safetensors", Model(net, card))
    content = {
        "net": {"name": "cleftnet", "patch": [8, 32, 32], "widths": [4, 8], "max_keys": 64},
        "init": str(tmp_path / "m.safetensors"),
        "data": {name: [{"raw": str(cremi_file)}] for name in ("train", "validate")},
        "training": {"steps": 1, "batch": 1, "learning_rate": 1e-9, "validation_overlap": 0},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    run = cleftnet.train(tmp_path / "r.yaml", tmp_path / "run")
    assert torch.allclose(cleftnet.load_model(run.best).net.head.weight, net.head.weight, atol=1e-6)
    assert "starting from" in messages.text
    assert "knows gray values as data.normalize: {" in messages.text
    assert "'levels': [32.0, 204.0]" in messages.text

    messages.clear()
    content["data"]["normalize"] = {"levels": [32, 204]}
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(content))
    cleftnet.train(tmp_path / "same.yaml", tmp_path / "same")
    assert "starting from" in messages.text
    assert "knows gray values" not in messages.text
