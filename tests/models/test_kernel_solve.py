"""Kernel ridge regression against scikit-learn, plain numpy and really leaving profiles out."""

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from dgex.errors import DgexError, UsageError
from dgex.models import kernel_solve as module
from dgex.models.kernel_solve import Eigen, device_of_name, solve, solve_by_centres
from dgex.models.kernels import inverse_multiquadric

PENALTIES = (0.03, 0.3, 3.0)


@pytest.fixture(params=[1024, 2], ids=["one part", "parts of targets"])
def data(request, monkeypatch):
    """Likeness of 30 profiles, 7 targets with their means, and likeness of 5 other profiles."""
    monkeypatch.setattr(module, "_TARGETS_AT_ONCE", request.param)
    rng = np.random.default_rng(0)
    x_nl, x_vl = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    y_nt = (np.tanh(x_nl @ rng.normal(size=(4, 7))) + 0.4 * rng.normal(size=(30, 7)) + 0.5).astype(
        np.float32
    )
    return x_nl, x_vl, y_nt, y_nt.mean(axis=0)


def likeness(x_nl, x_ml):
    return inverse_multiquadric(torch.as_tensor(x_nl), torch.as_tensor(x_ml), 8.0)


def sklearn_guess(x_nl, x_vl, y_nt, mean_t, penalty):
    model = KernelRidge(alpha=penalty, kernel="precomputed")
    model.fit(likeness(x_nl, x_nl).numpy(), y_nt - mean_t)
    return model.predict(likeness(x_vl, x_nl).numpy()) + mean_t, model.dual_coef_


def left_out(x_nl, y_nt, mean_t, penalty):
    """Each profile guessed by scikit-learn from all the others."""
    guess_nt = np.empty(y_nt.shape)
    for out in range(len(x_nl)):
        rest = np.delete(np.arange(len(x_nl)), out)
        guess_nt[out] = sklearn_guess(x_nl[rest], x_nl[[out]], y_nt[rest], mean_t, penalty)[0]
    return guess_nt


def test_weights_are_those_of_scikit_learn_at_each_targets_penalty(data):
    x_nl, _, y_nt, mean_t = data
    penalty_t = np.array([0.3, 0.03, 3.0, 0.3, 0.03, 0.3, 3.0])
    dual_nt, guess_nt = solve(likeness(x_nl, x_nl), y_nt, mean_t, penalty_t)
    assert guess_nt is None
    assert dual_nt.dtype == np.float32
    for target, penalty in enumerate(penalty_t):
        _, expected_nt = sklearn_guess(x_nl, x_nl, y_nt, mean_t, penalty)
        np.testing.assert_allclose(dual_nt[:, target], expected_nt[:, target], atol=2e-6)


def test_guesses_of_left_out_profiles_are_those_of_really_leaving_them_out(data):
    x_nl, _, y_nt, mean_t = data
    penalty_t = np.array(PENALTIES)[np.arange(7) % 3]
    plain_nt, _ = solve(likeness(x_nl, x_nl), y_nt, mean_t, penalty_t)
    dual_nt, guess_nt = solve(likeness(x_nl, x_nl), y_nt, mean_t, penalty_t, leave_out=True)
    np.testing.assert_array_equal(dual_nt, plain_nt)
    for target, penalty in enumerate(penalty_t):
        expected_nt = left_out(x_nl, y_nt, mean_t, penalty)
        np.testing.assert_allclose(guess_nt[:, target], expected_nt[:, target], atol=1e-5)


def test_left_out_errors_and_penalties_are_those_of_a_plain_loop(data):
    x_nl, _, y_nt, mean_t = data
    eigen = Eigen(likeness(x_nl, x_nl))
    centred_nt = torch.tensor(y_nt - mean_t)
    expected_p = []
    found = eigen.left_out_errors(centred_nt, PENALTIES)
    for penalty, found_nt in zip(PENALTIES, found, strict=True):
        error_nt = y_nt - left_out(x_nl, y_nt, mean_t, penalty)
        np.testing.assert_allclose(found_nt.numpy(), error_nt, atol=2e-5)
        expected_p.append(np.abs(error_nt).mean(axis=0))
    expected_t = np.array(PENALTIES)[np.argmin(expected_p, axis=0)]
    assert len(set(expected_t)) > 1
    np.testing.assert_array_equal(eigen.best_penalties(centred_nt, PENALTIES), expected_t)


