"""The figures of a reproduction, with their headings and captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from dgex.config import ModelKind
from dgex.evaluation.grids import density_figure, scatter_figure, training_figure
from dgex.evaluation.tables import Evaluation
from dgex.models.bundle import LOG_FILE
from dgex.reproduction.effects import effect_figure
from dgex.reproduction.grid import BASELINES, Point
from dgex.reproduction.points import models_folder, scores_folder
from dgex.reproduction.sentences import net_text
from dgex.reproduction.tables import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NET = "D-GEX"
"""Name of the chosen net in figures; baselines have the paper's names."""


class Shown(NamedTuple):
    """A figure of the report."""

    heading: str
    caption: str
    figure: Figure


def figures_of(results: Results, out: Path, tables: dict[str, pd.DataFrame]) -> dict[str, Shown]:
    """Density of errors, gene by gene, training, width and depth, dropout; by name.

    Without a net that was trained there is only the density of the baselines.

    Parameters
    ----------
    results
        The scores.
    out
        Folder of the reproduction.
    tables
        The table of each set that is shown.
    """
    evaluation = compared_methods(results, out, list(tables))
    figures = {
        "density": Shown(
            "Error per gene",
            "Density over targets of the mean absolute error, by method; further left is better. "
            "The axis ends at the 99.8th percentile of all genes shown.",
            density_figure(evaluation),
        )
    }
    chosen = results.chosen_net("test")
    if chosen is None:
        return figures
    references: tuple[ModelKind, ...] = ("ols", "gene-knn")
    for reference in references:
        name = BASELINES[reference]
        if name in evaluation.info["models"]:
            figures[f"scatter-{reference}"] = Shown(
                f"{NET} against {name}",
                f"Each dot is a target: its mean absolute error under the chosen net (up) against "
                f"{name} (across). Below the line the net is better. The axes end at the 99.8th "
                "percentile.",
                scatter_figure(evaluation, NET, name),
            )
    logs = _logs(results, out, chosen)
    first = ["train", "validation", *tables]
    choosers = {name: results.chooser(name) for name in results.scores["set"].unique()}
    other = results.select_on
    for_externals = "" if other is None else f"; for external sets on {other}"
    figures["training"] = Shown(
        "Error over epochs",
        f"Mean absolute error of each set after each epoch of the nets of {chosen.hidden_layers} × "
        f"{chosen.hidden_units}, by dropout. The dot marks the epoch that was kept: the one of the "
        f"lowest error on validation{for_externals}.",
        training_figure(logs, dict.fromkeys(logs, "dgex"), first, choosers),
    )
    figures["width"] = Shown(
        "Width and depth",
        "Mean absolute error by units and number of hidden layers, at the dropout of the net "
        "chosen for the set.",
        effect_figure(tables, "hidden_units"),
    )
    figures["dropout"] = Shown(
        "Dropout",
        "Mean absolute error by dropout and number of hidden layers, at the number of units of the "
        "net chosen for the set.",
        effect_figure(tables, "dropout"),
    )
    return figures


def compared_methods(results: Results, out: Path, sets: list[str]) -> Evaluation:
    """Errors per gene of the baselines and, as `NET`, of the net chosen for each set."""
    tables, counts = [], {}
    baselines = [Point(kind) for kind in BASELINES if kind != "mean"]
    methods = {
        BASELINES[point.kind]: point for point in baselines if point.name not in results.failures
    }
    for set_name in sets:
        shown = {name: (point, "validation") for name, point in methods.items()}
        chosen = results.chosen_net(set_name)
        if chosen is not None:
            shown[NET] = chosen, results.chooser(set_name)
        for name, (point, weights) in shown.items():
            evaluation = Evaluation.load(scores_folder(out, point, weights))
            genes = evaluation.genes[evaluation.genes["set"] == set_name]
            tables.append(genes.assign(model=name))
            counts[set_name] = evaluation.info["sets"][set_name]
    genes = pd.concat(tables, ignore_index=True)
    kinds = {
        name: methods[name].kind if name in methods else "dgex" for name in genes["model"].unique()
    }
    return Evaluation(pd.DataFrame(), genes, {"models": kinds, "sets": counts})


def _logs(results: Results, out: Path, chosen: Point) -> dict[str, pd.DataFrame]:
    return {
        net_text(point).partition(", ")[2]: pd.read_csv(
            models_folder(out) / point.name / LOG_FILE, sep="\t"
        )
        for point in results.points
        if point.name not in results.failures
        and (point.hidden_layers, point.hidden_units) == (chosen.hidden_layers, chosen.hidden_units)
    }
