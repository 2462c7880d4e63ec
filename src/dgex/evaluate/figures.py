"""Figures of an evaluation.

Each `draw_…` function takes a table and a matplotlib Axes and draws one panel; each `…_figure`
function lays out one panel per set. Nothing global is touched and pyplot is not used. All MAE
are in standardised units (z-score).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dgex.evaluate.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart under every common colour blindness, without yellow,
# which is too pale for a line on white, and black, kept for OLS.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_REFERENCE_COLOURS = {"ols": "#1A1A1A", "mean": "#8C8C8C"}
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 1.8), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5))
_INK, _FRAME, _GRID = "#222222", "#767676", "#E6E6E6"

# Panels show this share of the values; what lies further out is counted in words.
_SHOWN_PERCENT = 99.8


@dataclass(frozen=True)
class Style:
    """How a model's lines look: a colour, and dashes (empty for a solid line)."""

    colour: str
    dashes: tuple[float, ...] = ()


def model_styles(kinds: Mapping[str, str]) -> dict[str, Style]:
    """A style for each model, from its name and kind.

    The first OLS is always black and the first mean always grey; the others take the palette in
    their order, and when it is used up take it again with dashes.

    Examples
    --------
    >>> styles = model_styles({"base": "ols", "net": "dgex"})
    >>> styles["base"].colour, styles["net"].colour
    ('#1A1A1A', '#0072B2')
    """
    free = dict(_REFERENCE_COLOURS)
    styles: dict[str, Style] = {}
    used = 0
    for name, kind in kinds.items():
        if kind in free:
            styles[name] = Style(free.pop(kind))
        else:
            round_, position = divmod(used, len(_PALETTE))
            styles[name] = Style(_PALETTE[position], _DASHES[round_ % len(_DASHES)])
            used += 1
    return styles


def draw_mae_density(genes: pd.DataFrame, axes: Axes, styles: Mapping[str, Style]) -> None:
    """Density over genes of the MAE, a line per model.

    A Gaussian kernel density with Scott's bandwidth; a vertical line where all genes have one
    value, which has no density.

    Parameters
    ----------
    genes
        Rows of one set of `Evaluation.genes`: columns model, mae.
    axes
        Where to draw.
    styles
        Style of each model; models without one are left out.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> genes = pd.DataFrame({"model": "ols", "mae": [0.2, 0.3, 0.5]})
    >>> axes = Figure().add_subplot()
    >>> draw_mae_density(genes, axes, model_styles({"ols": "ols"}))
    >>> [line.get_gid() for line in axes.lines]
    ['ols']
    """
    from scipy.stats import gaussian_kde

    start, stop = _shown_range(genes["mae"])
    grid = np.linspace(start, stop, 256)
    for name, mae in _by_model(genes, styles, "mae"):
        if np.ptp(mae) > 0:
            line = axes.plot(grid, gaussian_kde(mae)(grid))[0]
        else:
            line = axes.axvline(mae[0])
        _apply(line, name, styles[name])
    axes.set_xlim(start, stop)
    axes.set_ylim(bottom=0)
    _frame(axes, "MAE of a gene (standardised units)", "Density of genes")


def draw_mae_scatter(
    genes: pd.DataFrame, axes: Axes, model: str, reference: str, colour: str
) -> None:
    r"""MAE of each gene under one model (up) against another (across), with the diagonal.

    A gene below the diagonal is inferred better by `model`; the share of those is written in.

    Parameters
    ----------
    genes
        Rows of one set of `Evaluation.genes`: columns model, gene, mae.
    axes
        Where to draw.
    model, reference
        Names of the two models.
    colour
        Colour of the dots.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> genes = pd.DataFrame({"model": ["ols", "ols", "net", "net"], "gene": ["a", "b", "a", "b"],
    ...                       "mae": [0.2, 0.3, 0.1, 0.4]})
    >>> axes = Figure().add_subplot()
    >>> draw_mae_scatter(genes, axes, "net", "ols", "#0072B2")
    >>> axes.texts[0].get_text()
    'net lower in\n50.0 % of genes'
    """
    across, up = (
        genes[genes["model"] == name].set_index("gene")["mae"] for name in (reference, model)
    )
    up = up[across.index]
    start, stop = _shown_range(pd.concat([across, up]))
    outside = int(np.sum((across > stop) | (up > stop)))
    size = float(np.clip(4000 / len(across), 2.0, 18.0))
    axes.plot([start, stop], [start, stop], color=_INK, linewidth=0.9, gid="diagonal", zorder=3)
    # Thousands of dots as vectors would make the report slow to open.
    axes.scatter(
        across, up, s=size, color=colour, alpha=0.4, linewidths=0, rasterized=True, zorder=2
    )
    axes.set_xlim(start, stop)
    axes.set_ylim(start, stop)
    axes.set_aspect("equal")
    lower = 100.0 * float(np.mean(up < across))
    text = f"{_short(model)} lower in\n{lower:.1f} % of genes"
    if outside:
        text += f"\n({outside} {'lies' if outside == 1 else 'lie'} outside)"
    # In the corner on the other side of the diagonal than most genes.
    x, y, ha, va = (0.05, 0.95, "left", "top") if lower > 50 else (0.96, 0.05, "right", "bottom")
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=ha,
        va=va,
        fontsize=8.5,
        color=_INK,
        zorder=5,
        parse_math=False,
    )
    _frame(axes, f"MAE of {_short(reference)} (std. units)", f"MAE of {_short(model)} (std. units)")


