"""Kernel ridge regression: what it chooses, what it keeps, and every path of its solution."""

import itertools
import logging

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from sklearn.kernel_ridge import KernelRidge

from dgex.config import TrainConfig
from dgex.data.dataset import Dataset
from dgex.data.view import join_splits
from dgex.errors import DataError, UsageError
from dgex.models import base, choice
from dgex.models import kernel as module
from dgex.models.bundle import Bundle
from dgex.models.fit import train
from dgex.models.kernel import PENALTIES, Kernel, without_rare
from dgex.models.kernels import KERNELS, typical_scale

KINDS = ("inverse-multiquadric", "rbf")
WIDTHS = (0.5, 2.0)
LEVELS = (0.1, 0.2, 0.4, 0.8)
POWERS = (0.0, 0.7)


OPTIONS = {"kernels": KINDS, "bandwidths": WIDTHS, "penalties": LEVELS, "metric_powers": (0.0,)}


def fitted(dataset, **options):
    model = Kernel()
    options = OPTIONS | options
    model.fit(dataset, TrainConfig(model="kernel", device="cpu", **options))
    return model


def in_metric(x_nl, all_nl, power):
    """Profiles whose Euclidean distances are those in the metric; by scipy."""
    if power == 0:
        return x_nl
    correlation_ll = all_nl.astype(float).T @ all_nl / len(all_nl)
    return x_nl @ fractional_matrix_power(correlation_ll, power / 2)


def likeness(name, x_nl, x_ml, scale):
    tensors = (torch.tensor(np.asarray(x, np.float64)) for x in (x_nl, x_ml))
    return KERNELS[name](*tensors, scale).numpy()


def solved(k_nn, centred_n, penalty):
    return np.linalg.solve(k_nn + penalty * np.eye(len(k_nn)), centred_n)


def best_penalty(k_nn, y_n, penalties):
    """The penalty of the lowest mean absolute error of guesses from all other profiles."""
    centred_n = y_n - y_n.mean()
    maes = []
    for penalty in penalties:
        errors = []
        for out in range(len(y_n)):
            rest = np.delete(np.arange(len(y_n)), out)
            weight_n = solved(k_nn[np.ix_(rest, rest)], centred_n[rest], penalty)
            errors.append(abs(centred_n[out] - k_nn[out, rest] @ weight_n))
        maes.append(np.mean(errors))
    return penalties[int(np.argmin(maes))]


def chosen(dataset, rows=slice(None), targets=slice(None), powers=(0.0,)):
    """Validation MAE and penalties of every kernel, bandwidth and metric, by plain loops."""
    all_nl, y_nt = dataset["train"].x_nl, dataset["train"].y_nt[rows][:, targets]
    validation = dataset["validation"]
    found = {}
    for power, name, width in itertools.product(powers, KINDS, WIDTHS):
        x_nl = in_metric(all_nl[rows], all_nl, power)
        x_vl = in_metric(validation.x_nl, all_nl, power)
        typical = typical_scale(torch.tensor(np.asarray(x_nl, np.float64)))
        k_nn = likeness(name, x_nl, x_nl, width * typical)
        k_vn = likeness(name, x_vl, x_nl, width * typical)
        penalties, maes = [], []
        for y_n, y_v in zip(y_nt.T.astype(float), validation.y_nt[:, targets].T, strict=True):
            penalties.append(best_penalty(k_nn, y_n, LEVELS))
            weight_n = solved(k_nn, y_n - y_n.mean(), penalties[-1])
            maes.append(np.abs(k_vn @ weight_n + y_n.mean() - y_v).mean())
        found[name, width, power] = float(np.mean(maes)), penalties, width * typical
    return found


@pytest.fixture
def small(make):
    return make(sizes={"train": 40, "validation": 24, "test": 21}, landmarks=4, targets=5)


