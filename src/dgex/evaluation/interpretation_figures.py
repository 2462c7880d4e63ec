"""Figures of the interpretation of a net, from the tables of `dgex.models.interpret`.

Nothing global is touched and pyplot is not used. Blue is positive, vermilion negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dgex.evaluation.figures import FRAME_COLOUR, INK, frame, shortened
from dgex.evaluation.grids import settled, title
from dgex.models.interpret import (
    OUTPUT,
    StrongConnections,
    chance_counts,
    shown_names,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
_PALE = "#EDEDED"
_HUBS_DRAWN, _NAMES_DRAWN = 10, 4
_LANDMARKS_DRAWN = 8
_NAME_LETTERS = 12


def weights_figure(
    layers: pd.DataFrame, histogram: pd.DataFrame, thresholds: Mapping[str, float]
) -> Figure:
    """Distribution of the weights, a panel per layer, counts on a logarithmic scale.

    Dashed lines are the `thresholds` beyond which connections are strong; a grey band is the range
    within which the weights of a hidden layer started.

    Parameters
    ----------
    layers, histogram
        What `dgex.models.interpret.weight_summary` gave.
    thresholds
        Layer to the smallest strong absolute weight.

    Examples
    --------
    >>> from dgex.models.interpret import weight_summary
    >>> arrays = {"hidden.0.weight": np.eye(3), "output.weight": np.eye(3)}
    >>> figure = weights_figure(*weight_summary(arrays, bins=5), {"hidden 1": 0.5})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['landmarks → hidden 1', 'hidden 1 → targets']
    """
    figure, panels = _figure(len(layers), 2, (4.4, 3.1))
    for row, axes in zip(layers.to_dict("records"), panels, strict=True):
        layer = str(row["layer"])
        bins = histogram[histogram["layer"] == layer]
        edges = np.append(bins["low"].to_numpy(), bins["high"].iloc[-1])
        if layer != OUTPUT:
            axes.axvspan(
                -row["start"], row["start"], color=_PALE, linewidth=0, zorder=0, gid="start"
            )
        counts = bins["n"].to_numpy(float)
        # Below 1 there is nothing on a logarithmic scale, and an empty bin has no top.
        shown = np.where(counts > 0, counts, 0.5)
        axes.stairs(shown, edges, baseline=0.5, fill=True, color=POSITIVE, alpha=0.22)
        axes.stairs(shown, edges, baseline=0.5, color=POSITIVE, linewidth=1.1, gid=layer)
        if layer in thresholds:
            for sign in (-1, 1):
                axes.axvline(
                    sign * thresholds[layer],
                    color=NEGATIVE,
                    linewidth=1.1,
                    dashes=(4, 2),
                    gid="threshold",
                )
        text = (
            f"SD {row['sd']:.3g}, excess kurtosis {_signed(row['excess_kurtosis'])}\n"
            f"{row['percent_near_zero']:.3g} % within ±0.01"
        )
        frame(axes, "Weight", "Weights per bin")
        axes.set_yscale("log")
        axes.tick_params(which="minor", length=0)
        axes.set_xlim(edges[0] * 1.03, edges[-1] * 1.03)
        # Room above the bars for the numbers.
        top = float(counts.max())
        axes.set_ylim(0.6, top * max(top, 10.0) ** 0.35)
        axes.text(
            0.5,
            0.95,
            text,
            transform=axes.transAxes,
            ha="center",
            va="top",
            fontsize=8,
            color=INK,
        )
        title(axes, _layer_title(layer, len(layers) - 1), f"{row['n']:,} weights")
    return settled(figure)


def hubs_figure(strong: StrongConnections) -> Figure:
    """Strong connections of each hidden unit, the unit with the most first; dashed by chance.

    A panel for the landmarks of the first hidden layer and one for the targets of the last.

    Examples
    --------
    >>> from dgex.models.interpret import strong_connections
    >>> arrays = {"hidden.0.weight": np.eye(3), "output.weight": np.eye(3)}
    >>> genes = pd.DataFrame({"symbol": ["A", "B", "C"]}, index=["a", "b", "c"])
    >>> figure = hubs_figure(strong_connections(arrays, genes, genes, share=0.3))
    >>> [line.get_gid() for line in figure.axes[0].lines]
    ['hidden 1', 'chance']
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    figure, panels = _figure(len(strong.layers), 2, (4.4, 3.1))
    for row, axes in zip(strong.layers.to_dict("records"), panels, strict=True):
        layer, n_units = str(row["layer"]), int(row["n_units"])
        table = strong.connections[strong.connections["layer"] == layer]
        counts_h = np.sort(np.bincount(table["unit"], minlength=n_units))[::-1]
        by_chance = chance_counts(int(row["n_strong"]), n_units)
        for values, colour, dashes, name in (
            (counts_h, POSITIVE, (), layer),
            (by_chance, FRAME_COLOUR, (4.0, 2.0), "chance"),
        ):
            # Only where the count changes: a step of thousands of points opens slowly.
            last = np.flatnonzero(np.append(np.diff(values) != 0, True))
            across = np.append(0.8, last + 1.0)
            line = axes.step(across, np.append(values[0], values[last]), where="pre")[0]
            line.set(color=colour, linewidth=1.6 if name == layer else 1.2, gid=name)
            if dashes:
                line.set_dashes(dashes)
        genes = "targets" if layer == OUTPUT else "landmarks"
        frame(axes, "Hidden unit, by rank", f"Strong connections with {genes}")
        axes.set_xscale("log")
        axes.tick_params(which="minor", length=0)
        axes.set_xlim(0.8, max(n_units, 2))
        axes.set_ylim(0, 1.08 * max(counts_h[0], by_chance[0], 1))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:,.0f}"))
        text = (
            f"{row['n_units_with_half']:,} of {n_units:,} units have half\n"
            f"of the {row['n_strong']:,} strong connections\n"
            f"(by chance: {row['n_units_with_half_by_chance']:,}, dashed)"
        )
        axes.text(
            0.97, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=INK
        )
        hidden = f"hidden {row['hidden_layer']}"
        title(axes, f"{hidden} → targets" if layer == OUTPUT else f"landmarks → {hidden}", "")
    return settled(figure)


