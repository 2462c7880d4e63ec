"""The paper's two tables, of any Dataset: a row per point, with the paper's own numbers beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgex.errors import DataError
from dgex.evaluation.metrics import improvement, win_rate
from dgex.evaluation.tables import Evaluation
from dgex.reproduction.grid import Point
from dgex.reproduction.paper import MICROARRAYS, RNASEQ, paper_number
from dgex.reproduction.points import failure_of, scores_folder

_QUANTITIES = ("mae", "mae_sd", "improvement_over_ols_percent", "genes_won_over_ols_percent")
_SCORES = (
    "n_profiles",
    "n_targets",
    *_QUANTITIES[:2],
    "rmse",
    "median_r",
    *_QUANTITIES[2:],
    "n_same_gene",
    "mae_other_genes",
)


@dataclass(frozen=True)
class Results:
    """What came out of the points.

    Attributes
    ----------
    points
        All points of the grid.
    failures
        Why points failed, by name.
    scores
        A row per point, choice of weights and set: ``point``, ``weights``, ``set`` and the
        scores of `dgex.evaluation.tables.Evaluation`.
    select_on
        External set on which nets were chosen for the other external sets, or None.
    """

    points: list[Point]
    failures: dict[str, str]
    scores: pd.DataFrame
    select_on: str | None

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        rows: list[dict[Any, Any]] = self.scores.to_dict("records")
        return {(row["point"], row["weights"], row["set"]): row for row in rows}

    def chooser(self, set_name: str) -> str:
        """The set that chooses the net, its epoch too, for the errors on `set_name`."""
        if self.select_on is None or set_name in ("train", "validation", "test"):
            return "validation"
        return self.select_on

    def score(self, point: Point, set_name: str) -> dict[str, Any] | None:
        """Scores of a point on a set, of a net with the weights that the chooser chose.

        None where the point failed.
        """
        weights = self.chooser(set_name) if point.kind == "dgex" else "validation"
        return self._rows.get((point.name, weights, set_name))

    def chosen_net(self, set_name: str) -> Point | None:
        """The net that the chooser of `set_name` finds best; None where no net was scored."""
        chooser = self.chooser(set_name)
        errors = {
            point: self._rows[point.name, chooser, chooser]["mae"]
            for point in self.points
            if point.kind == "dgex" and point.name not in self.failures
        }
        return min(errors, key=errors.__getitem__) if errors else None


def gather(out: Path, points: list[Point], select_on: str | None) -> Results:
    """Read the scores of all points and compare them with OLS.

    Raises
    ------
    DataError
        A file of scores is damaged, or OLS has none.
    """
    failures = {point.name: failure_of(out, point) for point in points}
    failed = {name: reason for name, reason in failures.items() if reason is not None}
    if "ols" in failed:
        raise DataError(
            f"OLS failed, and every table compares with it: {failed['ols']} Then run this again."
        )
    ols = _scores(out, Point("ols"), "validation").genes.set_index("set")["mae"]
    mae_ols = {str(name): np.array(ols.loc[[name]]) for name in ols.index.unique()}
    tables = []
    for point in points:
        if point.name in failed:
            continue
        choices = ["validation"]
        if select_on is not None and point.kind == "dgex":
            choices.append(select_on)
        for weights in choices:
            scores = _with_ols(_scores(out, point, weights), mae_ols)
            scores.insert(0, "point", point.name)
            scores.insert(1, "weights", weights)
            tables.append(scores)
    return Results(points, failed, pd.concat(tables, ignore_index=True), select_on)


def _scores(out: Path, point: Point, weights: str) -> Evaluation:
    folder = scores_folder(out, point, weights)
    try:
        return Evaluation.load(folder)
    except DataError as error:
        raise DataError(f"{error} Remove {folder}; the next call scores it.") from error


def _with_ols(evaluation: Evaluation, mae_ols: Mapping[str, np.ndarray]) -> pd.DataFrame:
    scores = evaluation.summary[["set", *_SCORES]].copy()
    for row, set_name in enumerate(scores["set"]):
        genes = evaluation.genes
        mae_t = genes.loc[genes["set"] == set_name, "mae"].to_numpy()
        mae_ols_t = mae_ols[set_name]
        better = improvement(float(mae_t.mean()), float(mae_ols_t.mean()))
        scores.loc[row, "improvement_over_ols_percent"] = better
        scores.loc[row, "genes_won_over_ols_percent"] = 100.0 * win_rate(mae_t, mae_ols_t)
    return scores


def paper_table_of(set_name: str) -> str | None:
    """Which table of the paper belongs to a set: the microarrays' to test, RNA-seq's to gtex.

    Examples
    --------
    >>> paper_table_of("test"), paper_table_of("GTEx"), paper_table_of("cohort")
    ('geo', 'gtex', None)
    """
    return {"test": MICROARRAYS, "gtex": RNASEQ}.get(set_name.lower())


def table_of(results: Results, set_name: str) -> pd.DataFrame:
    """The paper's table for a set: a row per point, failed ones included.

    Columns: ``method``, ``hidden_layers``, ``hidden_units``, ``dropout`` (share; empty for
    baselines), ``chosen`` (the net that validation, or the set nets were selected on, finds best),
    the scores (NaN where the point failed), ``paper_…`` (the paper's own number for this
    point, where one is known), ``paper_source`` and ``failed`` (why, or empty).
    """
    chosen, paper_table = results.chosen_net(set_name), paper_table_of(set_name)
    rows = []
    for point in results.points:
        row: dict[str, Any] = {
            "method": point.kind,
            "hidden_layers": point.hidden_layers,
            "hidden_units": point.hidden_units,
            "dropout": point.dropout,
            "chosen": point == chosen,
        }
        scores = results.score(point, set_name) or {}
        row |= {column: scores.get(column) for column in _SCORES}
        sources = []
        for quantity in _QUANTITIES:
            known = paper_number(paper_table, point, quantity) if paper_table else None
            row[f"paper_{quantity}"] = known[0] if known else None
            sources += [known[1]] if known else []
        row["paper_source"] = "; ".join(dict.fromkeys(sources))
        row["failed"] = results.failures.get(point.name, "")
        rows.append(row)
    whole = ("hidden_layers", "hidden_units", "n_profiles", "n_targets", "n_same_gene")
    texts = ("method", "chosen", "paper_source", "failed")
    table = pd.DataFrame(rows)
    # A failed point has no numbers, which would make columns of any objects of these.
    kinds = {name: "Int64" if name in whole else "float64" for name in rows[0] if name not in texts}
    return table.astype(kinds)