def test_chooses_and_infers_what_plain_loops_do(small):
    model = fitted(small)
    expected = chosen(small)
    assert model.validation_mae == pytest.approx(
        {one: mae for one, (mae, _, _) in expected.items()}
    )
    best = min(expected, key=expected.get)
    assert model.kernel == best[0]
    assert model.scale == pytest.approx(expected[best][2])
    np.testing.assert_array_equal(model.penalty_t, expected[best][1])
    assert len(set(model.penalty_t)) > 1
    x_nl, y_nt = np.array(small["train"].x_nl, float), np.array(small["train"].y_nt, float)
    sklearn = KernelRidge(alpha=model.penalty_t, kernel="precomputed")
    sklearn.fit(likeness(model.kernel, x_nl, x_nl, model.scale), y_nt - y_nt.mean(axis=0))
    x_vl = small["test"].x_nl
    expected_vt = sklearn.predict(likeness(model.kernel, x_vl, x_nl, model.scale))
    np.testing.assert_allclose(model.predict(x_vl), expected_vt + y_nt.mean(axis=0), atol=2e-5)


def test_distances_in_a_metric_where_that_is_better(small, tmp_path, monkeypatch):
    expected = chosen(small, powers=POWERS)
    best = min(expected, key=expected.get)
    euclidean = min((one for one in expected if one[2] == 0), key=expected.get)
    assert best[2] == 0.7
    assert best[0] == euclidean[0]
    model = fitted(small, metric_powers=POWERS)
    # Other metrics are tried with the best kernel alone.
    tried = {one: mae for one, (mae, *_) in expected.items() if one[2] == 0 or one[0] == best[0]}
    assert model.validation_mae == pytest.approx(tried)
    assert (model.kernel, model.metric_power) == (best[0], 0.7)
    assert model.scale == pytest.approx(expected[best][2])
    np.testing.assert_array_equal(model.penalty_t, expected[best][1])
    x_nl, y_nt = np.array(small["train"].x_nl, float), np.array(small["train"].y_nt, float)
    x_vl = small["test"].x_nl
    turned_nl, turned_vl = in_metric(x_nl, x_nl, 0.7), in_metric(x_vl, x_nl, 0.7)
    sklearn = KernelRidge(alpha=model.penalty_t, kernel="precomputed")
    sklearn.fit(likeness(best[0], turned_nl, turned_nl, model.scale), y_nt - y_nt.mean(axis=0))
    expected_vt = sklearn.predict(likeness(best[0], turned_vl, turned_nl, model.scale))
    expected_vt += y_nt.mean(axis=0)
    np.testing.assert_allclose(model.predict(x_vl), expected_vt, atol=5e-5)
    assert model.n_landmarks == 4
    options = OPTIONS | {"metric_powers": POWERS}
    train(small, tmp_path / "model", model="kernel", device="cpu", **options)
    again = Bundle.load(tmp_path / "model").model
    np.testing.assert_array_equal(again.predict(x_vl), model.predict(x_vl))
    assert model.left_out_guesses(small).shape == (40, 5)
    monkeypatch.setattr(module, "EXACT_PROFILES", 39)
    by_centres = fitted(small, metric_powers=POWERS)
    np.testing.assert_allclose(by_centres.predict(x_vl), expected_vt, atol=1e-3)


def test_chooses_on_a_sample_where_there_is_more(small, monkeypatch):
    monkeypatch.setattr(module, "CHOICE_TRAIN", 25)
    monkeypatch.setattr(module, "CHOICE_TARGETS", 3)
    model = fitted(small, seed=7)
    rows = np.sort(np.random.default_rng(7).choice(40, 25, replace=False))
    targets = np.sort(np.random.default_rng(7).choice(5, 3, replace=False))
    expected = {one: mae for one, (mae, _, _) in chosen(small, rows, targets).items()}
    assert model.validation_mae == pytest.approx(expected)
    assert fitted(small, seed=8).validation_mae != pytest.approx(expected, rel=1e-3)
    assert len(model.penalty_t) == 5


def test_chooses_on_a_sample_of_the_validation_profiles(small, monkeypatch):
    whole = fitted(small).validation_mae
    monkeypatch.setattr(choice, "CHOICE_PROFILES", 10)
    assert fitted(small).validation_mae != pytest.approx(whole, rel=1e-3)