def connections_figure(strong: StrongConnections) -> Figure:
    """The first hubs of a hidden layer with their strongest landmarks and targets by name.

    A line is a strong connection, the wider the stronger in its layer. One panel where the same
    units have landmarks and targets, two where they are units of different layers.

    Examples
    --------
    >>> from dgex.models.interpret import strong_connections
    >>> arrays = {"hidden.0.weight": np.eye(3), "output.weight": np.eye(3)}
    >>> genes = pd.DataFrame({"symbol": ["A", "B", "C"]}, index=["a", "b", "c"])
    >>> figure = connections_figure(strong_connections(arrays, genes, genes, share=0.3))
    >>> sorted(text.get_text() for text in figure.axes[0].texts if text.get_gid() == "gene")
    ['A', 'A', 'B', 'B', 'C', 'C']
    """
    hidden_layers = list(dict.fromkeys(strong.hubs["hidden_layer"]))
    hubs = {
        layer: strong.hubs.loc[strong.hubs["hidden_layer"] == layer, "unit"]
        .head(_HUBS_DRAWN)
        .tolist()
        for layer in hidden_layers
    }
    figure, panels = _figure(len(hidden_layers), 2, (8.8 / len(hidden_layers), 7.0))
    for layer, axes in zip(hidden_layers, panels, strict=True):
        tables = strong.connections[strong.connections["unit"].isin(hubs[layer])]
        if layer == hidden_layers[0]:
            _draw_side(axes, tables[tables["layer"] != OUTPUT], hubs[layer], gene_x=0.0)
        if layer == hidden_layers[-1]:
            _draw_side(axes, tables[tables["layer"] == OUTPUT], hubs[layer], gene_x=2.0)
        for unit, y in zip(hubs[layer], _heights(len(hubs[layer])), strict=True):
            axes.text(
                1.0,
                y,
                f"unit {unit}",
                ha="center",
                va="center",
                fontsize=8.5,
                color=INK,
                zorder=4,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": INK},
            )
        one = len(hidden_layers) == 1
        left = -0.35 if layer == hidden_layers[0] else 0.7
        right = 2.35 if layer == hidden_layers[-1] else 1.3
        axes.set_xlim(left, right)
        axes.set_ylim(0.0, 1.03)
        axes.set_axis_off()
        heads = []
        if layer == hidden_layers[0]:
            heads.append((0.0, "right", "landmarks"))
        heads.append((1.0, "center", "hidden units" if one else f"hidden layer {layer}"))
        if layer == hidden_layers[-1]:
            heads.append((2.0, "left", "targets"))
        for x, align, head in heads:
            axes.text(
                x, 1.01, head, color=INK, ha=align, va="bottom", fontsize=9.5, fontweight="bold"
            )
    return settled(figure)


