"""The report of a reproduction: the paper's tables and figures on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dgex.config import ReproduceConfig
from dgex.data.dataset import Dataset
from dgex.data.record import is_simulated
from dgex.evaluation.evaluate import same_gene_t
from dgex.evaluation.interpretation import Interpretation, interpret
from dgex.models.bundle import Bundle
from dgex.page import figure_block, run_lines, save_figure, write_page
from dgex.provenance import versions
from dgex.reproduction.figures import figures_of
from dgex.reproduction.grid import BASELINES, epochs_of
from dgex.reproduction.paper import paper_numbers
from dgex.reproduction.points import models_folder
from dgex.reproduction.sentences import finding, net_text, same_gene_text
from dgex.reproduction.tables import Results, paper_table_of

_UNCONFIRMED = "not confirmed"


def write_report(
    results: Results,
    tables: Mapping[str, pd.DataFrame],
    dataset: Dataset,
    out: Path,
    config: ReproduceConfig,
) -> None:
    """Write ``figures/``, ``interpretation/`` and ``report.html``.

    Parameters
    ----------
    results
        The scores.
    tables
        The table of each set that is shown.
    dataset
        What the points were trained on.
    out
        Folder of the reproduction.
    config
        Its options.
    """
    figures = figures_of(results, out, dict(tables))
    chosen = results.chosen_net("test")
    learned: Interpretation | None = None
    if chosen is not None:
        bundle = Bundle.load(models_folder(out) / chosen.name)
        learned = interpret(
            bundle, dataset, out / "interpretation", seed=config.seed, device=config.device
        )
    blocks = []
    for name, (heading, caption, figure) in figures.items():
        save_figure(figure, out / "figures", name)
        blocks.append(figure_block(name, heading, caption, figure))
    learned_blocks = []
    if learned is not None:
        for name, figure in learned.figures.items():
            save_figure(figure, out / "figures", name)
            heading, caption = learned.captions[name]
            learned_blocks.append(figure_block(name, heading, caption, figure))
    title = f"dgex: the tables and figures of D-GEX on {dataset.name}"
    simulated = is_simulated(dataset.notes)
    write_page(
        out / "report.html",
        "reproduction.html.jinja",
        title=f"SIMULATED profiles. {title}" if simulated else title,
        info={
            "dataset": dataset.name,
            "protocol": dataset.protocol,
            "fingerprint": dataset.fingerprint,
            "n_landmarks": len(dataset.landmarks),
            "n_targets": len(dataset.targets),
            "n_same_gene": int(same_gene_t(dataset).sum()),
        },
        headline=finding(results, "test"),
        verdicts=[
            *(finding(results, name) for name in tables if name != "test"),
            *(same_gene_text(results, name) for name in tables),
        ],
        tables=[_table(table, results, name) for name, table in tables.items()],
        figures=blocks,
        interpretation=learned_blocks,
        findings=[] if learned is None else learned.findings,
        chosen="" if chosen is None else net_text(chosen),
        failures=list(results.failures.items()),
        sources=sorted(set(paper_numbers()["source"])),
        run=run_lines(_what_was_run(dataset, config, results)),
        notes=dataset.notes,
    )


def _table(table: pd.DataFrame, results: Results, set_name: str) -> dict[str, Any]:
    """A table as the template takes it: rows of baselines, then a group of rows per dropout."""
    rows = table.to_dict("records")
    baselines = [row for row in rows if row["method"] != "dgex"]
    nets = [row for row in rows if row["method"] == "dgex"]
    best = min((row["mae"] for row in nets if not row["failed"]), default=math.nan)
    cells = {
        (row["dropout"], row["hidden_layers"], row["hidden_units"]): _cell(row, best)
        for row in nets
    }
    dropouts, layers, units = (
        [*dict.fromkeys(sorted(values))] for values in zip(*cells, strict=True)
    )
    return {
        "set": set_name,
        "n_profiles": int(table["n_profiles"].max()),
        "n_targets": int(table["n_targets"].max()),
        "chooser": results.chooser(set_name),
        "paper": paper_table_of(set_name),
        "with_same_gene": bool(table["n_same_gene"].max()),
        "baselines": [
            {
                "name": row["method"],
                "paper_name": BASELINES[row["method"]],
                "cell": _cell(row, best),
                "paper": _paper(row),
            }
            for row in baselines
        ],
        "units": units,
        "groups": [
            {
                "dropout": f"{100 * share:g}",
                "rows": [
                    {"layers": n, "cells": [cells[share, n, width] for width in units]}
                    for n in layers
                ],
            }
            for share in dropouts
        ],
    }


def _cell(row: Mapping[Any, Any], best: float) -> dict[str, Any]:
    if row["failed"]:
        return {"failed": row["failed"], "paper": _paper(row)}
    return {
        "failed": "",
        "mae": f"{row['mae']:.4f} ± {row['mae_sd']:.4f}",
        "other_genes": _number(row["mae_other_genes"], "{:.4f}"),
        "improvement": _number(row["improvement_over_ols_percent"], "{:+.2f}"),
        "won": _number(row["genes_won_over_ols_percent"], "{:.2f}"),
        "best": row["mae"] == best,
        "chosen": bool(row["chosen"]),
        "paper": _paper(row),
    }


def _paper(row: Mapping[Any, Any]) -> str:
    """The paper's number, with its deviation and percentages where they are known."""
    if math.isnan(row["paper_mae"]):
        return ""
    text = f"{row['paper_mae']:.4f}"
    if _UNCONFIRMED in row["paper_source"]:
        text += "*"
    if not math.isnan(row["paper_mae_sd"]):
        text += f" ± {row['paper_mae_sd']:.4f}"
    if not math.isnan(row["paper_improvement_over_ols_percent"]):
        text += (
            f" ({row['paper_improvement_over_ols_percent']:+.2f} %, "
            f"{row['paper_genes_won_over_ols_percent']:.2f} % of genes)"
        )
    return text


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value).replace("-", "−")


def _what_was_run(dataset: Dataset, config: ReproduceConfig, results: Results) -> dict[str, Any]:
    return {
        "Dataset": {
            "folder": str(dataset.path),
            "protocol": dataset.protocol,
            **{f"profiles of {name}": dataset[name].n for name in dataset.sets},
        },
        "Grid": {
            "points": len(results.points),
            "failed": len(results.failures),
            "epochs": epochs_of(config),
            "nets for other external sets chosen on": results.select_on,
            "seed": config.seed,
            "precision of the nets' products": config.precision,
        },
        "Versions": versions(),
    }
