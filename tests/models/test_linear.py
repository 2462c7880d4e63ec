"""Linear models against scikit-learn and numpy's least squares."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import mean_absolute_error

from dgex.config import TrainConfig
from dgex.errors import DataError, UsageError
from dgex.models import choice
from dgex.models.base import set_mae
from dgex.models.linear import OLS, MeanModel, Ridge


def fitted(model, dataset, **options):
    model.fit(dataset, TrainConfig(model=model.kind, **options))
    return model


def arrays(dataset, name):
    return np.array(dataset[name].x_nl, np.float64), np.array(dataset[name].y_nt, np.float64)


def test_mean_is_the_training_mean(dataset):
    model = fitted(MeanModel(), dataset)
    expected = dataset["train"].y_nt.mean(axis=0, dtype=np.float64)
    y_nt = model.predict(np.zeros((3, 6), np.float32))
    assert y_nt.dtype == np.float32
    np.testing.assert_allclose(y_nt, np.tile(expected, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("n", [8, 90, 3000])
def test_ols_agrees_with_scikit_learn(make, n):
    dataset = make(sizes={"train": n, "validation": 5, "test": 2500})
    model = fitted(OLS(), dataset)
    expected = LinearRegression().fit(*arrays(dataset, "train"))
    np.testing.assert_allclose(model.weight_lt, expected.coef_.T, atol=1e-5)
    np.testing.assert_allclose(model.intercept_t, expected.intercept_, atol=1e-5)
    x_nl = dataset["test"].x_nl  # more rows than a block
    np.testing.assert_allclose(model.predict(x_nl), expected.predict(x_nl), atol=1e-4)


def shifted(x_nl):
    return x_nl * 2 + 5


def doubled(x_nl):
    x_nl[:, 3] = x_nl[:, 2]
    x_nl[:, 5] = 0
    return x_nl


@pytest.mark.parametrize(
    ("case", "n", "landmarks"), [(None, 12, 40), (shifted, 30, 30), (doubled, 60, 8)]
)
def test_ols_takes_the_minimum_norm_and_says_so(make, caplog, case, n, landmarks):
    dataset = make(sizes={"train": n, "validation": 5, "test": 5}, landmarks=landmarks, x_of=case)
    with caplog.at_level(logging.WARNING, "dgex"):
        model = fitted(OLS(), dataset)
    rank = n - 1 if landmarks >= n else landmarks - 2
    assert f"{n} training profiles determine {rank} of {landmarks} directions" in caplog.text
    x_nl, y_nt = arrays(dataset, "train")
    centred_nl = x_nl - x_nl.mean(axis=0)
    expected_lt = np.linalg.lstsq(centred_nl, y_nt - y_nt.mean(axis=0), rcond=1e-10)[0]
    np.testing.assert_allclose(model.weight_lt, expected_lt, atol=1e-5)
    expected_t = y_nt.mean(axis=0) - x_nl.mean(axis=0) @ expected_lt
    np.testing.assert_allclose(model.intercept_t, expected_t, atol=1e-5)


def test_ols_of_full_rank_says_nothing(dataset, caplog):
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(OLS(), dataset)
    assert caplog.text == ""


@pytest.mark.parametrize("n", [10, 90])
@pytest.mark.parametrize("penalty", [0.001, 0.5, 20.0])
def test_ridge_agrees_with_scikit_learn(make, n, penalty):
    dataset = make(sizes={"train": n, "validation": 24, "test": 5}, landmarks=14)
    model = fitted(Ridge(), dataset, penalties=(penalty,))
    expected = SklearnRidge(alpha=penalty * n).fit(*arrays(dataset, "train"))
    np.testing.assert_allclose(model.weight_lt, expected.coef_.T, atol=1e-5)
    np.testing.assert_allclose(model.intercept_t, expected.intercept_, atol=1e-5)


def sklearn_mae(dataset, penalty, rows=slice(None)):
    n = dataset["train"].n
    expected = SklearnRidge(alpha=penalty * n).fit(*arrays(dataset, "train"))
    x_nl, y_nt = arrays(dataset, "validation")
    return mean_absolute_error(y_nt[rows], expected.predict(x_nl[rows]))


def test_ridge_keeps_the_penalty_of_the_lowest_validation_mae(make):
    dataset = make(sizes={"train": 30, "validation": 1200, "test": 5}, landmarks=20)
    penalties = (100.0, 0.001, 0.01, 0.1, 0.3, 1.0, 0.1)
    model = fitted(Ridge(), dataset, penalties=penalties)
    expected = {penalty: sklearn_mae(dataset, penalty) for penalty in sorted(set(penalties))}
    assert model.settings()["penalties"] == list(expected)
    np.testing.assert_allclose(
        model.settings()["validation_mae"], list(expected.values()), atol=1e-5
    )
    assert model.penalty == min(expected, key=expected.get)
    again = Ridge.from_arrays(model.arrays(), model.settings())
    assert again.settings() == model.settings()


def test_ridge_chooses_on_a_sample_of_many_validation_profiles(make, monkeypatch):
    monkeypatch.setattr(choice, "CHOICE_PROFILES", 50)
    dataset = make(sizes={"train": 40, "validation": 200, "test": 5})
    model = fitted(Ridge(), dataset, penalties=(0.1,), seed=3)
    rows = np.random.default_rng(3).choice(200, 50, replace=False)
    assert model.validation_mae[0.1] == pytest.approx(sklearn_mae(dataset, 0.1, rows), abs=1e-5)
    assert model.validation_mae[0.1] != pytest.approx(sklearn_mae(dataset, 0.1), abs=1e-4)


@pytest.mark.parametrize(
    ("penalties", "said"),
    [((50.0, 70.0), "smaller ones"), ((1e-9, 1e-8), "larger ones"), ((0.01, 0.2, 50.0), "")],
)
def test_ridge_warns_at_the_edge_of_the_penalties(make, caplog, penalties, said):
    dataset = make(sizes={"train": 30, "validation": 200, "test": 5}, landmarks=20)
    with caplog.at_level(logging.WARNING, "dgex"):
        fitted(Ridge(), dataset, penalties=penalties)
    assert ("ridge penalty" in caplog.text) == bool(said)
    assert said in caplog.text


def test_absent_targets_are_left_out_of_the_mae(dataset):
    model = fitted(OLS(), dataset)
    gtex = dataset["gtex"]
    assert not gtex.present_t.all()
    error_nt = np.abs(model.predict(gtex.x_nl) - gtex.y_nt)[:, gtex.present_t]
    assert set_mae(model.predict, gtex) == pytest.approx(error_nt.mean(), rel=1e-6)


@pytest.mark.parametrize("kind", [MeanModel, OLS, Ridge])
def test_arrays_and_settings_make_the_model_again(dataset, kind):
    model = fitted(kind(), dataset)
    again = kind.from_arrays(model.arrays(), model.settings())
    x_nl = dataset["test"].x_nl
    np.testing.assert_array_equal(again.predict(x_nl), model.predict(x_nl))
    assert (again.n_landmarks, again.n_targets) == (6, 9)


def test_predict_refuses_other_panels_and_unfitted_models(dataset):
    with pytest.raises(UsageError, match="not learned anything"):
        OLS().predict(np.zeros((2, 6), np.float32))
    with pytest.raises(DataError, match=r"\(2, 5\) do not fit a ols model of 6 landmarks"):
        fitted(OLS(), dataset).predict(np.zeros((2, 5), np.float32))


def test_no_profiles_give_no_rows(dataset):
    assert fitted(OLS(), dataset).predict(np.zeros((0, 6), np.float32)).shape == (0, 9)


def test_linear_models_run_without_torch(dataset, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; from dgex.models.fit import train;"
        f"train({str(dataset.path)!r}, {str(tmp_path / 'ols')!r}, model='ols')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", [MeanModel, OLS, Ridge])
def test_targets_can_be_written_into_part_of_a_wider_block(dataset, kind):
    model = fitted(kind(), dataset)
    x_nl, _ = arrays(dataset, "test")
    block_ng = np.full((len(x_nl), 6 + model.n_targets), 7, np.float32)
    written = model.predict(x_nl, block_ng[:, 6:])
    assert np.shares_memory(written, block_ng)
    np.testing.assert_array_equal(block_ng[:, 6:], model.predict(x_nl))
    assert (block_ng[:, :6] == 7).all()
    for wrong in (block_ng, block_ng[:, 6:].astype(np.float64)):
        with pytest.raises(DataError, match="do not go into"):
            model.predict(x_nl, wrong)
