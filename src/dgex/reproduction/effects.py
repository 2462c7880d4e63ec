"""Figures of what width, depth and dropout do to the error of the nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pandas as pd

from dgex.evaluation.figures import Style, frame, model_styles, style_line
from dgex.evaluation.grids import legend, panels, settled, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = {"hidden_units": "Units of a hidden layer", "dropout": "Dropout (%)"}


def effect_figure(
    tables: Mapping[str, pd.DataFrame], across: Literal["hidden_units", "dropout"]
) -> Figure:
    """MAE of the nets against their width or their dropout, a line per number of layers.

    A panel per set. The setting that is not drawn is that of the net chosen for the set. A dashed
    line is the MAE of LR (`ols`).

    Parameters
    ----------
    tables
        Name of a set to `dgex.reproduction.tables.table_of`.
    across
        Which setting.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["ols", "dgex"], "hidden_layers": [None, 1],
    ...     "hidden_units": [None, 300], "dropout": [None, 0.1], "chosen": [False, True],
    ...     "mae": [0.5, 0.4]})
    >>> [axes.get_title(loc="right") for axes in effect_figure({"test": table}, "dropout").axes]
    ['300 units']
    """
    layers = sorted({n for table in tables.values() for n in table["hidden_layers"].dropna()})
    names = {int(n): f"{n} hidden layer{'s' if n > 1 else ''}" for n in layers}
    palette = model_styles({"LR": "ols"} | dict.fromkeys(names.values(), "dgex"))
    styles = palette | {"LR": Style(palette["LR"].colour, (5.0, 1.8))}
    figure, axes_of = panels(list(tables))
    for set_name, table in tables.items():
        axes = axes_of[set_name]
        detail = _draw(table, axes, across, names, styles)
        title(axes, set_name, detail)
    legend(figure, styles)
    return settled(figure)


def _draw(
    table: pd.DataFrame,
    axes: Axes,
    across: str,
    names: Mapping[int, str],
    styles: Mapping[str, Style],
) -> str:
    nets = table[(table["method"] == "dgex") & table["mae"].notna()]
    chosen = table[table["chosen"]].iloc[0]
    if across == "hidden_units":
        nets = nets[nets["dropout"] == chosen["dropout"]]
        detail, factor = f"dropout {100 * chosen['dropout']:g} %", 1
    else:
        nets = nets[nets["hidden_units"] == chosen["hidden_units"]]
        detail, factor = f"{int(chosen['hidden_units']):,} units", 100
    values = sorted({float(value) * factor for value in nets[across]})
    for n_layers, name in names.items():
        own = nets[nets["hidden_layers"] == n_layers].sort_values(across)
        x = own[across].astype(float) * factor
        line = axes.plot(x, own["mae"], marker="o", markersize=4)[0]
        style_line(line, name, styles[name])
    ols = float(table.loc[table["method"] == "ols", "mae"].iloc[0])
    style_line(axes.axhline(ols), "LR", styles["LR"])
    frame(axes, _ACROSS[across], "MAE (standardised units)")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    return detail