def draw_r_share(genes: pd.DataFrame, axes: Axes, styles: Mapping[str, Style]) -> None:
    """Share of genes whose Pearson r is at least the value across, a line per model.

    Genes without r (constant, or constantly predicted) count as reaching no value; a model
    without any r has no line.

    Parameters
    ----------
    genes
        Rows of one set of `Evaluation.genes`: columns model, r.
    axes
        Where to draw.
    styles
        Style of each model; models without one are left out.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> genes = pd.DataFrame({"model": "ols", "r": [0.2, 0.3, 0.5, float("nan")]})
    >>> axes = Figure().add_subplot()
    >>> draw_r_share(genes, axes, model_styles({"ols": "ols"}))
    >>> r, percent = axes.lines[0].get_data()
    >>> float(percent[r <= 0.25].min()), float(percent[r >= 0.25].max())
    (50.0, 50.0)
    """
    grid = np.linspace(-1, 1, 401)
    lowest = 0.0
    for name, all_r in _by_model(genes, styles, "r"):
        r = np.sort(all_r[~np.isnan(all_r)])
        if len(r) == 0:
            continue
        at_least = len(r) - np.searchsorted(r, grid)
        line = axes.plot(grid, 100.0 * at_least / len(all_r))[0]
        _apply(line, name, styles[name])
        lowest = min(lowest, float(np.percentile(r, 1)))
    axes.set_xlim(math.floor(lowest * 5) / 5, 1.0)
    axes.set_ylim(0, 102)
    _frame(axes, "Pearson r of a gene", "Genes with at least this r (%)")


