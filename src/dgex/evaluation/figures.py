"""Figures of an evaluation.

Each `draw_…` function takes a table and a matplotlib Axes and draws one panel. Nothing global is
touched and pyplot is not used. All MAE are in standardised units (z-score).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart under every common colour blindness, without yellow,
# which is too pale for a line on white, and black, kept for OLS.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_REFERENCE_COLOURS = {"ols": "#1A1A1A", "mean": "#8C8C8C"}
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 1.8), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5))
INK, FRAME_COLOUR, _GRID = "#222222", "#767676", "#E6E6E6"

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
        style_line(line, name, styles[name])
    axes.set_xlim(start, stop)
    axes.set_ylim(bottom=0)
    frame(axes, "MAE of a gene (standardised units)", "Density of genes")


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
    axes.plot([start, stop], [start, stop], color=INK, linewidth=0.9, gid="diagonal", zorder=3)
    # Thousands of dots as vectors would make the report slow to open.
    axes.scatter(
        across, up, s=size, color=colour, alpha=0.4, linewidths=0, rasterized=True, zorder=2
    )
    axes.set_xlim(start, stop)
    axes.set_ylim(start, stop)
    axes.set_aspect("equal")
    lower = 100.0 * float(np.mean(up < across))
    text = f"{shortened(model, 14)} lower in\n{lower:.1f} % of genes"
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
        color=INK,
        zorder=5,
        parse_math=False,
    )
    across_label, up_label = (
        f"MAE of {shortened(name, 20)}\n(standardised units)" for name in (reference, model)
    )
    frame(axes, across_label, up_label)


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
        style_line(line, name, styles[name])
        lowest = min(lowest, float(np.percentile(r, 1)))
    axes.set_xlim(math.floor(lowest * 5) / 5, 1.0)
    axes.set_ylim(0, 102)
    frame(axes, "Pearson r of a gene", "Genes with at least this r (%)")


def draw_training(
    logs: Mapping[str, pd.DataFrame],
    axes: Axes,
    set_name: str,
    styles: Mapping[str, Style],
    chooser: str = "validation",
) -> None:
    """MAE of one set after each epoch, a line per model; a dot at the epoch that was kept.

    The epoch kept is the one of the lowest MAE on `chooser`; a log without that set has no dot,
    and one without the set drawn has no line.

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
    chooser
        The set that chose the epoch.

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
        style_line(line, name, styles[name])
        chosen_by = f"mae_{chooser}"
        if chosen_by not in log or log[chosen_by].isna().all():
            continue
        best_row = np.nanargmin(log[chosen_by].to_numpy())
        kept = known[known["epoch"] == log["epoch"].iloc[best_row]]
        dot = axes.plot(kept["epoch"].to_numpy(), kept[column].to_numpy(), "o", markersize=5)[0]
        dot.set(color=styles[name].colour, markeredgecolor="white", zorder=4)
    frame(axes, "Epoch", "MAE (standardised units)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


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


def style_line(line: object, name: str, style: Style) -> None:
    """Give a line its model's colour and dashes, and the model's name as its gid.

    Examples
    --------
    >>> from matplotlib.lines import Line2D
    >>> line = Line2D([], [])
    >>> style_line(line, "net", Style("#0072B2"))
    >>> line.get_color(), line.get_gid()
    ('#0072B2', 'net')
    """
    from matplotlib.lines import Line2D

    if isinstance(line, Line2D):
        line.set(color=style.colour, linewidth=1.6, gid=name)
        if style.dashes:
            line.set_dashes(style.dashes)


def frame(axes: Axes, across: str, up: str) -> None:
    """Name the axes of a panel and give it the grid and ticks that all panels have.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().add_subplot()
    >>> frame(axes, "Epoch", "MAE")
    >>> axes.get_xlabel()
    'Epoch'
    """
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    # Names come from the user: a "$" in one is a dollar, not the start of a formula.
    axes.set_xlabel(across, fontsize=9, color=INK, parse_math=False)
    axes.set_ylabel(up, fontsize=9, color=INK, parse_math=False)
    axes.tick_params(labelsize=8.5, color=FRAME_COLOUR, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME_COLOUR)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def shortened(name: str, limit: int = 28) -> str:
    """A name of at most `limit` letters, its end replaced by an ellipsis where it is longer.

    Examples
    --------
    >>> shortened("dgex-3x9000", limit=6)
    'dgex-…'
    """
    return name if len(name) <= limit else name[: limit - 1] + "…"
