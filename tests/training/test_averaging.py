import pytest
import torch
from torch import nn

from cleftnet.training.averaging import averaged_model, measure_statistics


def weights_after(values, decay):
    """Return the average of a one-weight network that took these values, one after each step."""
    net = nn.Linear(1, 1, bias=False)
    average = averaged_model(net, decay)
    found = []
    for value in values:
        with torch.no_grad():
            net.weight.fill_(value)
        average.update_parameters(net)
        found.append(average.module.weight.item())
    return found


def test_the_average_weighs_each_step_by_the_decay_and_the_weights_sum_to_one():
    values = [1.0, 5.0, -3.0]
    by_hand = [1.0, (0.5 * 1 + 5) / 1.5, (0.25 * 1 + 0.5 * 5 - 3) / 1.75]
    assert weights_after(values, 0.5) == pytest.approx(by_hand)


def test_the_first_weights_do_not_linger_in_a_slow_average():
    """At a decay of 0.999, 100 steps at 0 and 100 at 1 average to about a half; the biased average stays below 0.1."""
    assert weights_after([0.0] * 100 + [1.0] * 100, 0.999)[-1] == pytest.approx(0.525, abs=0.01)


def test_without_averaging_the_average_is_the_last_weights():
    assert weights_after([1.0, 5.0, -3.0], 0) == [1.0, 5.0, -3.0]


def test_statistics_are_means_over_the_batches_and_nothing_else_changes():
    net = nn.Sequential(nn.BatchNorm3d(1)).eval()
    net[0].running_mean.fill_(1e6)
    batches = [torch.full((2, 1, 2, 3, 4), value) + torch.randn(2, 1, 2, 3, 4) / 100 for value in (1.0, 2.0, 6.0)]
    measure_statistics(net, batches)
    assert float(net[0].running_mean) == pytest.approx(3, abs=0.01)
    assert float(net[0].running_var) == pytest.approx(1e-4, rel=0.3)
    assert (net.training, net[0].momentum) == (False, 0.1)


@pytest.mark.parametrize("decay", [0, 0.9])
def test_the_average_takes_its_batch_norm_statistics_from_the_network(decay):
    """Without averaging they are the ones that are saved; with it they last until its own are measured."""
    net = nn.Sequential(nn.BatchNorm3d(1))
    average = averaged_model(net, decay)
    for value in (1.0, 5.0):
        net[0].running_mean.fill_(value)
        average.update_parameters(net)
    assert float(average.module[0].running_mean) == 5.0