def _draw_side(axes: Axes, table: pd.DataFrame, units: list[int], gene_x: float) -> None:
    """Lines from each unit to its strongest genes, and the names of these."""
    if table.empty:
        return
    table = table.groupby("unit", sort=False).head(_NAMES_DRAWN)
    height_of = dict(zip(units, _heights(len(units)), strict=True))
    # Genes in the order of the units that they hang on, so that few lines cross.
    order = table.assign(name=shown_names(table), y=table["unit"].map(height_of))
    genes = order.groupby("gene", sort=False).agg(y=("y", "mean"), name=("name", "first"))
    genes = genes.sort_values("y", ascending=False, kind="stable")
    gene_y = dict(zip(genes.index, _heights(len(genes)), strict=True))
    largest = float(table["weight"].abs().max())
    for row in order.to_dict("records"):
        colour = POSITIVE if row["weight"] > 0 else NEGATIVE
        width = 0.5 + 2.5 * (abs(row["weight"]) / largest) ** 2
        axes.plot(
            [gene_x, 1.0],
            [gene_y[row["gene"]], row["y"]],
            color=colour,
            linewidth=width,
            alpha=0.75,
        )
    shared = order["gene"].value_counts()
    for gene, y, name in zip(genes.index, gene_y.values(), genes["name"], strict=True):
        axes.text(
            gene_x + (0.03 if gene_x > 1 else -0.03),
            y,
            shortened(str(name), _NAME_LETTERS),
            ha="left" if gene_x > 1 else "right",
            va="center",
            fontsize=7.5,
            fontweight="bold" if shared[gene] > 1 else "normal",
            color=INK,
            gid="gene",
            parse_math=False,
        )


def _heights(n: int) -> list[float]:
    """Heights of `n` things one below the other, from 1 to 0."""
    return [1.0 - (position + 0.5) / n for position in range(n)]


def landmarks_figure(
    top: pd.DataFrame, details: Mapping[str, str], own: set[tuple[str, str]]
) -> Figure:
    """The landmarks that some targets lean on, a panel per target, on one scale.

    A bar is the mean gradient, a ring the mean absolute gradient under the same sign: it lies
    further out where the gradient changes sign between profiles.

    Parameters
    ----------
    top
        Rows of `dgex.models.gradients.top_landmarks` of the targets to draw.
    details
        Target to what stands over its panel on the right.
    own
        Pairs (target, landmark) that are the same gene: these names are bold.

    Examples
    --------
    >>> top = pd.DataFrame({"target": "t0", "symbol": "CDK1", "rank": [1, 2],
    ...                     "landmark": ["l0", "l1"], "landmark_symbol": ["MYC", ""],
    ...                     "gradient": [0.4, -0.1], "absolute_gradient": [0.4, 0.2]})
    >>> figure = landmarks_figure(top, {"t0": "r 0.91"}, set())
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['MYC', 'l1']
    """
    top = top[top["rank"] <= _LANDMARKS_DRAWN]
    targets = list(dict.fromkeys(top["target"]))
    columns = min(4, len(targets)) if len(targets) != 3 else 3
    figure, panels = _figure(len(targets), columns, (2.35, 2.0))
    reach = np.sign(top["gradient"]) * top[["gradient", "absolute_gradient"]].abs().max(axis=1)
    low, high = min(0.0, float(reach.min())), max(0.0, float(reach.max()))
    margin = 0.06 * (high - low) or 1.0
    for target, axes in zip(targets, panels, strict=True):
        rows = top[top["target"] == target]
        gradient = rows["gradient"].to_numpy()
        ring = np.sign(gradient) * rows["absolute_gradient"].to_numpy()
        colours = np.where(gradient > 0, POSITIVE, NEGATIVE)
        y = np.arange(len(rows))
        axes.barh(y, gradient, height=0.62, color=colours, linewidth=0)
        axes.scatter(ring, y, s=11, facecolors="white", edgecolors=INK, linewidths=0.7, zorder=3)
        axes.axvline(0, color=FRAME_COLOUR, linewidth=0.8)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        frame(axes, "Mean gradient" if target in targets[-columns:] else "", "")
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=4)
        names = [
            shortened(str(name), _NAME_LETTERS)
            for name in shown_names(rows, "landmark_symbol", "landmark")
        ]
        axes.set_yticks(y, names)
        for label, landmark in zip(axes.get_yticklabels(), rows["landmark"], strict=True):
            label.set_parse_math(False)
            label.set_fontsize(7.5)
            if (target, landmark) in own:
                label.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=7.5)
        title(axes, str(rows["symbol"].iloc[0] or target), details.get(target, ""))
    return settled(figure)


def _layer_title(layer: str, n_hidden: int) -> str:
    if layer == OUTPUT:
        return f"hidden {n_hidden} → targets"
    number = int(layer.split()[1])
    return f"{f'hidden {number - 1}' if number > 1 else 'landmarks'} → {layer}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _figure(n: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(columns, n)
    rows = math.ceil(n / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout=layout, facecolor="white")
    return figure, [figure.add_subplot(rows, columns, i) for i in range(1, n + 1)]
