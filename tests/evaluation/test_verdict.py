"""The sentence says who is best, and plainly when nobody beats OLS."""

import pandas as pd
import pytest

from dgex.evaluation.tables import Evaluation
from dgex.evaluation.verdict import compared_models, verdict


def evaluation_of(reference, n_profiles=60, **models):
    """Models as name=(kind, mae, percent of genes won)."""
    rows = [
        {
            "model": name,
            "kind": kind,
            "set": "test",
            "n_profiles": n_profiles,
            "n_targets": 2000,
            "mae": mae,
            "genes_won_over_ols_percent": won,
        }
        for name, (kind, mae, won) in models.items()
    ]
    info = {"reference": reference, "sets": {"gtex": {}, "test": {}}}
    return Evaluation(pd.DataFrame(rows), pd.DataFrame(), info)


OLS = ("ols", 0.5, 0.0)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            {"ols": OLS, "ridge": ("ridge", 0.45, 80.0), "net": ("dgex", 0.4, 91.26)},
            "net is best: MAE 0.4000, 20.0 % lower than OLS (0.5000), "
            "and lower for 91.3 % of the targets.",
        ),
        (
            {"ols": OLS, "net": ("dgex", 0.4999, 42.0)},
            "net is best: MAE 0.4999, less than 0.1 % lower than OLS (0.5000), "
            "but lower for only 42.0 % of the targets.",
        ),
        (
            {"ols": OLS, "net": ("dgex", 0.6, 3.0), "ridge": ("ridge", 0.525, 8.0)},
            "no model beats OLS (MAE 0.5000): the next best, ridge, is 5.0 % higher (0.5250).",
        ),
        (
            {"ols": OLS, "twin": ("dgex", 0.5, 0.0)},
            "no model beats OLS: twin has the same MAE, 0.5000.",
        ),
        (
            {"ols": OLS, "mean": ("mean", 0.4, 70.0), "net": ("dgex", 0.45, 60.0)},
            "no trained model is better than giving every gene its mean (mean): MAE 0.4000, "
            "20.0 % lower than OLS (0.5000).",
        ),
        ({"ols": OLS}, "OLS has MAE 0.5000; no other model was evaluated."),
        (
            {"ols": ("ols", 0.0, 0.0), "net": ("dgex", 0.1, 0.0)},
            "no model beats OLS (MAE 0.0000): the next best, net, is higher (0.1000).",
        ),
    ],
)
def test_with_ols(models, expected):
    text = verdict(evaluation_of("ols", **models), "test")
    assert text == f"On test (60 profiles, 2,000 targets) {expected}"


def test_without_ols():
    one = {"net": ("dgex", 0.4, float("nan"))}
    assert verdict(evaluation_of(None, 1, **one), "test") == (
        "On test (1 profile, 2,000 targets) net has MAE 0.4000; "
        "no OLS was evaluated to compare it with."
    )
    two = {**one, "ridge": ("ridge", 0.3, float("nan"))}
    assert "ridge has the lowest MAE, 0.3000" in verdict(evaluation_of(None, **two), "test")


@pytest.mark.parametrize(
    ("reference", "maes", "expected"),
    [
        ("ols", {"ols": 0.5, "a": 0.4, "b": 0.3}, ("b", "ols")),
        ("ols", {"ols": 0.2, "a": 0.4, "b": 0.3}, ("b", "ols")),
        (None, {"c": 0.5, "a": 0.4, "b": 0.3}, ("b", "a")),
        ("ols", {"ols": 0.5}, None),
        (None, {"a": 0.5}, None),
    ],
)
def test_compared_models(reference, maes, expected):
    models = {name: ("x", mae, 0.0) for name, mae in maes.items()}
    assert compared_models(evaluation_of(reference, **models)) == expected