def test_absent_targets_are_not_chosen_by(make, monkeypatch):
    dataset = make(sizes={"train": 30, "validation": 10, "test": 5})
    whole = fitted(dataset).validation_mae
    table = dataset.path / "sets" / "validation" / "genes.tsv"
    text = table.read_text().replace("t3\tTrue", "t3\tFalse")
    assert text != table.read_text()
    table.write_text(text)
    validation = dataset["validation"]
    assert validation.present_t.sum() == 8
    some = fitted(dataset)
    assert some.validation_mae != pytest.approx(whole, rel=1e-4)
    present_t = validation.present_t
    error_t = np.abs(some.predict(validation.x_nl) - validation.y_nt).mean(axis=0)
    assert min(some.validation_mae.values()) == pytest.approx(error_t[present_t].mean(), rel=1e-4)


def test_the_middle_bandwidth_comes_first_and_time_ends_the_search(small, caplog):
    model = Kernel()
    model.search_until = 0.0
    config = TrainConfig(model="kernel", device="cpu", bandwidths=(0.5, 8.0, 1.0, 2.0, 4.0))
    with caplog.at_level(logging.INFO, "dgex"):
        model.fit(small, config)
    assert list(model.validation_mae) == [("sum", 2.0, 0.0)]
    assert "time for 1 of 10 kernels" in caplog.text


def test_says_where_a_bandwidth_is_the_last_tried(small, caplog):
    fitted(small, kernels=("rbf",), bandwidths=(200.0, 300.0, 400.0))
    assert "The best bandwidth, 200, is the smallest of those tried" in caplog.text
    caplog.clear()
    fitted(small, kernels=("rbf",), bandwidths=(200.0,))
    assert "may lie beyond" not in caplog.text


def test_penalties_from_some_profiles_and_none_that_is_rare(small, monkeypatch):
    monkeypatch.setattr(module, "EIGEN_PROFILES", 20)
    monkeypatch.setattr(module, "TARGETS_AT_ONCE", 2)
    monkeypatch.setattr(module, "RARE", 0.5)
    levels = (0.03, 0.3, 3.0)
    model = fitted(small, seed=3, penalties=levels)
    rows = np.sort(np.random.default_rng(3).choice(40, 20, replace=False))
    x_nl, y_nt = small["train"].x_nl[rows], small["train"].y_nt[rows].astype(float)
    k_nn = likeness(model.kernel, x_nl, x_nl, model.scale)
    best_t = np.array([best_penalty(k_nn, y_n, levels) for y_n in y_nt.T])
    np.testing.assert_array_equal(model.penalty_t, without_rare(best_t, 0.5))
    assert len(set(best_t)) > len(set(model.penalty_t))
    assert model.left_out_guesses(small) is None


def test_centres_stand_in_for_many_profiles(small, monkeypatch, caplog):
    exact = fitted(small)
    monkeypatch.setattr(module, "EXACT_PROFILES", 39)
    all_of_them = fitted(small)
    x_nl = small["test"].x_nl
    np.testing.assert_allclose(all_of_them.predict(x_nl), exact.predict(x_nl), atol=1e-3)
    monkeypatch.setattr(module, "CENTRES", 12)
    with caplog.at_level(logging.INFO, "dgex"):
        model = fitted(small, seed=5)
    assert "12 centres, drawn by the seed, stand in for 40 profiles" in caplog.text
    rows = np.sort(np.random.default_rng(5).choice(40, 12, replace=False))
    np.testing.assert_array_equal(model.arrays()["x_ml"], small["train"].x_nl[rows])
    assert model.arrays()["dual_mt"].shape == (12, 5)
    x_nl, y_nt = small["train"].x_nl, np.array(small["train"].y_nt, float)
    k_nm = likeness(model.kernel, x_nl, x_nl[rows], model.scale)
    guess_vm = likeness(model.kernel, small["test"].x_nl, x_nl[rows], model.scale)
    for target, penalty in enumerate(model.penalty_t):
        weight_m = np.linalg.solve(
            k_nm.T @ k_nm + penalty * k_nm[rows],
            k_nm.T @ (y_nt[:, target] - y_nt[:, target].mean()),
        )
        expected_v = guess_vm @ weight_m + y_nt[:, target].mean()
        found_v = model.predict(small["test"].x_nl)[:, target]
        np.testing.assert_allclose(found_v, expected_v, atol=1e-3)


