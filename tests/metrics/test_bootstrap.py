"""Draws with replacement, and the interval that they give."""

import numpy as np
import pytest
from scipy.stats import norm

from cleftnet.errors import InputError
from cleftnet.metrics.bootstrap import Interval, draw, interval


def test_every_draw_takes_from_each_group_as_many_as_it_has():
    taken = draw([4, 1, 7], draws=100)
    assert taken.shape == (100, 12)
    for columns, size in ((slice(0, 4), 4), (slice(4, 5), 1), (slice(5, 12), 7)):
        assert (taken[:, columns].sum(1) == size).all()


def test_every_item_is_taken_once_on_average_and_as_often_as_a_die_would():
    taken = draw([10], draws=20_000)
    assert taken.mean(0) == pytest.approx(np.ones(10), abs=0.03)
    assert np.mean(taken == 0) == pytest.approx(0.9**10, abs=0.01)  # 0.35 of the items are left out


def test_the_same_seed_draws_the_same():
    assert np.array_equal(draw([5], 50, seed=3), draw([5], 50, seed=3))
    assert not np.array_equal(draw([5], 50, seed=3), draw([5], 50, seed=4))


def test_the_interval_of_a_mean_of_normals_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = interval(draw([400]) @ values / 400)
    expected = norm.interval(0.95, values.mean(), values.std() / 20)
    assert found == pytest.approx(expected, abs=0.02)


def test_the_interval_holds_the_true_mean_in_about_95_of_100_samples():
    rng, taken = np.random.default_rng(1), draw([60], 1000)
    hits = [interval(taken @ rng.normal(0, 1, 60) / 60).holds(0) for _ in range(400)]
    assert 0.91 < np.mean(hits) < 0.97


def test_the_middle_95_of_100_are_what_is_left_without_two_and_a_half_at_each_end():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


def test_an_interval_holds_its_ends():
    assert Interval(0, 1).holds(0)
    assert not Interval(1e-9, 1).holds(0)


def test_a_few_undefined_draws_are_left_out_and_many_leave_no_interval():
    values = np.arange(1000.0)
    values[:40] = np.nan
    assert interval(values) is not None
    values[:60] = np.nan
    assert interval(values) is None


@pytest.mark.parametrize(("sizes", "draws"), [([], 10), ([3, 0], 10), ([3], 0)])
def test_nothing_to_draw_from_is_refused(sizes, draws):
    with pytest.raises(InputError, match="expected at least one of each"):
        draw(sizes, draws)
