"""Weights and hubs, against plain loops and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_arrays
from scipy.stats import kurtosis

from dgex.errors import DataError, UsageError
from dgex.models.interpret import (
    chance_counts,
    strong_connections,
    units_with_half,
    weight_layers,
    weight_summary,
)


def net_arrays(layers, *, landmarks=7, units=5, targets=11, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    widths = [landmarks] + [units] * layers
    arrays = {"output.weight": rng.normal(0, 0.4, (targets, units)).astype(dtype)}
    arrays["output.bias"] = rng.normal(size=targets).astype(dtype)
    for layer in range(layers):
        shape = widths[layer + 1], widths[layer]
        arrays[f"hidden.{layer}.weight"] = rng.standard_t(3, shape).astype(dtype)
        arrays[f"hidden.{layer}.bias"] = rng.normal(size=units).astype(dtype)
    return arrays


def genes(prefix, n):
    symbols = [f"{prefix.upper()}{i}" for i in range(n)]
    symbols[0] = ""
    return pd.DataFrame({"symbol": symbols}, index=[f"{prefix}{i}" for i in range(n)])


LANDMARKS, TARGETS = genes("l", 7), genes("t", 11)


def test_layers_come_from_the_landmarks_upwards():
    arrays = net_arrays(3)
    layers = weight_layers(arrays)
    assert list(layers) == ["hidden 1", "hidden 2", "hidden 3", "output"]
    assert layers["hidden 2"] is arrays["hidden.1.weight"]


@pytest.mark.parametrize("missing", ["hidden.0.weight", "output.weight"])
def test_other_arrays_are_refused(missing):
    arrays = net_arrays(1)
    del arrays[missing]
    with pytest.raises(DataError, match="not the weights of a D-GEX net"):
        weight_summary(arrays)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    arrays = net_arrays(2)
    arrays["hidden.1.weight"][3, 1] = bad
    with pytest.raises(DataError, match="hidden 2 are not finite"):
        weight_summary(arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_summary_is_numpys_and_scipys(dtype):
    arrays = net_arrays(2, landmarks=70, units=50, targets=60, dtype=dtype)
    arrays["hidden.1.weight"][:10] = 0.005
    layers, histogram = weight_summary(arrays, bins=31)
    by_layer = layers.set_index("layer")
    for layer, name in (
        ("hidden 1", "hidden.0.weight"),
        ("hidden 2", "hidden.1.weight"),
        ("output", "output.weight"),
    ):
        weights, row = arrays[name].astype(np.float64), by_layer.loc[layer]
        assert (row["units_out"], row["units_in"], row["n"]) == (*weights.shape, weights.size)
        assert row["mean"] == pytest.approx(weights.mean(), abs=1e-9)
        assert row["sd"] == pytest.approx(weights.std())
        assert row["excess_kurtosis"] == pytest.approx(kurtosis(weights, axis=None))
        assert (row["min"], row["max"]) == (weights.min(), weights.max())
        for percent in (0.1, 1, 5, 25, 50, 75, 95, 99, 99.9):
            expected = np.percentile(weights, percent)
            assert row[f"q{percent:g}"] == pytest.approx(expected, rel=1e-5)
        near = sum(abs(w) <= 0.01 for w in weights.flat)
        assert row["percent_near_zero"] == pytest.approx(100 * near / weights.size)
        bins = histogram[histogram["layer"] == layer]
        assert bins["n"].sum() == weights.size
        assert bins["low"].iloc[0] == -np.abs(weights).max() == -bins["high"].iloc[-1]
        for low, high, n in bins[["low", "high", "n"]].to_numpy()[:-1]:
            assert np.sum((weights >= low) & (weights < high)) == n
        if layer == "output":
            assert math.isnan(row["start"])
            assert math.isnan(row["percent_beyond_start"])
        else:
            assert row["start"] == pytest.approx(math.sqrt(6 / sum(weights.shape)))
            beyond = np.mean(np.abs(weights) > row["start"])
            assert row["percent_beyond_start"] == pytest.approx(100 * beyond)
    assert by_layer.loc["hidden 2", "percent_near_zero"] > 19


def test_a_large_layer_is_summed_in_blocks_to_the_same_moments(monkeypatch):
    arrays = net_arrays(1, landmarks=40, units=30)
    whole, _ = weight_summary(arrays)
    monkeypatch.setattr("dgex.models.interpret._BLOCK_WEIGHTS", 100)
    blocks, _ = weight_summary(arrays)
    pd.testing.assert_frame_equal(whole, blocks)


def test_a_new_net_has_the_shape_its_weights_are_drawn_from():
    import torch

    from dgex.models.nets import DGEXNet

    torch.manual_seed(0)
    net = DGEXNet(200, 100, hidden_layers=2, hidden_units=150, dropout=0.0)
    arrays = {name: array.detach().numpy() for name, array in net.named_parameters()}
    layers = weight_summary(arrays)[0].set_index("layer")
    assert (layers.loc[["hidden 1", "hidden 2"], "percent_beyond_start"] == 0).all()
    assert (layers["excess_kurtosis"] + 1.2).abs().max() < 0.05
    assert layers.loc["hidden 1", "max"] == pytest.approx(layers.loc["hidden 1", "start"], rel=0.01)


def test_weights_that_are_all_equal_have_no_kurtosis():
    arrays = {"hidden.0.weight": np.zeros((2, 3)), "output.weight": np.full((3, 2), 0.5)}
    layers, histogram = weight_summary(arrays, bins=3)
    assert layers["excess_kurtosis"].isna().all()
    assert layers["sd"].tolist() == [0, 0]
    assert histogram["n"].tolist() == [0, 6, 0, 0, 0, 6]


def connections_by_loop(weight_oi, n_strong):
    """(row, column, weight) of the strongest weights, by sorting them all."""
    ranked = sorted(
        ((abs(w), i, j, w) for (i, j), w in np.ndenumerate(weight_oi)), key=lambda one: -one[0]
    )
    return {(i, j, w) for _, i, j, w in ranked[:n_strong]}


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_strong_are_the_largest_weights_of_the_first_and_last_layer(layers, share):
    arrays = net_arrays(layers)
    strong = strong_connections(arrays, LANDMARKS, TARGETS, share)
    first = strong.connections[strong.connections["layer"] == "hidden 1"]
    last = strong.connections[strong.connections["layer"] == "output"]
    assert len(first) + len(last) == len(strong.connections)
    n_first, n_last = math.ceil(share * 35), math.ceil(share * 55)
    found = {
        (unit, LANDMARKS.index.get_loc(gene), w)
        for unit, gene, w in first[["unit", "gene", "weight"]].to_numpy()
    }
    assert found == connections_by_loop(arrays["hidden.0.weight"], n_first)
    found = {
        (TARGETS.index.get_loc(gene), unit, w)
        for unit, gene, w in last[["unit", "gene", "weight"]].to_numpy()
    }
    assert found == connections_by_loop(arrays["output.weight"], n_last)
    for table, tables_genes in ((first, LANDMARKS), (last, TARGETS)):
        assert table["weight"].abs().is_monotonic_decreasing
        assert table["symbol"].tolist() == tables_genes.loc[table["gene"], "symbol"].tolist()
    summary = strong.layers.set_index("layer")
    assert summary["n_strong"].tolist() == [n_first, n_last]
    assert summary.loc["output", "threshold"] == last["weight"].abs().min()
    sd = arrays["hidden.0.weight"].std()
    expected = first["weight"].abs().min() / sd
    assert summary.loc["hidden 1", "threshold_in_sd"] == pytest.approx(expected)


def test_hubs_of_one_hidden_layer_count_both_sides():
    strong = strong_connections(net_arrays(1), LANDMARKS, TARGETS, 0.3)
    hubs, connections = strong.hubs, strong.connections
    assert set(hubs["hidden_layer"]) == {1}
    assert sorted(hubs["unit"]) == list(range(5))
    assert hubs["rank"].tolist() == [1, 2, 3, 4, 5]
    assert hubs["share_percent"].sum() == pytest.approx(100)
    assert hubs["share_percent"].is_monotonic_decreasing
    for row in hubs.to_dict("records"):
        own = connections[connections["unit"] == row["unit"]]
        sides = [own[own["layer"] == layer] for layer in ("hidden 1", "output")]
        assert [row["n_landmarks"], row["n_targets"]] == [len(side) for side in sides]
        share = 50 * len(sides[0]) / 11 + 50 * len(sides[1]) / 17
        assert row["share_percent"] == pytest.approx(share)
        for side, column in zip(sides, ("strongest_landmarks", "strongest_targets"), strict=True):
            order = side.iloc[np.argsort(-side["weight"].abs(), kind="stable")][:5]
            names = [symbol or gene for symbol, gene in order[["symbol", "gene"]].to_numpy()]
            assert row[column] == ", ".join(names)


@pytest.mark.parametrize("layers", [2, 3])
def test_hubs_of_deeper_nets_are_those_of_two_layers(layers):
    strong = strong_connections(net_arrays(layers), LANDMARKS, TARGETS, 0.3)
    first, last = (
        strong.hubs[strong.hubs["hidden_layer"] == layer].set_index("unit") for layer in (1, layers)
    )
    assert len(first) + len(last) == len(strong.hubs) == 10
    assert first["n_targets"].isna().all()
    assert last["n_landmarks"].isna().all()
    assert first["n_landmarks"].sum() == 11
    assert last["n_targets"].sum() == 17
    assert strong.layers["hidden_layer"].tolist() == [1, layers]


def test_a_planted_hub_is_found_and_chance_would_not_make_it():
    rng = np.random.default_rng(1)
    arrays = {
        "hidden.0.weight": rng.normal(0, 0.01, (50, 200)),
        "output.weight": rng.normal(0, 0.01, (300, 50)),
    }
    arrays["hidden.0.weight"][17, :60] = 1.0
    arrays["output.weight"][:60, 17] = -1.0
    strong = strong_connections(arrays, genes("l", 200), genes("t", 300), 0.005)
    hub = strong.hubs.iloc[0]
    # All 60 are equal, so all are strong, though 0.5 % are 50 of the one and 75 of the other.
    assert (hub["unit"], hub["n_landmarks"]) == (17, 60)
    assert hub["n_targets"] >= 60
    assert strong.layers["n_units_with_half"].tolist() == [1, 1]
    assert (strong.layers["n_units_with_half_by_chance"] > 8).all()


def test_weights_of_zero_are_never_strong():
    arrays = {"hidden.0.weight": np.zeros((2, 7)), "output.weight": np.eye(11, 2)}
    strong = strong_connections(arrays, LANDMARKS, TARGETS, 0.5)
    assert strong.layers["n_strong"].tolist() == [0, 2]
    assert strong.layers["layer"].tolist() == ["hidden 1", "output"]
    assert strong.layers["n_units_with_half"].tolist() == [0, 1]
    assert strong.hubs["n_landmarks"].tolist() == [0, 0]
    assert strong.hubs["strongest_landmarks"].tolist() == ["", ""]
    assert strong.hubs["strongest_targets"].tolist() == ["t0", "T1"]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, math.nan])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(UsageError, match="share of strong connections"):
        strong_connections(net_arrays(1), LANDMARKS, TARGETS, share)


def test_tables_of_other_genes_are_refused():
    with pytest.raises(
        DataError, match="7 landmarks and 11 targets does not fit tables of 7 and 7"
    ):
        strong_connections(net_arrays(1), LANDMARKS, LANDMARKS)


def test_chance_is_what_drawing_units_at_random_gives():
    rng = np.random.default_rng(0)
    drawn = [
        np.sort(np.bincount(rng.integers(0, 200, 1000), minlength=200))[::-1] for _ in range(400)
    ]
    expected = chance_counts(1000, 200)
    # The quantile at the middle of each step against the mean of many draws.
    assert np.abs(np.mean(drawn, axis=0) - expected).max() < 1.0
    assert abs(expected.sum() - 1000) < 20
    halves = np.mean([units_with_half(counts) for counts in drawn])
    assert units_with_half(expected) == pytest.approx(halves, abs=3)


@given(any_arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 20)))
def test_units_with_half_is_the_fewest(counts):
    n = units_with_half(counts)
    most_first = sorted(counts.tolist(), reverse=True)
    assert 2 * sum(most_first[:n]) >= sum(most_first)
    if n:
        assert 2 * sum(most_first[: n - 1]) < sum(most_first)
    else:
        assert sum(most_first) == 0
