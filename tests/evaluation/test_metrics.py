"""Every number again, by scipy, scikit-learn and plain loops."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from dgex.errors import DataError
from dgex.evaluation.metrics import GeneErrors, GeneScores, improvement, summary, win_rate


def pair(n, t, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    y_nt = rng.normal(size=(n, t)).astype(dtype)
    y_hat_nt = (0.6 * y_nt + 0.5 * rng.normal(size=(n, t))).astype(dtype)
    return y_nt, y_hat_nt


def scores_of(y_nt, y_hat_nt, rows=None):
    errors = GeneErrors(y_nt.shape[1])
    rows = rows or len(y_nt)
    for start in range(0, len(y_nt), rows):
        errors.update(y_nt[start : start + rows], y_hat_nt[start : start + rows])
    return errors.scores()


@pytest.mark.parametrize("rows", [1, 7, 40, 1000])
def test_scores_agree_with_scipy_and_sklearn(rows):
    y_nt, y_hat_nt = pair(40, 9)
    scores = scores_of(y_nt, y_hat_nt, rows)
    assert scores.n == 40
    for t in range(9):
        y_n, y_hat_n = y_nt[:, t].astype(float), y_hat_nt[:, t].astype(float)
        assert scores.mae_t[t] == pytest.approx(mean_absolute_error(y_n, y_hat_n), rel=1e-12)
        assert scores.rmse_t[t] == pytest.approx(root_mean_squared_error(y_n, y_hat_n), rel=1e-12)
        assert scores.r_t[t] == pytest.approx(pearsonr(y_n, y_hat_n).statistic, rel=1e-10)


def test_more_targets_than_one_stretch_of_columns():
    y_nt, y_hat_nt = pair(6, 4100)
    scores = scores_of(y_nt, y_hat_nt, 4)
    difference_nt = y_nt.astype(float) - y_hat_nt.astype(float)
    np.testing.assert_allclose(scores.mae_t, np.abs(difference_nt).mean(axis=0), rtol=1e-12)
    for t in (0, 2047, 2048, 4095, 4096, 4099):
        expected = pearsonr(y_nt[:, t].astype(float), y_hat_nt[:, t].astype(float)).statistic
        assert scores.r_t[t] == pytest.approx(expected, rel=1e-9)


def test_input_is_left_as_it_was():
    y_nt, y_hat_nt = pair(10, 3, dtype=np.float64)
    before = y_nt.copy(), y_hat_nt.copy()
    scores_of(y_nt, y_hat_nt, 4)
    np.testing.assert_array_equal(y_nt, before[0])
    np.testing.assert_array_equal(y_hat_nt, before[1])


def test_pearson_survives_a_large_mean():
    y_nt, y_hat_nt = pair(300, 4, dtype=np.float64)
    shifted = scores_of(y_nt + 1e7, y_hat_nt - 3e7, 32)
    np.testing.assert_allclose(shifted.r_t, scores_of(y_nt, y_hat_nt).r_t, rtol=1e-7)


def test_pearson_survives_an_outlying_first_profile():
    y_nt, y_hat_nt = pair(200, 3, dtype=np.float64)
    y_nt[0], y_hat_nt[0] = 1e6, -1e6
    scores = scores_of(y_nt, y_hat_nt, 13)
    for t in range(3):
        expected = pearsonr(y_nt[:, t], y_hat_nt[:, t]).statistic
        assert scores.r_t[t] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_constant_gene_or_prediction_has_no_r(rows):
    y_nt, y_hat_nt = pair(50, 3)
    y_nt[:, 0] = 0.1
    y_hat_nt[:, 1] = -7.3
    scores = scores_of(y_nt, y_hat_nt, rows)
    assert np.isnan(scores.r_t).tolist() == [True, True, False]
    assert np.isfinite(scores.mae_t).all()


def test_one_profile_has_errors_but_no_r():
    scores = scores_of(*pair(1, 4))
    assert np.isnan(scores.r_t).all()
    assert np.isnan(summary(scores).median_r)
    np.testing.assert_allclose(scores.mae_t, scores.rmse_t)


def test_a_perfect_prediction():
    y_nt, _ = pair(20, 5)
    scores = scores_of(y_nt, y_nt, 6)
    assert scores.mae_t.tolist() == [0.0] * 5
    np.testing.assert_allclose(scores.r_t, 1.0)
    assert (scores.r_t <= 1.0).all()


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    seed=st.integers(0, 1000),
    offset=st.sampled_from([0.0, 100.0, -1e4]),
)
def test_the_cut_into_blocks_does_not_matter(n, cuts, seed, offset):
    y_nt, y_hat_nt = pair(n, 3, seed, np.float64)
    y_nt = y_nt + offset
    whole = scores_of(y_nt, y_hat_nt)
    errors = GeneErrors(3)
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    for start, stop in itertools.pairwise(edges):
        errors.update(y_nt[start:stop], y_hat_nt[start:stop])
        errors.update(y_nt[:0], y_hat_nt[:0])
    cut = errors.scores()
    assert cut.n == whole.n == n
    np.testing.assert_allclose(cut.mae_t, whole.mae_t, rtol=1e-11)
    np.testing.assert_allclose(cut.rmse_t, whole.rmse_t, rtol=1e-11)
    np.testing.assert_allclose(cut.r_t, whole.r_t, rtol=1e-6, atol=1e-9)


def test_summary_by_plain_loops():
    y_nt, y_hat_nt = pair(30, 7)
    total_absolute, total_squared, mae_t = 0.0, 0.0, []
    for t in range(7):
        gene = 0.0
        for i in range(30):
            error = float(y_nt[i, t]) - float(y_hat_nt[i, t])
            gene += abs(error)
            total_squared += error**2
        mae_t.append(gene / 30)
        total_absolute += gene
    mean = total_absolute / 210
    result = summary(scores_of(y_nt, y_hat_nt, 8))
    assert result.mae == pytest.approx(mean, rel=1e-12)
    assert result.mae_sd == pytest.approx((sum((m - mean) ** 2 for m in mae_t) / 7) ** 0.5)
    assert result.rmse == pytest.approx((total_squared / 210) ** 0.5, rel=1e-12)
    r = sorted(
        pearsonr(y_nt[:, t].astype(float), y_hat_nt[:, t].astype(float))[0] for t in range(7)
    )
    assert result.median_r == pytest.approx(r[3], rel=1e-9)


def test_median_r_leaves_out_genes_without_r():
    nan = float("nan")
    one_t = np.ones(4)
    assert summary(GeneScores(5, one_t, one_t, np.array([nan, 0.2, 0.6, nan]))).median_r == 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(summary(GeneScores(5, one_t, one_t, np.full(4, nan))).median_r)


def test_improvement():
    assert improvement(0.3, 0.4) == pytest.approx(25.0)
    assert improvement(0.5, 0.4) == pytest.approx(-25.0)
    assert improvement(0.4, 0.4) == 0.0
    assert np.isnan(improvement(0.0, 0.0))


def test_win_rate_counts_only_strictly_lower():
    assert win_rate(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, 2.0])) == pytest.approx(1 / 3)
    assert win_rate(np.ones(3), np.ones(3)) == 0.0


@pytest.mark.parametrize(
    ("y_shape", "y_hat_shape"), [((4, 3), (4, 2)), ((4, 2), (4, 2)), ((3,), (3,)), ((4, 3), (3, 3))]
)
def test_shapes_that_do_not_fit(y_shape, y_hat_shape):
    errors = GeneErrors(3)
    with pytest.raises(DataError, match="cannot be compared"):
        errors.update(np.zeros(y_shape), np.zeros(y_hat_shape))
    assert errors.n == 0


def test_nothing_to_score():
    with pytest.raises(DataError, match="no profile"):
        GeneErrors(3).scores()
    empty_t = np.zeros(0)
    with pytest.raises(DataError, match="no target"):
        summary(GeneScores(3, empty_t, empty_t, empty_t))
    with pytest.raises(DataError, match="one by one"):
        win_rate(np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="one by one"):
        win_rate(empty_t, empty_t)