def test_guesses_from_the_eigendecomposition_are_those_of_scikit_learn(data):
    x_nl, x_vl, y_nt, mean_t = data
    penalty_t = np.array(PENALTIES)[np.arange(7) % 3]
    eigen = Eigen(likeness(x_nl, x_nl))
    guess_vt = eigen.guess(likeness(x_vl, x_nl), torch.tensor(y_nt - mean_t), penalty_t).numpy()
    for target, penalty in enumerate(penalty_t):
        expected_vt, _ = sklearn_guess(x_nl, x_vl, y_nt - mean_t, 0 * mean_t, penalty)
        np.testing.assert_allclose(guess_vt[:, target], expected_vt[:, target], atol=1e-5)


def test_profiles_that_are_there_twice_are_no_trouble(data):
    x_nl, _, y_nt, mean_t = data
    x_nl[15:] = x_nl[:15]
    eigen = Eigen(likeness(x_nl, x_nl))
    (error_nt,) = eigen.left_out_errors(torch.tensor(y_nt - mean_t), (0.03,))
    np.testing.assert_allclose(
        error_nt.numpy(), y_nt - left_out(x_nl, y_nt, mean_t, 0.03), atol=1e-4
    )


def by_centres(x_nl, y_nt, mean_t, penalty_t, x_ml):
    centres_mm = likeness(x_ml.astype(float), x_ml.astype(float))
    return solve_by_centres(
        centres_mm, lambda x_bl: likeness(x_bl, x_ml), x_nl, y_nt, mean_t, penalty_t
    )


@pytest.mark.parametrize("rows", [2048, 7])
def test_with_all_profiles_as_centres_it_is_exact(data, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    x_nl, _, y_nt, mean_t = data
    penalty_t = np.array(PENALTIES)[np.arange(7) % 3]
    exact_nt, _ = solve(likeness(x_nl, x_nl), y_nt, mean_t, penalty_t)
    x32_nl = x_nl.astype(np.float32)
    found_nt = by_centres(x32_nl, y_nt, mean_t, penalty_t, x32_nl)
    guess_nn = likeness(x_nl, x_nl).numpy()
    np.testing.assert_allclose(guess_nn @ found_nt, guess_nn @ exact_nt, atol=1e-4)
    np.testing.assert_allclose(found_nt, exact_nt, rtol=0.01, atol=1e-3)


def test_with_some_centres_it_is_the_nystrom_formula(data, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    x_nl, x_vl, y_nt, mean_t = data
    x_nl = x_nl.astype(np.float32)
    x_ml = x_nl[::3]
    penalty_t = np.array(PENALTIES)[np.arange(7) % 3]
    dual_mt = by_centres(x_nl, y_nt, mean_t, penalty_t, x_ml)
    # What makes |y - K_nm a|² + penalty a' K_mm a smallest.
    k_nm = likeness(x_nl.astype(float), x_ml.astype(float)).numpy()
    k_mm = likeness(x_ml.astype(float), x_ml.astype(float)).numpy()
    k_vm = likeness(x_vl, x_ml.astype(float)).numpy()
    for target, penalty in enumerate(penalty_t):
        centred_n = y_nt[:, target] - mean_t[target]
        expected_m = np.linalg.solve(k_nm.T @ k_nm + penalty * k_mm, k_nm.T @ centred_n)
        np.testing.assert_allclose(k_vm @ dual_mt[:, target], k_vm @ expected_m, atol=1e-4)


def test_a_penalty_too_small_to_be_solved_is_said(data):
    x_nl, _, y_nt, mean_t = data
    x_nl[15:] = x_nl[:15]
    tiny_t = np.full(7, 1e-300)
    likeness_nn = likeness(x_nl, x_nl).float()
    # Single precision makes the smallest of the eigenvalues, 0, a little negative.
    assert np.linalg.eigvalsh(likeness_nn.double().numpy()).min() < 0
    with pytest.raises(UsageError, match=r"1e-300 is too small .* --penalties"):
        solve(likeness_nn, y_nt, mean_t, tiny_t)


def test_devices():
    assert device_of_name("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(DgexError, match="cuda"):
            device_of_name("cuda")
