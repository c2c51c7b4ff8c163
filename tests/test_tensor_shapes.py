"""The shapes that signatures state are those that come and go: jaxtyping and beartype check every call, here only."""

import inspect

import beartype
import jaxtyping
import pytest
import torch

from cleftnet.nets import attention, folding, keys, skeleton
from cleftnet.nets.zoo import ZOO, build
from cleftnet.training import losses

MODULES = (attention, folding, keys, skeleton, losses)


@pytest.fixture(autouse=True)
def checked_shapes(monkeypatch):
    """Wrap every function and `forward` of the modules so that its annotated shapes are checked."""
    check = jaxtyping.jaxtyped(typechecker=beartype.beartype)
    for module in MODULES:
        for name in ("Float", "UInt8"):
            monkeypatch.setattr(module, name, getattr(jaxtyping, name), raising=False)
        for name, found in list(vars(module).items()):
            if getattr(found, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(found) and not name.startswith("_"):
                monkeypatch.setattr(module, name, check(found))
            if inspect.isclass(found) and "forward" in vars(found):
                monkeypatch.setattr(found, "forward", check(found.forward))


@pytest.mark.parametrize("name", ZOO)
def test_every_network_keeps_the_shapes_it_states(name):
    net = build(name, widths=(2, 3, 4), patch=(4, 8, 6), max_keys=20)
    logits = net(torch.rand(2, 1, 4, 8, 6))
    classes, distance = torch.randint(0, 3, (2, 4, 8, 6), dtype=torch.uint8), torch.rand(2, 4, 8, 6)
    losses.cleft_loss(logits, classes, distance, losses.LossSettings()).total.backward()
    folding.fold(net)(torch.rand(2, 1, 4, 8, 6))


def test_a_key_without_its_channel_axis_is_noticed():
    with pytest.raises(jaxtyping.TypeCheckError):
        attention.attend(torch.zeros(1, 4, 3), torch.zeros(8, 3), torch.zeros(1, 8, 3))


def test_values_of_another_size_than_the_keys_are_noticed():
    with pytest.raises(jaxtyping.TypeCheckError):
        attention.attend(torch.zeros(1, 4, 3), torch.zeros(1, 8, 3), torch.zeros(1, 7, 3))


def test_classes_of_another_type_than_uint8_are_noticed():
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.segmentation_loss(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
