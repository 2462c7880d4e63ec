"""The lasso of profiles on training profiles against scikit-learn's, profile by profile."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from dgex.config import SAMPLE_LASSO_PENALTIES, TrainConfig
from dgex.models import lasso as solver
from dgex.models import sample_lasso as module
from dgex.models.fit import train
from dgex.models.lasso import Products, ThinProducts
from dgex.models.sample_lasso import SampleLasso

SIZES = {"train": 40, "validation": 60, "test": 9}


def model_of(x_nl, y_nt, penalty):
    arrays = {"x_nl": x_nl.astype(np.float32), "y_nt": y_nt.astype(np.float32)}
    return SampleLasso.from_arrays(
        arrays, {"penalty": penalty, "penalties": [], "validation_mae": []}
    )


def plain_prediction(x_nl, y_nt, new_nl, penalty):
    """One profile at a time."""
    x_ln, y_nt = np.array(x_nl, np.float64).T, np.array(y_nt, np.float64)
    reference = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=1_000_000)
    return np.array([reference.fit(x_ln, x_l).coef_ @ y_nt for x_l in np.array(new_nl, float)])


def fitted(dataset, **options):
    model = SampleLasso()
    model.fit(dataset, TrainConfig(model="sample-lasso", **options))
    return model


def arrays(dataset, name):
    return dataset[name].x_nl, dataset[name].y_nt


@pytest.mark.parametrize(("n", "landmarks"), [(12, 30), (40, 40), (70, 25)])
@pytest.mark.parametrize("penalty", [0.3, 0.03, 0.003])
def test_agrees_with_scikit_learn(make, n, landmarks, penalty):
    dataset = make(sizes={"train": n, "validation": 5, "test": 8}, landmarks=landmarks)
    x_nl, y_nt = arrays(dataset, "train")
    new_nl = dataset["test"].x_nl
    y_hat_nt = model_of(x_nl, y_nt, penalty).predict(new_nl)
    assert (y_hat_nt.shape, y_hat_nt.dtype) == ((8, 9), np.float32)
    np.testing.assert_allclose(y_hat_nt, plain_prediction(x_nl, y_nt, new_nl, penalty), atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    balance=st.floats(0.01, 100),
    seed=st.integers(0, 99),
)
def test_thin_products_do_what_products_do(rows, columns, balance, seed):
    rng = np.random.default_rng(seed)
    x_rl = rng.normal(size=(rows, columns)) * rng.integers(0, 2, columns)
    thin, full = ThinProducts(x_rl), Products(x_rl.T @ x_rl)
    weight_lb = rng.normal(size=(columns, 3))
    np.testing.assert_allclose(thin.square_l, full.square_l, atol=1e-12)
    np.testing.assert_allclose(thin.times(weight_lb), full.times(weight_lb), atol=1e-10)
    smooth_lb = thin.smoother(balance)(weight_lb)
    np.testing.assert_allclose(smooth_lb, full.smoother(balance)(weight_lb), atol=1e-8)
    inverse_ll = np.linalg.inv(x_rl.T @ x_rl + balance * np.eye(columns))
    np.testing.assert_allclose(smooth_lb, balance * inverse_ll @ weight_lb, atol=1e-8)


def test_a_profile_does_not_depend_on_those_beside_it(make, monkeypatch):
    monkeypatch.setattr(solver, "BLOCK_TARGETS", 5)
    dataset = make(sizes={"train": 50, "validation": 5, "test": 23}, landmarks=30)
    model = model_of(*arrays(dataset, "train"), 0.02)
    x_nl = dataset["test"].x_nl
    alone_nt = np.concatenate([model.predict(x_nl[[row]]) for row in range(len(x_nl))])
    np.testing.assert_allclose(model.predict(x_nl), alone_nt, atol=2e-3)


def test_a_profile_of_zeros_has_no_weights(make):
    dataset = make()
    model = model_of(*arrays(dataset, "train"), 0.02)
    assert not model.predict(np.zeros((2, 6), np.float32)).any()


def test_keeps_the_penalty_of_the_lowest_validation_mae(make):
    dataset = make(sizes=SIZES, landmarks=20, absent=())
    penalties = (0.5, 0.2, 0.1, 0.05, 0.2)
    model = fitted(dataset, penalties=penalties)
    x_nl, y_nt = arrays(dataset, "train")
    new_nl, new_nt = arrays(dataset, "validation")
    tried = sorted(model.validation_mae)
    expected = {
        penalty: np.abs(plain_prediction(x_nl, y_nt, new_nl, penalty) - new_nt).mean()
        for penalty in tried
    }
    np.testing.assert_allclose(
        list(model.validation_mae.values()), list(expected.values()), atol=2e-3
    )
    assert model.penalty == min(expected, key=expected.get)
    assert tried == sorted(set(penalties))[-len(tried) :]
    left_out = set(penalties) - set(tried)
    falling = [model.validation_mae[penalty] for penalty in tried]
    assert falling[0] > 1.01 * min(falling) if left_out else falling[0] <= 1.01 * min(falling)


def test_tries_its_own_penalties_where_none_are_given(dataset):
    tried = fitted(dataset).settings()["penalties"]
    assert tried == sorted(SAMPLE_LASSO_PENALTIES)[-len(tried) :]


def test_warns_at_the_edge_of_the_penalties(make, caplog):
    dataset = make(sizes=SIZES, landmarks=20)
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(dataset, penalties=(1e-3, 2e-3))
    assert "The best sample-lasso penalty, 0.002, is the largest of those tried" in caplog.text


def test_chooses_on_a_draw_of_many_validation_profiles(make, monkeypatch):
    monkeypatch.setattr(module, "CHOICE_PROFILES", 7)
    dataset = make()
    one, two = (fitted(dataset, penalties=(0.1,), seed=seed).validation_mae for seed in (0, 1))
    assert one != two


def test_keeps_a_draw_of_many_training_profiles(dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_PROFILES", 20)
    with caplog.at_level(logging.INFO, "dgex"):
        bundles = [
            train(dataset, tmp_path / f"m{place}", model="sample-lasso", seed=seed)
            for place, seed in enumerate((3, 3, 4))
        ]
    assert "sample-lasso: keeps 20 of 90 training profiles, drawn by the seed" in caplog.text
    one, again, other = (bundle.model.arrays() for bundle in bundles)
    x_nl, y_nt = arrays(dataset, "train")
    places = [int(np.flatnonzero((x_nl == x_l).all(axis=1))[0]) for x_l in one["x_nl"]]
    assert places == sorted(set(places))
    assert len(places) == 20
    np.testing.assert_array_equal(one["y_nt"], y_nt[places])
    np.testing.assert_array_equal(one["x_nl"], again["x_nl"])
    assert not np.array_equal(one["x_nl"], other["x_nl"])


def test_learning_from_all_splits_keeps_the_penalty(dataset, tmp_path):
    before = train(dataset, tmp_path / "before", model="sample-lasso")
    after = train(dataset, tmp_path / "after", model="sample-lasso", train_on="all")
    assert after.info["settings"] == before.info["settings"]
    x_nl, y_nt = (
        np.concatenate([arrays(dataset, name)[axis] for name in ("train", "validation", "test")])
        for axis in (0, 1)
    )
    new_nl = dataset["gtex"].x_nl
    np.testing.assert_allclose(
        after.predict(new_nl),
        plain_prediction(x_nl, y_nt, new_nl, before.model.penalty),
        atol=2e-3,
    )


def test_says_how_many_profiles_are_not_solved(make, caplog, monkeypatch):
    monkeypatch.setattr(solver, "MAX_ROUNDS", 1)
    dataset = make(sizes={"train": 50, "validation": 5, "test": 12}, landmarks=30)
    with caplog.at_level(logging.WARNING, "dgex"):
        model_of(*arrays(dataset, "train"), 0.001).predict(dataset["test"].x_nl)
    assert "sample-lasso: the weights of 12 of 12 profiles are not solved" in caplog.text


def test_arrays_and_settings_make_the_model_again(dataset):
    model = fitted(dataset)
    again = SampleLasso.from_arrays(model.arrays(), model.settings())
    x_nl = dataset["test"].x_nl
    np.testing.assert_array_equal(again.predict(x_nl), model.predict(x_nl))
    assert again.settings() == model.settings()
    for wrong in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="penalty is"):
            SampleLasso.from_arrays(model.arrays(), model.settings() | {"penalty": wrong})
