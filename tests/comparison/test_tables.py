"""Tables as a reader sees them."""

from cleftnet.comparison.differences import Difference
from cleftnet.comparison.recipe import Comparison
from cleftnet.comparison.tables import Spread, tabulate, text_tables

ROWS = {"a": {"label": "A"}, "b": {"label": "B"}, "c": {"label": "C"}}


def test_a_spread_is_the_mean_and_the_standard_deviation_of_a_sample():
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(mean=2.0, sd=1.0, seeds=3)


def test_one_seed_has_no_spread():
    assert Spread.of([0.5]).text(2) == "0.50"


def test_a_score_that_one_seed_lacks_has_no_mean():
    assert Spread.of([0.5, None]).text(2) == "-"


def minus(reference, row, value):
    return Difference(
        reference=reference,
        row=row,
        score="f1",
        value=value,
        low=value - 1,
        high=value + 1,
        verdict="noise",
        runs=(1, 1),
        synapses=11,
    )


def test_a_table_with_a_reference_of_its_own_shows_differences_from_that_alone():
    tables = [{"title": "One", "rows": ["a", "b"]}, {"title": "Two", "rows": ["b", "c"], "reference": "b"}]
    comparison = Comparison.model_validate({"base": {}, "rows": ROWS, "tables": tables})
    assert comparison.pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    found = [minus(*pair, value) for pair, value in zip(comparison.pairs, (1.0, 2.0, 3.0), strict=True)]
    one, two = list(text_tables(comparison, tabulate(comparison, []), found))[1::2]
    assert (one.title[:10], one.rows) == ("A − others", (("B", "+1.000 [+0.000, +2.000] noise"),))
    assert (two.title[:10], two.rows) == ("B − others", (("C", "+3.000 [+2.000, +4.000] noise"),))
