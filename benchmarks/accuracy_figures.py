"""Figures of the accuracy benchmark, and its table in markdown, from the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from accuracy_cases import EXTERNALS

from dgex.evaluation.figures import FRAME_COLOUR, INK, Style, model_styles
from dgex.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAINTED = {"auto": "#D55E00", "cohort-ridge": "#009E73", "ridge": "#0072B2", "dgex": "#1A1A1A"}
OTHER = "#8C8C8C"
BEGIN, END = "<!-- accuracy table: begin -->", "<!-- accuracy table: end -->"
FIGURE = "![Error of every model on every set, with standard errors](docs/accuracy.png)"
PANEL_NAMES = {"dgex": "dgex panel", "l1000": "L1000 landmarks", "random": "random genes"}
# As a multiple of the best MAE of a set; what is worse is an arrow at the edge.
WORST_SHOWN = 1.35


def columns_of(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Split, set and heading of every column of the figure, those that the table has."""
    wanted = [
        ("patients", "test", "held-out patients"),
        ("groups", "test", "held-out groups"),
        *(("patients", name, name) for name in EXTERNALS),
    ]
    there = set(zip(table["split"], table["set"], strict=True))
    return [one for one in wanted if one[:2] in there]


def draw_accuracy(table: pd.DataFrame, path: Path) -> None:
    """Dots with standard errors: a row of panels per compendium, a column per set."""
    from matplotlib.figure import Figure

    compendia, columns = list(dict.fromkeys(table["compendium"])), columns_of(table)
    models = list(dict.fromkeys(table["model"]))
    height = 0.6 + len(compendia) * (0.75 + 0.19 * len(models))
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.subplots(len(compendia), len(columns), squeeze=False, sharey=True)
    for row, compendium in zip(grid, compendia, strict=True):
        for axes, (split, set_name, heading) in zip(row, columns, strict=True):
            chosen = (table["compendium"] == compendium) & (table["split"] == split)
            _dots(axes, table[chosen & (table["set"] == set_name)], models)
            axes.set_title(heading, fontsize=9, color=INK)
        row[0].set_ylabel(compendium, fontsize=10, color=INK, fontweight="bold")
    figure.supxlabel(
        "MAE (standardised units) ± standard error over patients, groups or profiles; "
        "arrow: off the panel; open: not all seeds",
        fontsize=8.5,
        color=INK,
    )
    save(figure, path)


