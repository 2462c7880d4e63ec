"""Sums of squares and products against plain numpy in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.models import gram as module
from dgex.models.gram import gram


def blocks_of(x_nl, y_nt, rows):
    for start in range(0, len(x_nl), rows):
        yield start, x_nl[start : start + rows], y_nt[start : start + rows]


def direct(x_nl, y_nt):
    x_nl, y_nt = x_nl.astype(np.float64), y_nt.astype(np.float64)
    x_nl, y_nt = x_nl - x_nl.mean(axis=0), y_nt - y_nt.mean(axis=0)
    return x_nl.T @ x_nl, x_nl.T @ y_nt, (y_nt**2).sum(axis=0)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    n_landmarks=st.integers(1, 5),
    n_targets=st.integers(1, 4),
    rows=st.integers(1, 25),
    offset=st.floats(-50, 50),
)
def test_agrees_whatever_the_blocks(n, n_landmarks, n_targets, rows, offset):
    rng = np.random.default_rng(n)
    x_nl = (rng.normal(size=(n, n_landmarks)) + offset).astype(np.float32)
    y_nt = (rng.normal(size=(n, n_targets)) - offset).astype(np.float32)
    sums = gram(blocks_of(x_nl, y_nt, rows), n_landmarks, n_targets, n)
    xx_ll, xy_lt, yy_t = direct(x_nl, y_nt)
    assert sums.n == n
    np.testing.assert_allclose(sums.mean_l, x_nl.mean(axis=0, dtype=np.float64), atol=1e-9)
    np.testing.assert_allclose(sums.mean_t, y_nt.mean(axis=0, dtype=np.float64), atol=1e-5)
    np.testing.assert_allclose(sums.xx_ll, xx_ll, atol=1e-9 * n)
    np.testing.assert_allclose(sums.xy_lt, xy_lt, atol=1e-5 * n)
    np.testing.assert_allclose(sums.yy_t, yy_t, atol=1e-5 * n)


@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_values_far_from_zero_keep_their_digits(far):
    rng = np.random.default_rng(1)
    x_nl = (rng.normal(size=(4000, 3)) + far).astype(np.float32)
    y_nt = (0.01 * x_nl[:, :2] + rng.normal(size=(4000, 2)) + far).astype(np.float32)
    assert len(x_nl) >= module.DOUBLE_BELOW * 3  # the products are taken in float32
    sums = gram(blocks_of(x_nl, y_nt, 512), 3, 2, len(x_nl))
    xx_ll, xy_lt, yy_t = direct(x_nl, y_nt)
    np.testing.assert_allclose(sums.xx_ll, xx_ll, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(sums.xy_lt, xy_lt, atol=1e-6 * len(x_nl))
    np.testing.assert_allclose(sums.yy_t, yy_t, atol=1e-6 * len(x_nl))


@pytest.mark.parametrize(("n", "double"), [(20, False), (500, True)])
def test_few_profiles_or_any_on_demand_are_summed_in_double_precision(n, double):
    rng = np.random.default_rng(2)
    x_nl = rng.normal(size=(n, 10)).astype(np.float32)
    y_nt = rng.normal(size=(n, 3)).astype(np.float32)
    sums = gram(blocks_of(x_nl, y_nt, 7), 10, 3, n, double=double)
    _, xy_lt, yy_t = direct(x_nl, y_nt)
    np.testing.assert_allclose(sums.xy_lt, xy_lt, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(sums.yy_t, yy_t, rtol=1e-12)
