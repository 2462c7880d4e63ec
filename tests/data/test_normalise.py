"""Normalisation against scipy and plain arithmetic of D-GEX, profile by profile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from dgex.data.normalise import (
    Moments,
    QuantileReference,
    average_rank_index,
    reference_values,
    standardise,
    unique_rank_index,
    unstandardise,
)

# Values that differ in their last bits only, and what is no ordinary number.
ALIKE = arrays(
    np.float64,
    st.tuples(st.integers(1, 9), st.integers(1, 60)),
    elements=st.sampled_from(
        [1.0 + i * 2**-52 for i in range(6)]
        + [-1e9 - i * 2**-23 for i in range(6)]
        + [5e-324, 1e-323, -5e-324, 0.0, -0.0, np.inf, -np.inf, np.finfo(float).max]
    ),
)
# Few distinct values over many genes: most values are tied.
TIED = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 60)),
    elements=st.sampled_from([-2.5, -0.0, 0.0, 1e-300, 1.0, 1.0 + 2**-52, 7.25, 1e300]),
)
ANY = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    elements=st.floats(-1e6, 1e6, allow_nan=False, width=32),
)


def unique_ranks_of_dgex(x_g: np.ndarray, n_reference: int) -> list[int]:
    """The position that D-GEX computes for each value, by list search, in Python's doubles."""
    unique = np.unique(x_g).tolist()
    return [
        math.floor((unique.index(value) + 1.0) / len(unique) * n_reference) - 1 for value in x_g
    ]


@settings(max_examples=150, deadline=None)
@given(st.one_of(TIED, ANY, ALIKE))
def test_average_ranks_are_those_of_scipy(x_bg: np.ndarray) -> None:
    expected = [(stats.rankdata(x_g) - 1).astype(int) for x_g in x_bg]
    np.testing.assert_array_equal(average_rank_index(x_bg), expected)


@settings(max_examples=150, deadline=None)
@given(st.one_of(TIED, ANY, ALIKE), st.integers(0, 50))
def test_unique_ranks_are_those_of_dgex(x_bg: np.ndarray, more: int) -> None:
    n_reference = x_bg.shape[1] + more
    found = unique_rank_index(x_bg, n_reference)
    for x_g, index_g in zip(x_bg, found, strict=True):
        expected = np.maximum(unique_ranks_of_dgex(x_g, n_reference), 0)
        np.testing.assert_array_equal(index_g, expected)
        dense = stats.rankdata(x_g, "dense")
        by_rank = (dense / dense.max() * n_reference).astype(int) - 1
        np.testing.assert_array_equal(index_g, np.maximum(by_rank, 0))


@settings(max_examples=100, deadline=None)
@given(st.one_of(TIED, ANY), st.data())
def test_the_reference_of_the_same_sort_is_the_same_to_the_bit(
    x_bg: np.ndarray, data: st.DataObject
) -> None:
    learned_b = np.array(data.draw(st.lists(st.booleans(), min_size=len(x_bg), max_size=len(x_bg))))
    expected = QuantileReference(x_bg.shape[1])
    expected.add(x_bg[learned_b])
    found = QuantileReference(x_bg.shape[1])
    index_bg = average_rank_index(x_bg, reference=found, learned_b=learned_b, dtype=np.uint16)
    assert index_bg.dtype == np.uint16
    np.testing.assert_array_equal(index_bg, average_rank_index(x_bg))
    if learned_b.any():
        np.testing.assert_array_equal(found.values_g, expected.values_g)


@pytest.mark.parametrize("n_distinct", [1, 3, 500, 9000, 10**6])
def test_any_share_of_ties_agrees_with_scipy(n_distinct: int) -> None:
    x_bg = np.random.default_rng(0).integers(0, n_distinct, (9, 10_463)) / 64.0 - 100
    expected = [(stats.rankdata(x_g) - 1).astype(int) for x_g in x_bg]
    np.testing.assert_array_equal(average_rank_index(x_bg), expected)


def test_where_rounding_falls_short_the_least_value_does_not_become_the_greatest() -> None:
    """1 / 49 * 49 is below 1 in doubles: D-GEX's index is then -1, the end of the reference."""
    x_bg = np.arange(49.0)[None, :]
    assert unique_ranks_of_dgex(x_bg[0], 49)[0] == -1
    index_g = unique_rank_index(x_bg, 49)[0]
    assert index_g[0] == 0
    assert (np.diff(index_g) >= 0).all()
    assert index_g[-1] == 48


def test_the_greatest_value_takes_the_end_of_the_reference_at_any_size() -> None:
    for u in range(1, 400):
        assert unique_rank_index(np.arange(float(u))[None, :], 10463)[0, -1] == 10462


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_realistic_profiles_with_zeros_agree_with_scipy(dtype: type) -> None:
    rng = np.random.default_rng(3)
    x_bg = np.maximum(rng.gamma(0.3, 50, size=(6, 10_463)) - 5, 0).astype(dtype)
    assert (x_bg == 0).mean() > 0.3
    found_average, found_unique = average_rank_index(x_bg), unique_rank_index(x_bg, 10_463)
    for row, x_g in enumerate(x_bg):
        expected = (stats.rankdata(x_g) - 1).astype(int)
        np.testing.assert_array_equal(found_average[row], expected)
        dense = stats.rankdata(x_g, "dense")
        expected = ((dense / dense.max()) * 10_463).astype(int) - 1
        np.testing.assert_array_equal(found_unique[row], expected)


