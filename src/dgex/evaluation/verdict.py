"""Which model is best, in plain words, and whether it beats OLS."""

from __future__ import annotations

import pandas as pd

from dgex.errors import name_list
from dgex.evaluation.tables import Evaluation


def verdict(evaluation: Evaluation, set_name: str) -> str:
    """One or two sentences: which model is best on a set, and whether it beats OLS.

    Examples
    --------
    >>> rows = {"model": ["ols", "net"], "kind": ["ols", "dgex"], "set": "test", "n_profiles": 60,
    ...         "n_targets": 9, "mae": [0.5, 0.4], "genes_won_over_ols_percent": [0.0, 88.9]}
    >>> evaluation = Evaluation(pd.DataFrame(rows), pd.DataFrame(), {"reference": "ols"})
    >>> verdict(evaluation, "test")
    'On test (60 profiles, 9 targets) net is best: MAE 0.4000, 20.0 % lower than OLS (0.5000), \
and lower for 88.9 % of the targets.'
    """
    text = _verdict(evaluation, set_name)
    ranked = evaluation.info.get("ranked")
    others = [name for name in evaluation.info.get("models", {}) if ranked and name not in ranked]
    if not others:
        return text
    return (
        f"{text} Not ranked, as their targets or training profiles are others: {name_list(others)}."
    )


def _verdict(evaluation: Evaluation, set_name: str) -> str:
    ranked = best_first(evaluation, set_name)
    best = ranked.iloc[0]
    reference = evaluation.info["reference"]
    profiles = count(best["n_profiles"], "profile")
    where = f"On {set_name} ({profiles}, {count(best['n_targets'], 'target')})"
    if reference is None:
        text = f"{best['model']} has the lowest MAE, {best['mae']:.4f}"
        if len(ranked) == 1:
            text = f"{best['model']} has MAE {best['mae']:.4f}"
        return f"{where} {text}; no OLS was evaluated to compare it with."
    ols = ranked[ranked["model"] == reference].iloc[0]
    if len(ranked) == 1:
        return f"{where} OLS has MAE {ols['mae']:.4f}; no other model was evaluated."
    if best["mae"] < ols["mae"]:
        return f"{where} {_victory(best, ols)}"
    rest = ranked[ranked["model"] != reference].iloc[0]
    if rest["mae"] == ols["mae"]:
        return f"{where} no model beats OLS: {rest['model']} has the same MAE, {ols['mae']:.4f}."
    return (
        f"{where} no model beats OLS (MAE {ols['mae']:.4f}): the next best, {rest['model']}, is "
        f"{_compared(rest['mae'], ols['mae'])} ({rest['mae']:.4f})."
    )


def _victory(best: pd.Series, ols: pd.Series) -> str:
    compared = f"{_compared(best['mae'], ols['mae'])} than OLS ({ols['mae']:.4f})"
    if best["kind"] == "mean":
        return (
            "no trained model is better than giving every gene its mean "
            f"({best['model']}): MAE {best['mae']:.4f}, {compared}."
        )
    won = float(best["genes_won_over_ols_percent"])
    joint = "and lower for" if won > 50 else "but lower for only"
    return (
        f"{best['model']} is best: MAE {best['mae']:.4f}, {compared}, "
        f"{joint} {won:.1f} % of the targets."
    )


def compared_models(evaluation: Evaluation) -> tuple[str, str] | None:
    """The two models that the scatter compares, or None where there is only one.

    The best model of the test set (of the first set, where there is no test) against OLS; the next
    best where OLS is best; the two best where there is no OLS.

    Examples
    --------
    >>> summary = pd.DataFrame({"model": ["ols", "net"], "set": "test", "mae": [0.5, 0.4]})
    >>> info = {"reference": "ols", "sets": {"test": {}}}
    >>> compared_models(Evaluation(summary, pd.DataFrame(), info))
    ('net', 'ols')
    """
    ranked = list(best_first(evaluation, sets_main_first(evaluation)[0])["model"])
    if len(ranked) == 1:
        return None
    reference = evaluation.info["reference"]
    if reference is None:
        return ranked[0], ranked[1]
    return next(name for name in ranked if name != reference), reference


def sets_main_first(evaluation: Evaluation) -> list[str]:
    """Names of the sets, the test set first where there is one.

    Examples
    --------
    >>> info = {"sets": {"validation": {}, "test": {}, "gtex": {}}}
    >>> sets_main_first(Evaluation(pd.DataFrame(), pd.DataFrame(), info))
    ['test', 'validation', 'gtex']
    """
    return sorted(evaluation.info["sets"], key=lambda name: name != "test")


def best_first(evaluation: Evaluation, set_name: str) -> pd.DataFrame:
    """Rows of the summary for one set, the lowest MAE first, of models of the same targets.

    A model that learned from the set is left out, unless all did.

    Examples
    --------
    >>> summary = pd.DataFrame({"model": ["ols", "net"], "set": "test", "mae": [0.5, 0.4]})
    >>> list(best_first(Evaluation(summary, pd.DataFrame(), {}), "test")["model"])
    ['net', 'ols']
    """
    rows = evaluation.summary[evaluation.summary["set"] == set_name]
    ranked = evaluation.info.get("ranked")
    if ranked is not None:
        rows = rows[rows["model"].isin(ranked)]
    learned = evaluation.info.get("learned_from", {})
    held_out = [
        set_name not in learned.get(model, ()) or model == evaluation.info.get("reference")
        for model in rows["model"]
    ]
    if any(held_out):
        rows = rows[held_out]
    return rows.sort_values("mae", kind="stable")


def _compared(mae: float, reference: float) -> str:
    direction = "lower" if mae < reference else "higher"
    if reference == 0:
        return direction
    difference = 100.0 * abs(reference - mae) / reference
    return f"{'less than 0.1' if difference < 0.05 else f'{difference:.1f}'} % {direction}"


def count(n: int, what: str) -> str:
    """A number of things in words.

    Examples
    --------
    >>> count(1, "target"), count(9520, "target")
    ('1 target', '9,520 targets')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"