def test_guesses_of_left_out_profiles(small):
    model = fitted(small)
    guess_nt = model.left_out_guesses(small)
    x_nl, y_nt = np.array(small["train"].x_nl, float), np.array(small["train"].y_nt, float)
    k_nn = likeness(model.kernel, x_nl, x_nl, model.scale)
    mean_t = y_nt.mean(axis=0)
    for out in range(40):
        rest = np.delete(np.arange(40), out)
        for target, penalty in enumerate(model.penalty_t):
            centred_n = y_nt[rest, target] - mean_t[target]
            weight_n = solved(k_nn[np.ix_(rest, rest)], centred_n, penalty)
            expected = k_nn[out, rest] @ weight_n + mean_t[target]
            assert guess_nt[out, target] == pytest.approx(expected, abs=2e-5)


def test_refit_keeps_what_was_chosen_and_learns_from_more(small, tmp_path):
    model = fitted(small)
    before = (model.kernel, model.scale, model.penalty_t.tolist(), model.validation_mae)
    # What was inferred before must not stay on the device.
    old_nt = model.predict(small["test"].x_nl)
    bundle = train(
        small,
        tmp_path / "model",
        model="kernel",
        device="cpu",
        **OPTIONS,
        train_on="train+validation",
    )
    folder = join_splits(small, tmp_path / "joined", ("train", "validation"))
    x_nl, y_nt = np.load(folder / "x_nl.npy"), np.load(folder / "y_nt.npy").astype(float)
    assert len(x_nl) == 64
    sklearn = KernelRidge(alpha=model.penalty_t, kernel="precomputed")
    sklearn.fit(likeness(model.kernel, x_nl, x_nl, model.scale), y_nt - y_nt.mean(axis=0))
    x_vl = small["test"].x_nl
    expected_vt = sklearn.predict(likeness(model.kernel, x_vl, x_nl, model.scale))
    expected_vt += y_nt.mean(axis=0)
    np.testing.assert_allclose(bundle.predict(x_vl), expected_vt, atol=2e-5)
    assert (bundle.model.kernel, bundle.model.scale) == before[:2]
    model.refit(small)
    assert (model.kernel, model.scale, model.penalty_t.tolist(), model.validation_mae) == before
    np.testing.assert_array_equal(model.predict(x_vl), old_nt)


def test_a_model_read_from_a_folder_is_the_same_and_cannot_be_refitted(small, tmp_path):
    bundle = train(small, tmp_path / "model", model="kernel", device="cpu", kernels=KINDS)
    others = {"bandwidths": TrainConfig.bandwidths, "metric_powers": TrainConfig.metric_powers}
    model = fitted(small, penalties=None, **others)
    again = Bundle.load(tmp_path / "model").model
    x_nl = small["test"].x_nl
    np.testing.assert_array_equal(again.predict(x_nl), model.predict(x_nl))
    assert again.settings() == model.settings() == bundle.info["settings"]
    assert sum(count for _, count in again.settings()["targets_of_penalty"]) == 5
    assert {penalty for penalty, _ in again.settings()["targets_of_penalty"]} <= set(PENALTIES)
    with pytest.raises(UsageError, match="does not know its penalties"):
        again.refit(small)


