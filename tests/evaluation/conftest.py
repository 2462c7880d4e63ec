"""A small evaluation, really made, for the tests of figures and report."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dgex.evaluation.evaluate import evaluate_models


class FakeDataset(dict):
    name, fingerprint = "colon", "abc123"
    preprocessor = SimpleNamespace(knows_expression=False)  # z-scores are all that is known


@pytest.fixture(scope="session")
def make_evaluation():
    """Evaluation of models given as name to (kind, noise); None as noise predicts zeros."""

    def make(models, sets=("validation", "test"), n=12, t=40, protocol="paper", symbols=None):
        rng = np.random.default_rng(0)
        weight_lt = rng.normal(size=(4, t))
        dataset = FakeDataset()
        dataset.protocol, dataset.sets = protocol, list(sets)
        dataset.landmarks = pd.DataFrame(
            {"symbol": ["L0", "L1", "L2", "L3"], "ensembl": "", "entrez": ""}, list("abcd")
        )
        symbols = symbols or ["L1", *(f"S{i}" for i in range(1, t))]
        dataset.targets = pd.DataFrame(
            {"symbol": symbols, "ensembl": "", "entrez": ""}, [f"t{i}" for i in range(t)]
        )
        for shift, name in enumerate(sets):
            x_nl = rng.normal(size=(n, 4)).astype(np.float32)
            y_nt = (x_nl @ weight_lt + rng.normal(size=(n, t))).astype(np.float32)
            dataset[name] = SimpleNamespace(
                n=n,
                present_t=np.arange(t) >= shift,
                present_l=np.ones(4, bool),
                blocks=lambda rows, x_nl=x_nl, y_nt=y_nt: iter([(0, x_nl, y_nt)]),
            )

        def model(kind, noise, seed):
            if noise is None:
                return SimpleNamespace(kind=kind, predict=lambda x_nl: np.zeros((len(x_nl), t)))
            off_lt = weight_lt + noise * np.random.default_rng(seed).normal(size=(4, t))
            return SimpleNamespace(kind=kind, predict=lambda x_nl: x_nl @ off_lt)

        made = {name: model(*given, i) for i, (name, given) in enumerate(models.items())}
        return evaluate_models(dataset, made)

    return make


@pytest.fixture(scope="session")
def training_log():
    """Training log of 5 epochs, best at epoch 4, with the 1000g set measured every other epoch."""
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4, 5],
            "learning_rate": 5e-4,
            "seconds": 1.5,
            "mae_train": [0.7, 0.6, 0.5, 0.4, 0.3],
            "mae_validation": [0.8, 0.7, 0.6, 0.5, 0.55],
            "mae_1000g": [0.9, np.nan, 0.7, np.nan, 0.8],
        }
    )
