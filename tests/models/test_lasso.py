"""The lasso against scikit-learn's, target by target."""

import logging
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso as SklearnLasso
from sklearn.metrics import mean_absolute_error

from dgex.config import LASSO_PENALTIES, TrainConfig
from dgex.models import lasso as module
from dgex.models.gram import gram
from dgex.models.lasso import Lasso, descend


def fitted(dataset, **options):
    model = Lasso()
    model.fit(dataset, TrainConfig(model="lasso", **options))
    return model


def arrays(dataset, name):
    return np.array(dataset[name].x_nl, np.float64), np.array(dataset[name].y_nt, np.float64)


def exact(x_nl, y_nt, penalty):
    """Weights (l, t) and intercepts (t,) of scikit-learn, solved far beyond its default."""
    weight_lt = np.empty((x_nl.shape[1], y_nt.shape[1]))
    intercept_t = np.empty(y_nt.shape[1])
    for target, y_n in enumerate(y_nt.T):
        model = SklearnLasso(alpha=penalty, tol=1e-13, max_iter=1_000_000).fit(x_nl, y_n)
        weight_lt[:, target], intercept_t[target] = model.coef_, model.intercept_
    return weight_lt, intercept_t


def correlated(x_nl):
    """Landmarks with means and correlations, as genes have them."""
    shared_n1 = x_nl.mean(axis=1, keepdims=True) * np.sqrt(x_nl.shape[1])
    return (x_nl + 2 * shared_n1 + np.arange(x_nl.shape[1]) % 3).astype(np.float32)