def _dots(axes: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    known = rows[rows["mae"].notna()].set_index("model")
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.tick_params(labelsize=8, color=FRAME_COLOUR, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME_COLOUR)
    axes.grid(axis="y", color="#EFEFEF", linewidth=0.7)
    axes.set_axisbelow(True)
    if known.empty:
        return
    best = float(known["mae"].min())
    ends = known["mae"] + known["mae_se"].fillna(0)
    edge = min(best * WORST_SHOWN, float(ends.max()))
    axes.axvline(best, color="#CFCFCF", linewidth=0.8, zorder=1)
    for position, model in enumerate(models):
        if model not in known.index:
            continue
        one = known.loc[[model]]
        mae, error = one["mae"].to_numpy()[0], one["mae_se"].to_numpy()[0]
        colour = PAINTED.get(model, OTHER)
        face = colour if one["missing"].to_numpy()[0] == "" else "white"
        if mae > edge:
            axes.plot(edge, position, ">", color=colour, markerfacecolor=face, markersize=4)
            axes.annotate(
                f"{mae:.2f}",
                (edge, position),
                (-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7,
                color=FRAME_COLOUR,
            )
            continue
        axes.errorbar(
            mae,
            position,
            xerr=None if np.isnan(error) else error,
            fmt="o",
            color=colour,
            markerfacecolor=face,
            markersize=4.5,
            elinewidth=1.1,
        )
    least = float((known["mae"] - known["mae_se"].fillna(0)).min())
    margin = 0.04 * (edge - least) or 0.01 * best
    axes.set_xlim(least - margin, edge + margin)
    axes.locator_params(axis="x", nbins=4)


def draw_learning(table: pd.DataFrame, path: Path) -> None:
    """MAE over the training profiles, a line per model but the mean, far above them all."""
    table = table[table["model"] != "mean"]
    styles = model_styles(dict.fromkeys(table["model"], ""))
    _draw_curves(table.assign(line=table["model"]), path, "n_train", "training profiles", styles)


def draw_panels(table: pd.DataFrame, path: Path) -> None:
    """MAE over the landmarks, a colour per kind of panel and a dash per model."""
    models, panels = (list(dict.fromkeys(table[name])) for name in ("model", "panel"))
    colours = model_styles(dict.fromkeys(panels, ""))
    lines, styles = [], {}
    for panel, model in zip(table["panel"], table["model"], strict=True):
        lines.append(f"{PANEL_NAMES[panel]}, {model}")
        dashes = () if model == models[-1] else (3.0, 1.5)
        styles[lines[-1]] = Style(colours[panel].colour, dashes)
    _draw_curves(table.assign(line=lines), path, "n_landmarks", "landmarks", styles)


def _draw_curves(
    table: pd.DataFrame, path: Path, across: str, label: str, styles: dict[str, Style]
) -> None:
    """A panel per compendium, the MAE over `across`, a line per value of the column `line`.

    The range over seeds is in the table alone: some splits are harder than others for all lines.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    compendia = list(dict.fromkeys(table["compendium"]))
    figure = Figure(figsize=(4.6 * len(compendia), 3.4), layout="constrained")
    grid = figure.subplots(1, len(compendia), squeeze=False)[0]
    for axes, compendium in zip(grid, compendia, strict=True):
        for name, rows in table[table["compendium"] == compendium].groupby("line", sort=False):
            known = rows[rows["mae"].notna()].sort_values(across)
            if known.empty:
                continue
            style = styles[str(name)]
            x, mae = known[across].to_numpy(float), known["mae"].to_numpy()
            drawn = axes.plot(x, mae, "o-", color=style.colour, markersize=3, linewidth=1.4)[0]
            drawn.set_label(str(name))
            if style.dashes:
                drawn.set_dashes(style.dashes)
        axes.set_xscale("log")
        ticks = sorted(table.loc[table["compendium"] == compendium, across].dropna().unique())
        axes.set_xticks(ticks)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.tick_params(labelsize=8, color=FRAME_COLOUR, labelcolor=INK, length=3)
        axes.tick_params(axis="x", labelrotation=40)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FRAME_COLOUR)
        axes.grid(color="#EFEFEF", linewidth=0.6)
        axes.set_title(f"{compendium}, held-out patients", fontsize=9, color=INK)
        axes.set_xlabel(label, fontsize=9, color=INK)
    grid[0].set_ylabel("MAE (standardised units)", fontsize=9, color=INK)
    grid[-1].legend(fontsize=8, frameon=False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is the same for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        # The program's version would be in it otherwise.
        figure.savefig(
            partial, format="png", dpi=150, facecolor="white", metadata={"Software": None}
        )


def markdown(table: pd.DataFrame) -> str:
    """Figure, and MAE of every model on every set, the best of a column in bold, for the README."""
    pieces = [FIGURE]
    for compendium in dict.fromkeys(table["compendium"]):
        rows = table[table["compendium"] == compendium]
        columns = columns_of(rows)
        main = rows[(rows["split"] == "patients") & (rows["set"] == "test")].set_index("model")
        lines = [
            f"| {compendium} | {' | '.join(heading for *_, heading in columns)} "
            "| below dgex | genes below dgex | time | memory |",
            "|" + "---|" * (len(columns) + 5),
        ]
        for model in dict.fromkeys(rows["model"]):
            cells = [_cell(rows, *column[:2], model) for column in columns]
            one: pd.Series = main.loc[model] if model in main.index else pd.Series(dtype=float)
            cells += [
                _shown(one, "gain_over_dgex_percent", "{:.1f} %"),
                _shown(one, "genes_better_than_dgex_percent", "{:.1f} %"),
            ]
            # Not of `main`, where models for new cohorts have no row.
            first = rows[rows["model"] == model].iloc[0]
            cells += [_shown(first, "seconds", "{:.0f} s"), _shown(first, "peak_gb", "{:.1f} GB")]
            lines.append(f"| `{model}` | {' | '.join(cells)} |")
        pieces.append("\n".join(lines))
    return "\n\n".join(pieces)


def _cell(rows: pd.DataFrame, split: str, set_name: str, model: str) -> str:
    chosen = rows[(rows["split"] == split) & (rows["set"] == set_name)]
    mae = chosen.set_index("model")["mae"]
    if model not in mae.index or np.isnan(mae[model]):
        return "–"
    shown = f"{mae[model]:.3f}"
    return f"**{shown}**" if shown == f"{mae.min():.3f}" else shown


def _shown(row: pd.Series, column: str, form: str) -> str:
    value = row.get(column, np.nan)
    return "–" if pd.isna(value) else form.format(value)


def put_between(text: str, table: str) -> str:
    r"""The text with the table between the two marks.

    Raises
    ------
    SystemExit
        It does not have both marks, once each.

    Examples
    --------
    >>> put_between(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb\n"
    True
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"The README must hold {BEGIN} and {END}, once each.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"
