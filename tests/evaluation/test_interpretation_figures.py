"""Each figure of the interpretation holds the lines, bars and names it should."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from dgex.evaluation.interpretation_figures import (
    connections_figure,
    hubs_figure,
    landmarks_figure,
    weights_figure,
)
from dgex.models.interpret import chance_counts, strong_connections, weight_summary


def net_arrays(layers, landmarks=30, units=20, targets=40):
    rng = np.random.default_rng(layers)
    widths = [landmarks] + [units] * layers
    arrays = {"output.weight": rng.normal(size=(targets, units))}
    for layer in range(layers):
        arrays[f"hidden.{layer}.weight"] = rng.normal(size=(units, widths[layer]))
    return arrays


def genes(prefix, n):
    return pd.DataFrame(
        {"symbol": [f"{prefix.upper()}{i}" for i in range(n)]},
        index=[f"{prefix}{i}" for i in range(n)],
    )


def strong_of(layers, share=0.1):
    return strong_connections(net_arrays(layers), genes("l", 30), genes("t", 40), share)


def line_of(axes, gid):
    return next(line for line in axes.lines if line.get_gid() == gid)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_weights_have_a_panel_per_layer_with_its_counts(layers):
    table, histogram = weight_summary(net_arrays(layers), bins=21)
    figure = weights_figure(table, histogram, {"hidden 1": 1.5, "output": 1.25})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == layers + 1
    assert titles[0] == "landmarks → hidden 1"
    assert titles[-1] == f"hidden {layers} → targets"
    assert figure.axes[0].get_title(loc="right") == "600 weights"
    for axes, row in zip(figure.axes, table.to_dict("records"), strict=True):
        assert axes.get_yscale() == "log"
        outline = next(patch for patch in axes.patches if patch.get_gid() == row["layer"])
        counts = histogram.loc[histogram["layer"] == row["layer"], "n"].to_numpy()
        drawn = outline.get_data()[0]
        np.testing.assert_array_equal(drawn[counts > 0], counts[counts > 0])
        assert (drawn[counts == 0] < axes.get_ylim()[0]).all()
        thresholds = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "threshold"]
        expected = {"hidden 1": [-1.5, 1.5], "output": [-1.25, 1.25]}
        assert thresholds == expected.get(row["layer"], [])
        starts = [patch for patch in axes.patches if patch.get_gid() == "start"]
        assert len(starts) == (row["layer"] != "output")
        if starts:
            assert starts[0].get_x() == -math.sqrt(6 / (row["units_in"] + row["units_out"]))
        assert f"SD {row['sd']:.3g}" in axes.texts[0].get_text()


def test_weights_that_are_all_equal_are_drawn():
    arrays = {"hidden.0.weight": np.zeros((2, 3)), "output.weight": np.ones((3, 2))}
    figure = weights_figure(*weight_summary(arrays), {"hidden 1": 0.0})
    assert "excess kurtosis –" in figure.axes[0].texts[0].get_text()


@pytest.mark.parametrize("layers", [1, 3])
def test_hub_lines_are_the_sorted_counts(layers):
    strong = strong_of(layers)
    figure = hubs_figure(strong)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "landmarks → hidden 1",
        f"hidden {layers} → targets",
    ]
    for axes, layer in zip(figure.axes, ("hidden 1", "output"), strict=True):
        own = strong.connections[strong.connections["layer"] == layer]
        counts = sorted((own["unit"].value_counts().reindex(range(20), fill_value=0)), reverse=True)
        for gid, expected in ((layer, counts), ("chance", chance_counts(len(own), 20))):
            across, up = line_of(axes, gid).get_data()
            # A step ends at the rank of the last unit that has so many.
            at_rank = [up[np.searchsorted(across, rank)] for rank in range(1, 21)]
            np.testing.assert_array_equal(at_rank, expected)
        assert f"of the {len(own)} strong connections" in axes.texts[0].get_text()
        assert axes.get_ylabel().endswith("targets" if layer == "output" else "landmarks")


def test_a_net_of_one_unit_without_strong_connections_is_drawn():
    arrays = {"hidden.0.weight": np.zeros((1, 2)), "output.weight": np.zeros((3, 1))}
    strong = strong_connections(arrays, genes("l", 2), genes("t", 3))
    assert len(hubs_figure(strong).axes) == 2
    texts = [text.get_text() for text in connections_figure(strong).axes[0].texts]
    assert texts == ["unit 0", "landmarks", "hidden units", "targets"]


def test_connections_of_one_layer_are_the_strongest_of_the_first_hubs():
    strong = strong_of(1, share=0.3)
    (axes,) = connections_figure(strong).axes
    hubs = strong.hubs["unit"].head(10).tolist()
    names = [text.get_text() for text in axes.texts if text.get_text().startswith("unit")]
    assert names == [f"unit {unit}" for unit in hubs]
    own = strong.connections[strong.connections["unit"].isin(hubs)]
    expected = own.groupby(["layer", "unit"]).head(4)
    assert len(axes.lines) == len(expected)
    blue = sum(to_hex(line.get_color()) == "#0072b2" for line in axes.lines)
    assert blue == (expected["weight"] > 0).sum()
    drawn = [text for text in axes.texts if text.get_gid() == "gene"]
    assert sorted(text.get_text() for text in drawn) == sorted(
        symbol for _, rows in expected.groupby("layer") for symbol in set(rows["symbol"])
    )
    uses = expected["symbol"].value_counts()
    for text in drawn:
        assert (text.get_fontweight() == "bold") == (uses[text.get_text()] > 1)
    # The strongest connection of a side has the widest line.
    left = [line for line in axes.lines if line.get_xdata()[0] == 0]
    first = expected[expected["layer"] == "hidden 1"].iloc[0]
    widest = max(left, key=lambda line: line.get_linewidth())
    position = hubs.index(first["unit"])
    assert widest.get_ydata()[1] == pytest.approx(1 - (position + 0.5) / 10)


def test_connections_of_deeper_nets_have_a_panel_per_end():
    strong = strong_of(2, share=0.3)
    first, last = connections_figure(strong).axes
    assert {line.get_xdata()[0] for line in first.lines} == {0.0}
    assert {line.get_xdata()[0] for line in last.lines} == {2.0}
    words = [text.get_text() for axes in (first, last) for text in axes.texts]
    assert {"landmarks", "hidden layer 1", "hidden layer 2", "targets"} <= set(words)


def top_table(n_targets, n_landmarks=10):
    rng = np.random.default_rng(0)
    n = n_targets * n_landmarks
    gradient = rng.normal(size=n)
    return pd.DataFrame(
        {
            "target": np.repeat([f"t{i}" for i in range(n_targets)], n_landmarks),
            "symbol": np.repeat([f"T${i}" for i in range(n_targets)], n_landmarks),
            "rank": np.tile(np.arange(1, n_landmarks + 1), n_targets),
            "landmark": np.tile([f"l{i}" for i in range(n_landmarks)], n_targets),
            "landmark_symbol": np.tile(["", *(f"L{i}" for i in range(1, n_landmarks))], n_targets),
            "gradient": gradient,
            "absolute_gradient": np.abs(gradient) + rng.random(n),
        }
    )


@pytest.mark.parametrize("n_targets", [1, 3, 5, 12])
def test_landmarks_have_a_bar_and_a_ring_each(n_targets):
    top = top_table(n_targets)
    figure = landmarks_figure(top, {"t0": "r 0.93"}, {("t0", "l2")})
    assert len(figure.axes) == n_targets
    for number, axes in enumerate(figure.axes):
        rows = top[top["target"] == f"t{number}"].head(8)
        assert axes.get_title(loc="left") == f"T${number}"
        assert [bar.get_width() for bar in axes.patches] == rows["gradient"].tolist()
        rings = axes.collections[0].get_offsets().data
        np.testing.assert_allclose(np.abs(rings[:, 0]), rows["absolute_gradient"])
        np.testing.assert_array_equal(np.sign(rings[:, 0]), np.sign(rows["gradient"]))
        labels = axes.get_yticklabels()
        assert [label.get_text() for label in labels] == ["l0", *(f"L{i}" for i in range(1, 8))]
        bold = [label.get_text() for label in labels if label.get_fontweight() == "bold"]
        assert bold == (["L2"] if number == 0 else [])
        low, high = axes.get_xlim()
        assert low < rings[:, 0].min()
        assert rings[:, 0].max() < high
    assert figure.axes[0].get_title(loc="right") == "r 0.93"
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_gradients_that_are_all_zero_are_drawn():
    top = top_table(2).assign(gradient=0.0, absolute_gradient=0.0)
    assert len(landmarks_figure(top, {}, set()).axes) == 2