@settings(max_examples=100, deadline=None)
@given(ANY)
def test_missing_values_leave_the_others_in_order(x_bg: np.ndarray) -> None:
    rng = np.random.default_rng(len(x_bg) * 1000 + x_bg.shape[1])
    missing_bg = rng.random(x_bg.shape) < 0.3
    x_bg = np.where(missing_bg, np.nan, x_bg)
    g = x_bg.shape[1]
    for index_bg in (average_rank_index(x_bg), unique_rank_index(x_bg, g)):
        assert (index_bg[missing_bg] == -1).all()
        assert (index_bg[~missing_bg] >= 0).all()
        assert (index_bg < g).all()
        for x_g, index_g in zip(x_bg, index_bg, strict=True):
            measured = ~np.isnan(x_g)
            order = np.argsort(x_g[measured], kind="stable")
            assert (np.diff(index_g[measured][order]) >= 0).all()


def test_half_the_values_missing_spreads_the_rest_over_the_reference() -> None:
    x_bg = np.full((1, 10), np.nan)
    x_bg[0, :5] = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert average_rank_index(x_bg)[0, :5].tolist() == [5, 1, 3, 9, 7]


def test_an_all_missing_profile_has_no_ranks() -> None:
    x_bg = np.full((1, 3), np.nan)
    assert average_rank_index(x_bg).tolist() == [[-1, -1, -1]]
    assert unique_rank_index(x_bg, 3).tolist() == [[-1, -1, -1]]
    assert np.isnan(reference_values(np.array([1.0, 2.0, 3.0]), average_rank_index(x_bg))).all()


@settings(max_examples=50, deadline=None)
@given(ANY, st.integers(0, 4), st.integers(0, 4))
def test_the_reference_is_the_mean_of_sorted_profiles(
    x_bg: np.ndarray, first: int, second: int
) -> None:
    cuts = sorted({min(first, len(x_bg)), min(second, len(x_bg))})
    reference = QuantileReference(x_bg.shape[1])
    for part_bg in np.split(x_bg, cuts):
        partial = QuantileReference(x_bg.shape[1])
        partial.add(part_bg)
        reference.merge(partial)
    np.testing.assert_allclose(
        reference.values_g, np.sort(x_bg, axis=1).mean(axis=0), rtol=1e-12, atol=1e-9
    )


@settings(max_examples=50, deadline=None)
@given(ANY, st.integers(0, 4))
def test_moments_in_blocks_are_the_moments_at_once(x_bg: np.ndarray, cut: int) -> None:
    moments = Moments(x_bg.shape[1])
    for part_bg in np.split(x_bg, [min(cut, len(x_bg))]):
        moments.add(part_bg)
    np.testing.assert_allclose(moments.mean_g, x_bg.mean(axis=0), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(moments.sd_g, x_bg.std(axis=0), rtol=1e-9, atol=1e-6)


def test_moments_leave_missing_values_out() -> None:
    rng = np.random.default_rng(0)
    x_bg = rng.normal(size=(50, 8))
    x_bg[rng.random(x_bg.shape) < 0.4] = np.nan
    x_bg[:, 7] = np.nan
    moments = Moments(8)
    for part_bg in np.split(x_bg, [7, 7, 30]):
        moments.add(part_bg)
    np.testing.assert_allclose(moments.mean_g[:7], np.nanmean(x_bg[:, :7], axis=0))
    np.testing.assert_allclose(moments.sd_g[:7], np.nanstd(x_bg[:, :7], axis=0))
    assert moments.n_g.tolist() == (~np.isnan(x_bg)).sum(axis=0).tolist()


def test_moments_keep_a_small_spread_on_a_large_offset() -> None:
    """The sum of squares of such values would lose the spread even in float64."""
    rng = np.random.default_rng(0)
    x_bg = 1e9 + rng.normal(size=(400, 3))
    moments = Moments(3)
    for part_bg in np.split(x_bg, 10):
        moments.add(part_bg)
    np.testing.assert_allclose(moments.sd_g, x_bg.std(axis=0), rtol=1e-6)


def test_moments_of_float32_are_taken_in_float64() -> None:
    x_bg = (np.random.default_rng(0).normal(size=(5000, 2)) * 1e-2 + 1e4).astype(np.float32)
    moments = Moments(2)
    moments.add(x_bg)
    exact = x_bg.astype(np.float64)
    np.testing.assert_allclose(moments.mean_g, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.sd_g, exact.std(axis=0), rtol=1e-9)


def test_standardise_follows_dgex() -> None:
    rng = np.random.default_rng(1)
    x_bg = rng.normal(8, 2, size=(30, 5))
    x_bg[:, 4] = 3.0
    mean_g, sd_g = x_bg.mean(axis=0), x_bg.std(axis=0)
    z_bg = standardise(x_bg, mean_g, sd_g)
    assert z_bg.dtype == np.float32
    np.testing.assert_allclose(z_bg, (x_bg - mean_g) / (sd_g + 1e-3), rtol=1e-6, atol=1e-7)
    assert (z_bg[:, 4] == 0).all()
    np.testing.assert_allclose(unstandardise(z_bg, mean_g, sd_g), x_bg, rtol=1e-5)


def test_standardise_does_not_change_its_input() -> None:
    x_bg = np.array([[1.0, np.nan]])
    standardise(x_bg, np.zeros(2), np.ones(2))
    assert np.isnan(x_bg[0, 1])


def test_ranking_does_not_change_its_input() -> None:
    x_bg = np.array([[3.0, 1.0, 2.0]])
    average_rank_index(x_bg)
    unique_rank_index(x_bg, 3)
    QuantileReference(3).add(x_bg)
    assert x_bg.tolist() == [[3.0, 1.0, 2.0]]
