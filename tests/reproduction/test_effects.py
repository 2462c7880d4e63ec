from itertools import product

import numpy as np
import pandas as pd
import pytest

from dgex.reproduction.effects import effect_figure


@pytest.fixture
def table():
    nets = [
        {
            "method": "dgex",
            "hidden_layers": layers,
            "hidden_units": units,
            "dropout": dropout,
            "mae": 0.4 + dropout / layers - units / 1e5,
            "chosen": (layers, units, dropout) == (2, 9000, 0.1),
        }
        for layers, units, dropout in product((1, 2), (3000, 9000), (0.0, 0.1, 0.25))
    ]
    rows = [{"method": "ols", "mae": 0.5, "chosen": False}, *nets]
    return pd.DataFrame(rows).astype({"hidden_layers": "Int64", "hidden_units": "Int64"})


def lines(figure):
    return {line.get_gid(): line for line in figure.axes[0].lines}


def test_width_at_the_dropout_of_the_chosen_net(table):
    figure = effect_figure({"test": table}, "hidden_units")
    found = lines(figure)
    assert list(found) == ["1 hidden layer", "2 hidden layers", "LR"]
    assert figure.axes[0].get_title(loc="right") == "dropout 10 %"
    for n in (1, 2):
        line = found[f"{n} hidden layer{'s' if n > 1 else ''}"]
        np.testing.assert_array_equal(line.get_xdata(), [3000, 9000])
        np.testing.assert_allclose(line.get_ydata(), [0.37 + 0.1 / n, 0.31 + 0.1 / n])
    assert set(found["LR"].get_ydata()) == {0.5}


def test_dropout_at_the_units_of_the_chosen_net(table):
    figure = effect_figure({"test": table, "gtex": table}, "dropout")
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["9,000 units"] * 2
    line = lines(figure)["2 hidden layers"]
    np.testing.assert_allclose(line.get_xdata(), [0, 10, 25])
    np.testing.assert_allclose(line.get_ydata(), [0.31, 0.36, 0.435])


def test_failed_points_are_left_out(table):
    table.loc[table["hidden_units"] == 3000, "mae"] = np.nan
    line = lines(effect_figure({"test": table}, "hidden_units"))["1 hidden layer"]
    np.testing.assert_array_equal(line.get_xdata(), [9000])
