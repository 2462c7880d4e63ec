import pytest

from dgex.reproduction.grid import Point
from dgex.reproduction.paper import MICROARRAYS, RNASEQ, paper_number, paper_numbers


def mae(table, *point):
    return paper_number(table, Point(*point), "mae")[0]


@pytest.mark.parametrize(
    ("table", "net", "quantity"),
    [
        (MICROARRAYS, ("dgex", 3, 9000, 0.1), "improvement_over_ols_percent"),
        (RNASEQ, ("dgex", 2, 9000, 0.25), "improvement_over_ols_percent"),
    ],
)
def test_the_percentages_follow_from_the_errors(table, net, quantity):
    percent = 100 * (mae(table, "ols") - mae(table, *net)) / mae(table, "ols")
    assert paper_number(table, Point(*net), quantity)[0] == pytest.approx(percent, abs=0.01)


def test_wider_and_deeper_nets_are_better_on_microarrays():
    grid = [[mae(MICROARRAYS, "dgex", n, w, 0.1) for w in (3000, 6000, 9000)] for n in (1, 2, 3)]
    for row in [*grid, *zip(*grid, strict=True)]:
        assert list(row) == sorted(row, reverse=True)


def test_every_number_says_where_it_is_from():
    numbers = paper_numbers()
    assert numbers["source"].notna().all()
    assert not numbers.duplicated(
        ["table", "method", "hidden_layers", "hidden_units", "dropout", "quantity"]
    ).any()
    nets = numbers[(numbers["method"] == "dgex") & (numbers["quantity"] == "mae")]
    unconfirmed = nets["source"].str.contains("not confirmed")
    assert (unconfirmed == (nets["table"] == RNASEQ)).all()
    percentages = numbers[numbers["quantity"].str.endswith("percent")]
    assert sorted(percentages["value"]) == [6.57, 15.33, 81.31, 99.97]
    assert set(percentages["source"]) == {"Chen et al. 2016, confirmed"}


def test_what_the_paper_does_not_have():
    assert paper_number(MICROARRAYS, Point("mean"), "mae") is None
    assert paper_number(MICROARRAYS, Point("dgex", 1, 300, 0.1), "mae") is None
    assert paper_number(RNASEQ, Point("ridge"), "mae") is None
