"""Calibration against a plain loop over genes, parts and knots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.models import calibrate as module
from dgex.models.calibrate import Calibration, calibrate


def knots(guess_n, y_n, n_knots):
    """Mean guess and smoothed median error of each part, with lists."""
    order = sorted(range(len(guess_n)), key=lambda place: guess_n[place])
    edges = [round(len(order) * part / n_knots) for part in range(n_knots + 1)]
    guesses, medians = [], []
    for part in range(n_knots):
        rows = order[edges[part] : edges[part + 1]]
        guesses.append(np.mean([guess_n[row] for row in rows]))
        medians.append(np.median([y_n[row] - guess_n[row] for row in rows]))
    added = []
    for part in range(n_knots):
        before, after = medians[max(part - 1, 0)], medians[min(part + 1, n_knots - 1)]
        added.append((before + 2 * medians[part] + after) / 4)
    return np.array(guesses), np.array(added)


def skewed(n, n_targets=3, seed=0):
    """Guesses of means where what is measured is far from symmetric about them."""
    rng = np.random.default_rng(seed)
    guess_nt = rng.normal(size=(n, n_targets)).astype(np.float32)
    y_nt = guess_nt + (rng.exponential(1.0, (n, n_targets)) - 1.0) * (1 + guess_nt**2)
    return guess_nt, y_nt.astype(np.float32)


@pytest.mark.parametrize(("n", "n_knots"), [(1, 1), (59, 1), (150, 2), (613, 10), (4000, 20)])
@pytest.mark.parametrize("at_once", [512, 2])
def test_agrees_with_a_plain_loop(n, n_knots, at_once, monkeypatch):
    monkeypatch.setattr(module, "_GENES_AT_ONCE", at_once)
    guess_nt, y_nt = skewed(n)
    calibration = calibrate(guess_nt, y_nt)
    new_bt = np.linspace(-5, 5, 101, dtype=np.float32)[:, None] + np.zeros((1, 3), np.float32)
    found_bt = calibration(new_bt)
    assert found_bt.dtype == np.float32
    for target in range(3):
        guess_k, added_k = knots(guess_nt[:, target], y_nt[:, target], n_knots)
        np.testing.assert_allclose(calibration.guess_kt[:, target], guess_k, atol=1e-5)
        np.testing.assert_allclose(calibration.added_kt[:, target], added_k, atol=1e-5)
        expected_b = new_bt[:, target] + np.interp(new_bt[:, target], guess_k, added_k)
        np.testing.assert_allclose(found_bt[:, target], expected_b, atol=1e-4)


def test_one_knot_is_a_shift_by_the_median_error():
    guess_nt, y_nt = skewed(40)
    shift_t = np.median(y_nt - guess_nt, axis=0)
    np.testing.assert_allclose(calibrate(guess_nt, y_nt)(guess_nt), guess_nt + shift_t, atol=1e-6)


def test_the_new_guesses_are_left_alone():
    guess_nt, y_nt = skewed(300)
    before_nt = guess_nt.copy()
    calibrate(guess_nt, y_nt)(guess_nt)
    np.testing.assert_array_equal(guess_nt, before_nt)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-30])
def test_guesses_that_are_all_the_same_get_the_median_of_all(value):
    guess_nt = np.full((600, 1), value, np.float32)
    y_nt = np.random.default_rng(0).exponential(size=(600, 1)).astype(np.float32)
    calibration = calibrate(guess_nt, y_nt)
    new_bt = np.array([[value], [value + 1e-4], [value - 2]], np.float32)
    added_b = (calibration(new_bt) - new_bt)[:, 0]
    assert np.isfinite(added_b).all()
    np.testing.assert_allclose(added_b, added_b[0], atol=1e-5)
    assert added_b[0] == pytest.approx(float(np.median(y_nt - guess_nt)), abs=0.06)


def test_a_third_of_all_guesses_being_ties_is_no_trouble():
    guess_nt, y_nt = skewed(3000)
    guess_nt = np.maximum(guess_nt, -0.4)
    calibration = calibrate(guess_nt, y_nt)
    tied_n = guess_nt[:, 0] == np.float32(-0.4)
    assert 0.3 < tied_n.mean() < 0.4
    error_n = (calibration(guess_nt) - y_nt)[tied_n, 0]
    assert np.abs(error_n).mean() < np.abs((guess_nt - y_nt)[tied_n, 0]).mean()
    # Just above the ties it goes on from where it was.
    near_bt = np.array([[-0.4], [-0.4 + 1e-6]], np.float32) + np.zeros((1, 3), np.float32)
    np.testing.assert_allclose(*calibration(near_bt), atol=0.02)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 400),
    seed=st.integers(0, 99),
    decimals=st.integers(0, 4),
    constant=st.booleans(),
)
def test_any_guess_gets_a_number_between_the_least_and_the_greatest_added(
    n, seed, decimals, constant
):
    guess_nt, y_nt = skewed(n, 2, seed)
    guess_nt = np.round(guess_nt, decimals)
    if constant:
        guess_nt[:, 1] = guess_nt[0, 1]
    calibration = calibrate(guess_nt, y_nt)
    added_kt = calibration.added_kt
    assert (np.diff(calibration.guess_kt, axis=0) >= 0).all()
    new_bt = np.concatenate([guess_nt, [[-1e6, 1e6]], calibration.guess_kt]).astype(np.float32)
    added_bt = calibration(new_bt).astype(float) - new_bt
    slack_bt = 1e-4 + 1e-6 * np.abs(new_bt)
    assert (added_bt >= added_kt.min(axis=0) - slack_bt).all()
    assert (added_bt <= added_kt.max(axis=0) + slack_bt).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_skewed_case_gets_no_worse(seed):
    guess_nt, y_nt = skewed(2400, 2, seed)
    calibration = calibrate(guess_nt[:1200], y_nt[:1200])
    new_nt, measured_nt = guess_nt[1200:], y_nt[1200:]
    before_t = np.abs(new_nt - measured_nt).mean(axis=0)
    assert (np.abs(calibration(new_nt) - measured_nt).mean(axis=0) < before_t).all()


def test_arrays_make_the_calibration_again():
    guess_nt, y_nt = skewed(700)
    calibration = calibrate(guess_nt, y_nt)
    arrays = calibration.arrays()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    again = Calibration.from_arrays(arrays, 3)
    np.testing.assert_array_equal(again(guess_nt), calibration(guess_nt))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"guess_kt": np.zeros((2, 3), np.float32)}, ValueError),
        ({"guess_kt": np.zeros(3, np.float32), "added_kt": np.zeros(3, np.float32)}, ValueError),
        (
            {"guess_kt": np.zeros((0, 3), np.float32), "added_kt": np.zeros((0, 3), np.float32)},
            ValueError,
        ),
        (
            {"guess_kt": np.zeros((4, 2), np.float32), "added_kt": np.zeros((4, 2), np.float32)},
            ValueError,
        ),
        ({"added_kt": None}, KeyError),
    ],
)
def test_damaged_arrays_are_refused(changed, error):
    arrays = {"guess_kt": np.zeros((4, 3), np.float32), "added_kt": np.zeros((4, 3), np.float32)}
    Calibration.from_arrays(arrays, 3)
    arrays = {name: one for name, one in (arrays | changed).items() if one is not None}
    with pytest.raises(error):
        Calibration.from_arrays(arrays, 3)