@pytest.mark.parametrize(("n", "landmarks"), [(25, 60), (60, 60), (400, 30), (3000, 14)])
@pytest.mark.parametrize("penalty", [0.2, 0.02, 0.002])
def test_agrees_with_scikit_learn(make, n, landmarks, penalty):
    sizes = {"train": n, "validation": 24, "test": 30}
    dataset = make(sizes=sizes, landmarks=landmarks, x_of=correlated)
    model = fitted(dataset, penalties=(penalty,))
    weight_lt, intercept_t = exact(*arrays(dataset, "train"), penalty)
    np.testing.assert_allclose(model.weight_lt, weight_lt, atol=1e-4)
    np.testing.assert_allclose(model.intercept_t, intercept_t, atol=1e-4)
    x_nl = dataset["test"].x_nl
    np.testing.assert_allclose(model.predict(x_nl), x_nl @ weight_lt + intercept_t, atol=2e-4)
    assert ((model.weight_lt != 0) == (np.abs(weight_lt) > 1e-9)).mean() > 0.99


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    n_landmarks=st.integers(1, 70),
    share=st.floats(0.001, 1.2),
    seed=st.integers(0, 99),
)
def test_no_weight_can_be_moved_to_advantage(n, n_landmarks, share, seed):
    """The conditions of the minimum."""
    rng = np.random.default_rng(seed)
    x_nl = correlated(rng.normal(size=(n, n_landmarks))).astype(np.float64)
    y_nt = rng.normal(size=(n, 3)) + x_nl[:, :1]
    sums = gram([(0, x_nl, y_nt)], n_landmarks, 3, n)
    penalty = share * np.abs(sums.xy_lt).max() / n
    weight_lt = np.zeros((n_landmarks, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_TARGETS", 2)
        descend(sums, penalty, weight_lt)
    pull_lt = (sums.xy_lt - sums.xx_ll @ weight_lt) / n
    scale = np.sqrt(np.diagonal(sums.xx_ll).max() / n * sums.yy_t.max() / n)
    assert (np.abs(pull_lt) <= penalty + 2e-4 * scale).all()
    there = np.abs(weight_lt) > 1e-2 * np.abs(weight_lt).max()
    np.testing.assert_allclose(
        pull_lt[there], penalty * np.sign(weight_lt[there]), atol=2e-4 * scale
    )
    if share > 1:
        assert not weight_lt.any()


def test_keeps_the_penalty_of_the_lowest_validation_mae(make):
    dataset = make(sizes={"train": 40, "validation": 300, "test": 5}, landmarks=20)
    penalties = (0.3, 0.01, 0.03, 0.1, 0.003, 0.1)
    model = fitted(dataset, penalties=penalties)
    x_nl, y_nt = arrays(dataset, "validation")
    expected, weights = {}, {}
    for penalty in sorted(set(penalties)):
        weight_lt, intercept_t = exact(*arrays(dataset, "train"), penalty)
        expected[penalty] = mean_absolute_error(y_nt, x_nl @ weight_lt + intercept_t)
        weights[penalty] = weight_lt
    assert model.settings()["penalties"] == list(expected)
    np.testing.assert_allclose(
        model.settings()["validation_mae"], list(expected.values()), atol=1e-3
    )
    assert model.penalty == min(expected, key=expected.get)
    assert model.penalty not in (0.003, 0.3)
    np.testing.assert_allclose(model.weight_lt, weights[model.penalty], atol=1e-4)


def test_stops_once_the_validation_mae_has_risen_by_one_percent(make, caplog):
    sizes = {"train": 40, "validation": 300, "test": 5}
    dataset = make(sizes=sizes, landmarks=20)
    penalties = (0.3, 0.1, 0.01, 0.007, 0.003, 0.001, 0.0003)
    with caplog.at_level(logging.INFO, "dgex"):
        model = fitted(dataset, penalties=penalties)
    x_nl, y_nt = arrays(dataset, "validation")
    tried, maes = [], []
    for penalty in penalties:
        weight_lt, intercept_t = exact(*arrays(dataset, "train"), penalty)
        tried.append(penalty)
        maes.append(mean_absolute_error(y_nt, x_nl @ weight_lt + intercept_t))
        if maes[-1] > 1.01 * min(maes):
            break
    assert len(tried) < len(penalties) - 1
    # One that is above the lowest by less does not end it.
    assert any(mae > min(maes[: place + 1]) for place, mae in enumerate(maes[:-1]))
    assert model.settings()["penalties"] == sorted(tried)
    left = ", ".join(f"{penalty:g}" for penalty in penalties[len(tried) :])
    assert f"lasso: the validation MAE rises; not tried: {left}" in caplog.text
    assert "is the smallest of those tried" not in caplog.text


def test_tries_its_own_penalties_where_none_are_given(dataset):
    tried = fitted(dataset).settings()["penalties"]
    assert tried == sorted(LASSO_PENALTIES)[-len(tried) :]


def test_warns_at_the_edge_of_the_penalties(make, caplog):
    dataset = make(sizes={"train": 30, "validation": 200, "test": 5}, landmarks=20)
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(dataset, penalties=(0.5, 0.7))
    assert "The best lasso penalty, 0.5, is the smallest of those tried" in caplog.text


def test_landmarks_and_targets_without_variance_get_no_weight(make):
    def flat(x_nl):
        x_nl[:, 2] = 1.5
        x_nl[:, 4] = x_nl[:, 5]
        return x_nl

    dataset = make(x_of=flat)
    train = dataset["train"]
    x_nl, y_nt = np.array(train.x_nl), np.array(train.y_nt)
    y_nt[:, 3] = 7.0
    sums = gram([(0, x_nl, y_nt)], 6, 9, len(x_nl))
    weight_lt = np.ones((6, 9))
    descend(sums, 0.05, weight_lt)
    assert not weight_lt[2].any()
    assert not weight_lt[:, 3].any()
    expected_lt, _ = exact(x_nl.astype(np.float64), y_nt.astype(np.float64), 0.05)
    np.testing.assert_allclose(x_nl @ weight_lt, x_nl @ expected_lt, atol=1e-3)


def test_says_how_many_targets_are_not_solved(make, caplog, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROUNDS", 1)
    dataset = make(sizes={"train": 20, "validation": 5, "test": 5}, landmarks=40)
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(dataset, penalties=(0.001,))
    assert "lasso at penalty 0.001: 9 of 9 targets are not solved to the last digit" in caplog.text


def test_arrays_and_settings_make_the_model_again(dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(dataset)
    again = Lasso.from_arrays(model.arrays(), model.settings())
    np.testing.assert_array_equal(
        again.predict(dataset["test"].x_nl), model.predict(dataset["test"].x_nl)
    )
    assert again.settings() == model.settings()
