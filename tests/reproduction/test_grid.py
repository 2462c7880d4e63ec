import pytest

from dgex.config import ReproduceConfig
from dgex.errors import UsageError
from dgex.models.nets import DGEXNet
from dgex.reproduction.grid import Point, chosen_points, epochs_of, points_of


def test_the_grid_of_the_paper():
    points = points_of(ReproduceConfig())
    names = [point.name for point in points]
    assert names[:5] == ["mean", "ols", "lasso", "ridge", "gene-knn"]
    nets = {
        f"dgex-{layers}x{units}-dropout{percent}"
        for layers in (1, 2, 3)
        for units in (3000, 6000, 9000)
        for percent in (0, 10, 25, 50)
    }
    assert set(names[5:]) == nets
    assert len(names) == 5 + 36
    assert epochs_of(ReproduceConfig()) == 200


def test_smaller_nets_come_first():
    sizes = [point.n_weights(943, 9520) for point in points_of(ReproduceConfig())[5:]]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_counts_the_weights_of_the_net(layers):
    net = DGEXNet(7, 11, hidden_layers=layers, hidden_units=5, dropout=0.1)
    counted = sum(layer.weight.numel() for layer in net.linear_layers())
    assert Point("dgex", layers, 5, 0.1).n_weights(7, 11) == counted


def test_a_point_says_how_it_is_trained():
    config = ReproduceConfig(epochs=7, seed=3, device="cpu", precision="float32")
    net = Point("dgex", 2, 50, 0.25).train_config(config, "1000g")
    assert (net.model, net.hidden_layers, net.hidden_units, net.dropout) == ("dgex", 2, 50, 0.25)
    assert (net.epochs, net.seed, net.select_on, net.device) == (7, 3, "1000g", "cpu")
    assert net.precision == "float32"
    ridge = Point("ridge").train_config(config, "1000g")
    assert (ridge.model, ridge.select_on, ridge.seed) == ("ridge", None, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layers": (1, 4)}, "--hidden-layers is 4; it must be 1, 2 or 3"),
        ({"hidden_units": (0,)}, "--hidden-units is 0; it must be at least 1"),
        ({"dropout": (1.0,)}, "--dropout is 1.0; it must be at least 0 and below 1"),
        ({"dropout": (float("nan"),)}, "--dropout is nan; it must be at least 0 and below 1"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"hidden_units": (8, 10**12)}, "--hidden-units is 1000000000000; it must be"),
        ({"dropout": (0.1, 0.1 + 1e-12)}, "too close to be told apart"),
        ({"dropout": (0.1, 0.1)}, "--dropout 0.1, 0.1: give each value once"),
        ({"hidden_units": ()}, "--hidden-units none: give each value once"),
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
    ],
)
def test_refuses_grids_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        points_of(ReproduceConfig(**options))


def test_chooses_points_by_name():
    points = points_of(ReproduceConfig(grid="small"))
    chosen = chosen_points(points, ["dgex-1x300-dropout0", "ols"])
    assert [point.name for point in chosen] == ["dgex-1x300-dropout0", "ols"]
    assert chosen_points(points, []) == points
    with pytest.raises(UsageError, match="--only net: not in this grid, which has mean, ols"):
        chosen_points(points, ["net"])