def draw_training(
    logs: Mapping[str, pd.DataFrame], axes: Axes, set_name: str, styles: Mapping[str, Style]
) -> None:
    """MAE of one set after each epoch, a line per model; a dot at the epoch that was kept.

    The epoch kept is the one of the lowest `mae_validation`; a log without that column has no
    dot, and one without this set has no line.

    Parameters
    ----------
    logs
        Training log of each model: columns epoch and mae_<set>, NaN where it was not measured.
    axes
        Where to draw.
    set_name
        The set to draw.
    styles
        Style of each model.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> log = pd.DataFrame({"epoch": [1, 2, 3], "mae_validation": [0.7, 0.5, 0.6]})
    >>> axes = Figure().add_subplot()
    >>> draw_training({"net": log}, axes, "validation", model_styles({"net": "dgex"}))
    >>> [line.get_xdata().tolist() for line in axes.lines]
    [[1, 2, 3], [2]]
    """
    from matplotlib.ticker import MaxNLocator

    column = f"mae_{set_name}"
    for name, log in logs.items():
        if column not in log:
            continue
        known = log[["epoch", column]].dropna()
        line = axes.plot(known["epoch"].to_numpy(), known[column].to_numpy())[0]
        _apply(line, name, styles[name])
        if "mae_validation" not in log or log["mae_validation"].isna().all():
            continue
        best_row = np.nanargmin(log["mae_validation"].to_numpy())
        kept = known[known["epoch"] == log["epoch"].iloc[best_row]]
        dot = axes.plot(kept["epoch"].to_numpy(), kept[column].to_numpy(), "o", markersize=5)[0]
        dot.set(color=styles[name].colour, markeredgecolor="white", zorder=4)
    _frame(axes, "Epoch", "MAE (standardised units)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def density_figure(evaluation: Evaluation) -> Figure:
    """`draw_mae_density` for every set."""
    styles = model_styles(evaluation.info["models"])
    return _by_set(evaluation, lambda genes, axes: draw_mae_density(genes, axes, styles), styles)


def r_figure(evaluation: Evaluation) -> Figure:
    """`draw_r_share` for every set, of the models that have an r anywhere."""
    with_r = set(evaluation.genes.loc[evaluation.genes["r"].notna(), "model"])
    all_styles = model_styles(evaluation.info["models"])
    styles = {name: style for name, style in all_styles.items() if name in with_r}
    return _by_set(evaluation, lambda genes, axes: draw_r_share(genes, axes, styles), styles)


def scatter_figure(evaluation: Evaluation, model: str, reference: str) -> Figure:
    """`draw_mae_scatter` of `model` against `reference` for every set."""
    colour = model_styles(evaluation.info["models"])[model].colour

    def draw(genes: pd.DataFrame, axes: Axes) -> None:
        draw_mae_scatter(genes, axes, model, reference, colour)

    return _by_set(evaluation, draw, {})


def training_figure(
    logs: Mapping[str, pd.DataFrame], kinds: Mapping[str, str], first_sets: Sequence[str] = ()
) -> Figure:
    """`draw_training` for every set of the logs.

    Parameters
    ----------
    logs
        Training log of each model, as `draw_training` takes them.
    kinds
        Kind of each model of the report, so that a model has one colour in all figures.
    first_sets
        Sets drawn before the others, in this order, where the logs have them.
    """
    logged = [
        column.removeprefix("mae_")
        for log in logs.values()
        for column in log.columns
        if column.startswith("mae_")
    ]
    set_names = sorted(
        dict.fromkeys(logged),
        key=lambda s: first_sets.index(s) if s in first_sets else len(first_sets),
    )
    styles = model_styles({**kinds, **{name: "" for name in logs if name not in kinds}})
    figure, panels = _panels(set_names)
    for set_name, axes in panels.items():
        draw_training(logs, axes, set_name, styles)
        _title(axes, set_name, "")
    _legend(figure, {name: styles[name] for name in logs})
    return figure


def _by_set(
    evaluation: Evaluation,
    draw: Callable[[pd.DataFrame, Axes], None],
    styles: Mapping[str, Style],
) -> Figure:
    counts = evaluation.info["sets"]
    figure, panels = _panels(list(counts))
    for set_name, genes in evaluation.genes.groupby("set", sort=False):
        axes = panels[str(set_name)]
        draw(genes, axes)
        n = counts[str(set_name)]["n_profiles"]
        _title(axes, str(set_name), f"{n:,} profile{'s' if n != 1 else ''}")
    _legend(figure, styles)
    return figure


def _panels(names: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel per name, at most three in a row."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = math.ceil(len(names) / columns)
    width, height = {1: (5.4, 3.7), 2: (4.4, 3.3)}.get(columns, (3.35, 2.95))
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
    figure = Figure(figsize=(columns * width, rows * height), layout=layout, facecolor="white")
    return figure, {
        name: figure.add_subplot(rows, columns, position)
        for position, name in enumerate(names, start=1)
    }


def _by_model(
    genes: pd.DataFrame, styles: Mapping[str, Style], column: str
) -> list[tuple[str, np.ndarray]]:
    return [
        (str(name), rows[column].to_numpy())
        for name, rows in genes.groupby("model", sort=False)
        if name in styles
    ]


def _shown_range(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(np.percentile(values, _SHOWN_PERCENT))
    margin = 0.05 * (high - low) or 0.05 * max(high, 1.0)
    return max(0.0, low - margin), high + margin


def _apply(line: object, name: str, style: Style) -> None:
    from matplotlib.lines import Line2D

    if isinstance(line, Line2D):
        line.set(color=style.colour, linewidth=1.6, gid=name)
        if style.dashes:
            line.set_dashes(style.dashes)


def _frame(axes: Axes, across: str, up: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    # Names come from the user: a "$" in one is a dollar, not the start of a formula.
    axes.set_xlabel(across, fontsize=9, color=_INK, parse_math=False)
    axes.set_ylabel(up, fontsize=9, color=_INK, parse_math=False)
    axes.tick_params(labelsize=8.5, color=_FRAME, labelcolor=_INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FRAME)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _title(axes: Axes, name: str, detail: str) -> None:
    axes.set_title(
        _short(name), loc="left", fontsize=10, fontweight="bold", color=_INK, parse_math=False
    )
    axes.set_title(detail, loc="right", fontsize=8.5, color=_FRAME)


def _legend(figure: Figure, styles: Mapping[str, Style]) -> None:
    from matplotlib.lines import Line2D

    if not styles:
        return
    names = [_short(name) for name in styles]
    handles = []
    for name, style in styles.items():
        handle = Line2D([], [])
        _apply(handle, name, style)
        handles.append(handle)
    # About 12 letters an inch, and six for the line before each name.
    columns = int(figure.get_figwidth() * 12) // (max(map(len, names)) + 6)
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(names))],
        loc="outside lower center",
        ncols=max(1, min(len(names), columns)),
        frameon=False,
        handlelength=2.2,
        fontsize=9,
        labelcolor=_INK,
    )
    # Set afterwards: a legend hides labels that begin with "_" and reads "$" as a formula.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
