"""Tables as a reader sees them."""

from cleftnet.comparison.tables import Spread


def test_a_spread_is_the_mean_and_the_standard_deviation_of_a_sample():
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(mean=2.0, sd=1.0, seeds=3)


def test_one_seed_has_no_spread():
    assert Spread.of([0.5]).text(2) == "0.50"


def test_a_score_that_one_seed_lacks_has_no_mean():
    assert Spread.of([0.5, None]).text(2) == "-"