def test_blocks_of_profiles_are_inferred_as_one(small, monkeypatch):
    model = fitted(small)
    x_nl = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    whole_nt = model.predict(x_nl)
    monkeypatch.setattr(base, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(model.predict(x_nl), whole_nt, atol=1e-6)
    wide_ng = np.full((50, 9), 7, np.float32)
    np.testing.assert_allclose(model.predict(x_nl, wide_ng[:, 4:]), whole_nt, atol=1e-6)
    assert (wide_ng[:, :4] == 7).all()
    x_nl.flags.writeable = False
    np.testing.assert_allclose(model.predict(x_nl), whole_nt, atol=1e-6)


F32 = np.float32
IN_METRIC = {"metric_power": 0.5}


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ({"x_ml": np.zeros((3, 2), F32)}, {}),
        ({"dual_mt": np.zeros((4, 3), F32)}, {}),
        ({"mean_t": np.zeros(2, F32)}, {}),
        ({"x_ml": np.zeros(4, F32)}, {}),
        ({"dual_mt": np.zeros(4, F32), "mean_t": np.zeros((), F32)}, {}),
        ({"x_ml": np.zeros((4, 2), np.float64)}, {}),
        ({"mean_t": np.zeros(5, np.int32)}, {}),
        ({"x_ml": None}, {}),
        ({}, {"kernel": "cosine"}),
        ({}, {"kernel": None}),
        ({}, {"scale": 0.0}),
        ({}, {"scale": "wide"}),
        ({}, {"scale": float("nan")}),
        ({"root_ll": np.eye(2, dtype=F32)}, {}),
        ({}, {"metric_power": 0.5}),
        ({"root_ll": np.eye(3, dtype=F32)}, {"metric_power": 0.5}),
        ({"root_ll": np.eye(2)}, {"metric_power": 0.5}),
        ({}, {"metric_power": "wide"}),
        ({}, {"tried": [[1.0]]}),
        ({}, {"tried": 3}),
    ],
)
def test_damaged_arrays_and_settings_are_refused(arrays, settings):
    whole = {
        "x_ml": np.zeros((4, 2), F32),
        "dual_mt": np.zeros((4, 5), F32),
        "mean_t": np.zeros(5, F32),
    }
    sound = {"kernel": "rbf", "scale": 1.0, "metric_power": 0.0, "targets_of_penalty": []}
    sound["tried"] = [["rbf", 1.0, 0.0, 0.5]]
    assert Kernel.from_arrays(whole, sound).n_targets == 5
    with_root = Kernel.from_arrays(whole | {"root_ll": np.eye(2, dtype=F32)}, sound | IN_METRIC)
    assert with_root.settings() == sound | IN_METRIC
    damaged = {name: one for name, one in (whole | arrays).items() if one is not None}
    with pytest.raises((KeyError, TypeError, ValueError)):
        Kernel.from_arrays(damaged, sound | settings)


def test_landmarks_that_never_vary(make):
    dataset = make(sizes={"train": 20, "validation": 6, "test": 5}, x_of=np.zeros_like)
    mean_t = dataset["train"].y_nt.mean(axis=0)
    model = fitted(dataset, kernels=tuple(KERNELS))
    np.testing.assert_allclose(model.predict(np.zeros((2, 6), F32)), [mean_t] * 2, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_very_few_profiles(make, n):
    dataset = make(sizes={"train": n, "validation": 1, "test": 5}, targets=1, absent=())
    model = fitted(dataset)
    assert np.isfinite(model.predict(dataset["test"].x_nl)).all()
    assert np.isfinite(model.left_out_guesses(dataset)).all()


def test_needs_validation_profiles(make):
    dataset = make(sizes={"train": 20, "validation": 0, "test": 5})
    with pytest.raises(DataError, match="no validation profiles to choose on"):
        fitted(dataset)


def test_values_that_are_no_numbers_are_said(make):
    dataset = make(sizes={"train": 20, "validation": 6, "test": 5})
    y_nt = np.array(dataset["train"].y_nt)
    y_nt[3, 2] = np.nan
    np.save(dataset.path / "sets" / "train" / "y_nt.npy", y_nt)
    with pytest.raises(DataError, match="no kernel has a finite error on validation"):
        fitted(Dataset(dataset.path))


def test_a_profile_alone_is_inferred_as_in_a_block(small):
    model = fitted(small, kernels=("laplacian",), penalties=(1e-3,))
    x_nl = small["train"].x_nl[:6]
    alone_nt = np.vstack([model.predict(x_nl[n : n + 1]) for n in range(6)])
    np.testing.assert_allclose(alone_nt, model.predict(x_nl), atol=1e-5)
    k_nn = likeness("laplacian", x_nl, small["train"].x_nl, model.scale)
    arrays = model.arrays()
    expected_nt = k_nn @ arrays["dual_mt"] + arrays["mean_t"]
    np.testing.assert_allclose(alone_nt, expected_nt, atol=1e-4)


def test_more_work_takes_longer():
    seconds = [Kernel.least_seconds(n, 9000, 1e11) for n in (100, 1000, 4000, 25_000)]
    assert (np.diff(seconds) > 0).all()
    by_centres = [Kernel.least_seconds(n, 9000, 1e11) for n in (25_001, 100_000, 1_000_000)]
    assert (np.diff(by_centres) > 0).all()
    assert by_centres[0] < seconds[-1]
    assert Kernel.least_seconds(1000, 9000, 2e11) == pytest.approx(seconds[1] / 2)
