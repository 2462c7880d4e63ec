"""Whole figures of an evaluation: one panel per set, drawn by `dgex.evaluation.figures`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dgex.errors import UsageError, name_list
from dgex.evaluation.figures import (
    FRAME_COLOUR,
    INK,
    Style,
    draw_mae_density,
    draw_mae_scatter,
    draw_r_share,
    draw_training,
    model_styles,
    shortened,
    style_line,
)
from dgex.evaluation.tables import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def density_figure(evaluation: Evaluation) -> Figure:
    """`draw_mae_density` for every set.

    Examples
    --------
    >>> genes = pd.DataFrame({"model": "ols", "set": "test", "mae": [0.2, 0.3, 0.5]})
    >>> info = {"models": {"ols": "ols"}, "sets": {"test": {"n_profiles": 60}}}
    >>> figure = density_figure(Evaluation(pd.DataFrame(), genes, info))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['test']
    """
    styles = model_styles(evaluation.info["models"])
    return _by_set(evaluation, lambda genes, axes: draw_mae_density(genes, axes, styles), styles)


def r_figure(evaluation: Evaluation) -> Figure:
    """`draw_r_share` for every set, of the models that have an r anywhere.

    Examples
    --------
    >>> genes = pd.DataFrame({"model": "ols", "set": "test", "r": [0.2, 0.3, 0.5]})
    >>> info = {"models": {"ols": "ols"}, "sets": {"test": {"n_profiles": 60}}}
    >>> figure = r_figure(Evaluation(pd.DataFrame(), genes, info))
    >>> [axes.get_title(loc="right") for axes in figure.axes]
    ['60 profiles']
    """
    with_r = set(evaluation.genes.loc[evaluation.genes["r"].notna(), "model"])
    all_styles = model_styles(evaluation.info["models"])
    styles = {name: style for name, style in all_styles.items() if name in with_r}
    return _by_set(evaluation, lambda genes, axes: draw_r_share(genes, axes, styles), styles)


def scatter_figure(evaluation: Evaluation, model: str, reference: str) -> Figure:
    """`draw_mae_scatter` of `model` against `reference` for every set.

    Examples
    --------
    >>> genes = pd.DataFrame({"model": ["ols", "net"], "set": "test", "gene": "a",
    ...                       "mae": [0.2, 0.1]})
    >>> info = {"models": {"ols": "ols", "net": "dgex"}, "sets": {"test": {"n_profiles": 60}}}
    >>> figure = scatter_figure(Evaluation(pd.DataFrame(), genes, info), "net", "ols")
    >>> [len(axes.collections[0].get_offsets()) for axes in figure.axes]
    [1]
    """
    colour = model_styles(evaluation.info["models"])[model].colour

    def draw(genes: pd.DataFrame, axes: Axes) -> None:
        draw_mae_scatter(genes, axes, model, reference, colour)

    return _by_set(evaluation, draw, {})


def training_figure(
    logs: Mapping[str, pd.DataFrame],
    kinds: Mapping[str, str],
    first_sets: Sequence[str] = (),
    choosers: Mapping[str, str] | None = None,
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
    choosers
        For sets whose epoch another set than validation chose: that set.

    Raises
    ------
    UsageError
        No log has a column mae_<set>.

    Examples
    --------
    >>> log = pd.DataFrame({"epoch": [1, 2], "mae_validation": [0.7, 0.5], "mae_train": [0.6, 0.4]})
    >>> figure = training_figure({"net": log}, {"net": "dgex"}, ["train"])
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['train', 'validation']
    """
    logged = [
        column.removeprefix("mae_")
        for log in logs.values()
        for column in log.columns
        if column.startswith("mae_")
    ]
    if not logged:
        raise UsageError(
            f"The training logs of {name_list(logs)} have no column mae_<set>, so there is nothing "
            "to draw. Give the logs that training wrote."
        )
    set_names = sorted(
        dict.fromkeys(logged),
        key=lambda s: first_sets.index(s) if s in first_sets else len(first_sets),
    )
    styles = model_styles({**kinds, **{name: "" for name in logs if name not in kinds}})
    figure, axes_of = panels(set_names)
    for set_name, axes in axes_of.items():
        draw_training(logs, axes, set_name, styles, (choosers or {}).get(set_name, "validation"))
        title(axes, set_name, "")
    legend(figure, {name: styles[name] for name in logs})
    return settled(figure)


def _by_set(
    evaluation: Evaluation,
    draw: Callable[[pd.DataFrame, Axes], None],
    styles: Mapping[str, Style],
) -> Figure:
    counts = evaluation.info["sets"]
    figure, axes_of = panels(list(counts))
    for set_name, genes in evaluation.genes.groupby("set", sort=False):
        axes = axes_of[str(set_name)]
        draw(genes, axes)
        n = counts[str(set_name)]["n_profiles"]
        title(axes, str(set_name), f"{n:,} profile{'s' if n != 1 else ''}")
    legend(figure, styles)
    return settled(figure)


def panels(names: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel per name, at most three in a row.

    Examples
    --------
    >>> figure, axes_of = panels(["validation", "test"])
    >>> list(axes_of)
    ['validation', 'test']
    """
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


def title(axes: Axes, name: str, detail: str) -> None:
    """Write the name of a panel at its upper left and a detail at its upper right.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().add_subplot()
    >>> title(axes, "test", "60 profiles")
    >>> axes.get_title(loc="right")
    '60 profiles'
    """
    axes.set_title(
        shortened(name), loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False
    )
    axes.set_title(detail, loc="right", fontsize=8.5, color=FRAME_COLOUR)


def legend(figure: Figure, styles: Mapping[str, Style]) -> None:
    """Put the names and lines of `styles` under the panels; nothing where there are none.

    Examples
    --------
    >>> figure, _ = panels(["test"])
    >>> legend(figure, {"ols": Style("#1A1A1A")})
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['ols']
    """
    from matplotlib.lines import Line2D

    if not styles:
        return
    names = [shortened(name) for name in styles]
    handles = []
    for name, style in styles.items():
        handle = Line2D([], [])
        style_line(handle, name, style)
        handles.append(handle)
    # About 12 letters an inch, and six for the line before each name.
    columns = int(figure.get_figwidth() * 12) // (max(map(len, names)) + 6)
    under = figure.legend(
        handles,
        [str(i) for i in range(len(names))],
        loc="outside lower center",
        ncols=max(1, min(len(names), columns)),
        frameon=False,
        handlelength=2.2,
        fontsize=9,
        labelcolor=INK,
    )
    # Set afterwards: a legend hides labels that begin with "_" and reads "$" as a formula.
    for text, name in zip(under.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def settled(figure: Figure) -> Figure:
    """The figure with its layout done, once and for all.

    Examples
    --------
    >>> len(settled(panels(["validation", "test"])[0]).axes)
    2
    """
    # Laid out once, it is drawn the same every time and in a third of the time.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure
