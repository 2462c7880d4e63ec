"""The report of an evaluation: its tables and figures on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgex.data.split import SPLITS
from dgex.errors import UsageError
from dgex.evaluation.grids import density_figure, r_figure, scatter_figure, training_figure
from dgex.evaluation.tables import Evaluation
from dgex.evaluation.verdict import best_first, compared_models, sets_main_first, verdict
from dgex.page import figure_block, run_lines, save_figure, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GENES_LISTED = 10

# Column, heading, format, and whether the best value is the lowest or the highest; the columns
# that compare with OLS mark no best, since the best may still be a loss.
_COLUMNS = (
    ("mae", "MAE ± SD", "{:.4f}", "min"),
    ("rmse", "RMSE", "{:.4f}", "min"),
    ("median_r", "Median r", "{:.3f}", "max"),
    ("improvement_over_ols_percent", "MAE below OLS (%)", "{:+.1f}", ""),
    ("genes_won_over_ols_percent", "Genes won (%)", "{:.1f}", ""),
    ("mae_other_genes", "MAE, other genes", "{:.4f}", "min"),
)

_CAPTIONS = {
    "density": (
        "Error per gene",
        "Density over targets of the mean absolute error, by model; further left is better. The "
        "axis ends at the 99.8th percentile of all genes shown.",
    ),
    "scatter": (
        "Gene by gene",
        "Each dot is a target: its mean absolute error under {model} (up) against {reference} "
        "(across). Below the line {model} is better. The axes end at the 99.8th percentile.",
    ),
    "r": (
        "Correlation per gene",
        "Share of targets whose correlation between measured and inferred expression is at least "
        "the value across, by model; further right is better.",
    ),
    "training": (
        "Training",
        "Mean absolute error of each set after each epoch. The dot marks the epoch that was kept, "
        "the one of the lowest error on validation.",
    ),
}


def make_figures(
    evaluation: Evaluation, training_logs: Mapping[str, pd.DataFrame]
) -> dict[str, Figure]:
    """The figures of the report, by name: density, scatter, r and training.

    Scatter needs two models, r a gene that has one, training a log; where there is none the
    figure is left out.

    Parameters
    ----------
    evaluation
        The scores to draw.
    training_logs
        Model to training log, as `dgex.evaluation.figures.draw_training` takes it.

    Examples
    --------
    >>> summary = pd.DataFrame({"model": ["ols"], "set": "test", "mae": [0.3]})
    >>> genes = pd.DataFrame({"model": "ols", "set": "test", "gene": ["a", "b"],
    ...                       "mae": [0.2, 0.4], "r": [0.9, 0.7]})
    >>> info = {"models": {"ols": "ols"}, "sets": {"test": {"n_profiles": 60}}}
    >>> list(make_figures(Evaluation(summary, genes, info), {}))
    ['density', 'r']
    """
    evaluation = evaluation.as_prepared()
    figures = {"density": density_figure(evaluation)}
    pair = compared_models(evaluation)
    if pair is not None:
        figures["scatter"] = scatter_figure(evaluation, *pair)
    if evaluation.genes["r"].notna().any():
        figures["r"] = r_figure(evaluation)
    if training_logs:
        order = ["train", *evaluation.info["sets"]]
        figures["training"] = training_figure(training_logs, evaluation.info["models"], order)
    return figures


def save_figures(
    evaluation: Evaluation, training_logs: Mapping[str, pd.DataFrame], directory: Path
) -> dict[str, Figure]:
    """Write every figure as PNG and SVG into `directory`; returns them for `write_report`.

    Raises
    ------
    DataError
        The disk is full, or the folder may not be written.

    Examples
    --------
    >>> import tempfile
    >>> summary = pd.DataFrame({"model": ["ols"], "set": "test", "mae": [0.3]})
    >>> genes = pd.DataFrame({"model": "ols", "set": "test", "mae": [0.2, 0.4], "r": [0.9, 0.7]})
    >>> info = {"models": {"ols": "ols"}, "sets": {"test": {"n_profiles": 60}}}
    >>> folder = Path(tempfile.mkdtemp())
    >>> figures = save_figures(Evaluation(summary, genes, info), {}, folder)
    >>> sorted(file.name for file in folder.iterdir())
    ['density.png', 'density.svg', 'r.png', 'r.svg']
    """
    figures = make_figures(evaluation, training_logs)
    for name, figure in figures.items():
        save_figure(figure, Path(directory), name)
    return figures


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str,
    figures: Mapping[str, Figure] | None = None,
    training_logs: Mapping[str, pd.DataFrame] | None = None,
    run: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Write the report as one HTML file.

    Parameters
    ----------
    evaluation
        The scores.
    path
        The file to write.
    title
        Heading of the report.
    figures
        What `save_figures` gave, so as not to draw twice; drawn here where None.
    training_logs
        Model to training log: columns epoch, learning_rate, seconds and mae_<set>.
    run
        What was run, name to value; a mapping as value is a group of such lines.
    notes
        What the reader should know besides, a sentence each: dropped genes, filled values.

    Raises
    ------
    UsageError
        A figure's name is not one of `make_figures`.
    DataError
        The disk is full, or the folder may not be written.

    Examples
    --------
    >>> import tempfile
    >>> scores = {"mae": 0.3, "rmse": 0.4, "r": 0.9}
    >>> genes = pd.DataFrame([{"model": "ols", "set": "test", "gene": "g1", "symbol": "TP53",
    ...                        "same_gene": False, **scores}])
    >>> summary = pd.DataFrame([{"model": "ols", "kind": "ols", "set": "test", "n_profiles": 60,
    ...     "moments": "training", "n_targets": 1,
    ...     "mae": 0.3, "mae_sd": 0.0, "rmse": 0.4, "median_r": 0.9,
    ...     "improvement_over_ols_percent": 0.0, "genes_won_over_ols_percent": 0.0,
    ...     "n_same_gene": 0, "mae_other_genes": 0.3}])
    >>> counts = {"n_profiles": 60, "n_targets": 1, "n_targets_absent": 0, "n_landmarks_absent": 0}
    >>> info = {"dataset": "tiny", "protocol": "strict", "fingerprint": "f00", "n_landmarks": 1,
    ...         "n_targets": 1, "n_same_gene": 0, "reference": "ols", "models": {"ols": "ols"},
    ...         "sets": {"test": counts}}
    >>> path = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(Evaluation(summary, genes, info), path, title="Tiny", run={"seed": 0})
    >>> "<h1>Tiny</h1>" in path.read_text("utf-8")
    True
    """
    logs = dict(training_logs or {})
    drawn = make_figures(evaluation, logs) if figures is None else figures
    unknown = [name for name in drawn if name not in _CAPTIONS]
    if unknown:
        raise UsageError(f"There is no figure {unknown[0]}. Known are {', '.join(_CAPTIONS)}.")
    table = _score_table(evaluation, columns := _columns_shown(evaluation))
    evaluation = evaluation.as_prepared()
    main, *others = sets_main_first(evaluation)
    best = best_first(evaluation, main).iloc[0]
    write_page(
        Path(path),
        "report.html.jinja",
        title=title,
        info=evaluation.info,
        headline=verdict(evaluation, main),
        verdicts=[verdict(evaluation, name) for name in others],
        headings={name: heading for name, heading, _, _ in columns},
        table=table,
        figures=[_figure_block(evaluation, name, figure) for name, figure in drawn.items()],
        training=_training_rows(logs),
        best_model=best["model"],
        main_set=main,
        gene_tables=_gene_tables(evaluation, str(best["model"]), main),
        run=run_lines(run),
        notes=list(notes),
    )


def _columns_shown(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    empty = {name for name, *_ in _COLUMNS if evaluation.summary[name].isna().all()}
    if len(evaluation.info["models"]) == 1:
        empty |= {name for name, *_ in _COLUMNS if "over_ols" in name}
    if not evaluation.summary["n_same_gene"].any():
        empty.add("mae_other_genes")
    return [column for column in _COLUMNS if column[0] not in empty]


def _score_table(
    evaluation: Evaluation, columns: Sequence[tuple[str, str, str, str]]
) -> list[dict[str, Any]]:
    """A group per set and moments: its counts, and per model a list of (text, whether best).

    Models that learned from the set are not marked as best.
    """
    groups = []
    for (set_name, moments), rows in evaluation.summary.groupby(["set", "moments"], sort=False):
        counts = evaluation.info["sets"][set_name]
        shown: list[dict[str, Any]] = [
            {"model": model, "kind": kind, "cells": []}
            for model, kind in zip(rows["model"], rows["kind"], strict=True)
        ]
        compared = rows["model"].isin(best_first(evaluation, str(set_name))["model"]).to_numpy()
        for name, _, form, direction in columns:
            values = rows[name].to_numpy(float)
            known = values[~np.isnan(values) & compared]
            marked = direction and len(known) and len(rows) > 1
            best = getattr(known, direction)() if marked else None
            for row, value, sd, held_out in zip(
                shown, values, rows["mae_sd"], compared, strict=True
            ):
                text = "–" if math.isnan(value) else form.format(value).replace("-", "−")
                if row["model"] == evaluation.info["reference"] and "over_ols" in name:
                    text = "–"
                if name == "mae":
                    text += f" ± {sd:.4f}"
                row["cells"].append((text, held_out and value == best))
        external = set_name not in SPLITS
        whose = f"by {'its own' if moments == 'own' else 'training'} moments" if external else ""
        groups.append({"set": set_name, "whose": whose, "counts": counts, "rows": shown})
    return groups


def _gene_tables(
    evaluation: Evaluation, model: str, set_name: str
) -> list[tuple[str, list[dict[str, Any]]]]:
    genes = evaluation.genes
    genes = genes[(genes["model"] == model) & (genes["set"] == set_name)]
    ranked = genes.sort_values(["mae", "gene"], kind="stable")
    # No gene in both lists, however few there are.
    n = max(1, min(_GENES_LISTED, len(ranked) // 2))
    return [
        ("Best inferred", _gene_rows(ranked.head(n))),
        ("Hardest", _gene_rows(ranked.tail(n).iloc[::-1])),
    ]


def _gene_rows(genes: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "symbol": row["symbol"] or "–",
            "gene": row["gene"],
            "same_gene": bool(row["same_gene"]),
            "mae": f"{row['mae']:.4f}",
            "r": "–" if math.isnan(row["r"]) else f"{row['r']:.3f}".replace("-", "−"),
        }
        for row in genes.to_dict("records")
    ]


def _training_rows(logs: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    rows = []
    for name, log in logs.items():
        if log.empty:
            continue
        kept, best = "–", "–"
        if "mae_validation" in log and log["mae_validation"].notna().any():
            position = int(np.nanargmin(log["mae_validation"].to_numpy()))
            kept = str(log["epoch"].iloc[position])
            best = f"{log['mae_validation'].iloc[position]:.4f}"
        rows.append(
            {
                "model": name,
                "epochs": str(len(log)),
                "kept": kept,
                "validation": best,
                "learning_rate": f"{log['learning_rate'].iloc[-1]:.2g}",
                "seconds": f"{log['seconds'].sum():,.0f}",
            }
        )
    return rows


def _figure_block(evaluation: Evaluation, name: str, figure: Figure) -> dict[str, str]:
    heading, caption = _CAPTIONS[name]
    pair = compared_models(evaluation)
    if name == "scatter" and pair is not None:
        caption = caption.format(model=pair[0], reference=pair[1])
    return figure_block(name, heading, caption, figure)
