"""The curves of the accuracy benchmark: over training profiles, and over the size of the panel.

All points of a curve that share compendium and seed are scored on the same held-out patients and on
the same genes, those that all of them infer, in the same units: standard deviations of the gene
over all training profiles.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from accuracy_cases import LEARNING_MODELS, PANEL_MODELS, Case, Plan
from accuracy_table import Points, Row

from dgex.data.normalise import SD_OFFSET


def learning_rows(points: Points, plan: Plan) -> list[Row]:
    """Rows of the learning curve."""
    models = plan.chosen(LEARNING_MODELS)
    genes = common_genes(points, plan.learning(), models)
    rows: list[Row] = []
    for compendium in plan.compendia:
        for model in models:
            for n in (*plan.learning_sizes, 0):
                cases = [Case(compendium, "patients", s, profiles=n) for s in plan.curve_seeds]
                row: Row = {"compendium": compendium, "profiles": n or "all", "model": model}
                rows.append(row | _scores(points, cases, model, genes, "n_train"))
    return rows


def panel_rows(points: Points, plan: Plan) -> list[Row]:
    """Rows of the panel curve; the panels of one seed share the genes that none of them holds."""
    models = plan.chosen(PANEL_MODELS)
    genes = common_genes(points, plan.panels(), models)
    rows: list[Row] = []
    for compendium in plan.compendia:
        cases_of: dict[tuple[str, int], list[Case]] = {}
        for case in plan.panels():
            if case.compendium == compendium:
                kind = case.panel or "l1000"
                cases_of.setdefault((kind, case.landmarks), []).append(case)
        for model in models:
            for (kind, size), cases in cases_of.items():
                row: Row = {"compendium": compendium, "panel": kind, "model": model}
                row["landmarks"] = size or "all"
                rows.append(row | _scores(points, cases, model, genes, "n_landmarks"))
    return rows


def common_genes(
    points: Points, cases: list[Case], models: list[str]
) -> dict[tuple[str, int], np.ndarray]:
    """Genes that all cases of a compendium and seed infer.

    A seed of which a case has no point yet has none: its genes are not known.
    """
    lists: dict[tuple[str, int], list[np.ndarray | None]] = {}
    for case in cases:
        known = [point for model in models if (point := points.get(case, model)) is not None]
        one = known[0].arrays["gene"] if known else None
        lists.setdefault((case.compendium, case.seed), []).append(one)
    common = {}
    for key, genes in lists.items():
        whole = [one for one in genes if one is not None]
        if len(whole) == len(genes):
            common[key] = in_all(whole)
    return common


def in_all(lists: list[np.ndarray]) -> np.ndarray:
    """Those that are in all lists, in the order of the first.

    Examples
    --------
    >>> in_all([np.array(["c", "a", "b"]), np.array(["b", "c"])]).tolist()
    ['c', 'b']
    """
    common = lists[0]
    for one in lists[1:]:
        common = common[np.isin(common, one)]
    return common


def _scores(
    points: Points,
    cases: list[Case],
    model: str,
    genes: dict[tuple[str, int], np.ndarray],
    size: str,
) -> Row:
    """Size and MAE on test over the seeds that have this point."""
    maes: dict[int, float] = {}
    row: Row = {size: None, "genes": None}
    for case in cases:
        point, base = points.get(case, model), points.get(case.base, model)
        common = genes.get((case.compendium, case.seed))
        if point is None or base is None or common is None:
            continue
        maes[case.seed] = rescaled_mae(
            pd.Series(point.arrays["test:mae"], point.arrays["gene"])[common],
            pd.Series(point.arrays["sd"], point.arrays["gene"])[common],
            pd.Series(base.arrays["sd"], base.arrays["gene"])[common],
        )
        row |= {size: point.run[size], "genes": len(common)}
    row["seeds"] = " ".join(map(str, sorted(maes)))
    row["missing"] = " ".join(str(case.seed) for case in cases if case.seed not in maes)
    if maes:
        values = list(maes.values())
        row |= {"mae": float(np.mean(values)), "least": min(values), "greatest": max(values)}
    return row


def rescaled_mae(mae_t: pd.Series, sd_t: pd.Series, sd_unit_t: pd.Series) -> float:
    """Mean over genes of an MAE in z-scores of one training set, in z-scores of another.

    Examples
    --------
    >>> genes = ["a", "b"]
    >>> round(rescaled_mae(*(pd.Series(x, genes) for x in ([0.5, 0.4], [1, 3], [2, 2]))), 3)
    0.425
    """
    return float((mae_t * (sd_t + SD_OFFSET) / (sd_unit_t + SD_OFFSET)).mean())
