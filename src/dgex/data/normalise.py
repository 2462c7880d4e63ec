"""Quantile normalisation and standardisation: pure fits and pure transforms on row blocks.

Both follow D-GEX (Chen et al. 2016, section 2.1). Profiles of the compendium are replaced by the
reference at their average ranks; profiles of other platforms, where ties are many, by the
reference at their ranks among unique values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

SD_OFFSET = 1e-3
"""Added to every standard deviation before dividing, as D-GEX does."""

# A few profiles of 10,000 genes at a time stay in the processor's cache.
_ROWS_AT_ONCE = 4
# Runs of ties per profile up to which they are filled one by one.
_FEW_RUNS = 60


class QuantileReference:
    """Running mean of sorted profiles: the reference of quantile normalisation.

    Examples
    --------
    >>> reference = QuantileReference(3)
    >>> reference.add(np.array([[5.0, 2.0, 3.0], [4.0, 1.0, 6.0]]))
    >>> reference.values_g
    array([1.5, 3.5, 5.5])
    """

    def __init__(self, n_genes: int) -> None:
        self._sum_g = np.zeros(n_genes)
        self._n = 0

    def add(self, x_bg: np.ndarray) -> None:
        """Add profiles, shape (b, g), without missing values."""
        self._sum_g += np.sort(x_bg, axis=1).sum(axis=0, dtype=np.float64)
        self._n += len(x_bg)

    def add_sorted(self, sorted_g: np.ndarray) -> None:
        """Add one profile whose values are in order already, shape (g,)."""
        self._sum_g += sorted_g
        self._n += 1

    def merge(self, other: QuantileReference) -> None:
        """Add the profiles that another reference has seen."""
        self._sum_g += other._sum_g
        self._n += other._n

    @property
    def values_g(self) -> np.ndarray:
        """The reference, ascending, float64, shape (g,)."""
        return self._sum_g / self._n


def average_rank_index(
    x_bg: np.ndarray,
    *,
    reference: QuantileReference | None = None,
    learned_b: np.ndarray | None = None,
    dtype: type[np.integer[Any]] = np.int64,
) -> np.ndarray:
    """Position of each value in its sorted profile, from 0; ties get their mean position, floored.

    This is the rank by which D-GEX normalises the profiles of its compendium. Where values are
    missing, the others are spread over all g positions.

    Parameters
    ----------
    x_bg
        Profiles, shape (b, g); NaN is missing.
    reference
        Takes the profiles as well, from the same sort; none may have a missing value then.
    learned_b
        Which profiles the reference takes, shape (b,); all where not given.
    dtype
        Type of the positions. One without a sign has no room for missing values.

    Returns
    -------
    numpy.ndarray
        Integers from 0 to g - 1, shape (b, g); -1 where the value is missing.

    Examples
    --------
    >>> average_rank_index(np.array([[7.0, 1.0, 7.0, 7.0, 9.0]]))
    array([[2, 0, 2, 2, 4]])
    """
    index_bg = np.empty(x_bg.shape, dtype=dtype)
    for first, order_bg, sorted_bg in _sorted_rows(x_bg):
        if np.isnan(sorted_bg[:, -1]).any():
            position_bg = np.stack([_spread_positions(sorted_g) for sorted_g in sorted_bg])
        else:
            position_bg = _middle_positions(sorted_bg, dtype)
        index_bg[first : first + len(order_bg)].reshape(-1)[order_bg] = position_bg
        if reference is not None:
            for row, sorted_g in enumerate(sorted_bg, start=first):
                if learned_b is None or learned_b[row]:
                    reference.add_sorted(sorted_g)
    return index_bg


def unique_rank_index(x_bg: np.ndarray, n_reference: int) -> np.ndarray:
    """Position in a reference of `n_reference` values by rank among a profile's unique values.

    The rule of D-GEX for RNA-seq: a value of rank r among u unique ones (from 1) takes the
    reference at position floor(r / u * n_reference) - 1, in double precision. Where rounding
    would put the smallest value before the first position, it takes the first.

    Parameters
    ----------
    x_bg
        Profiles, shape (b, g); NaN is missing.
    n_reference
        Length of the reference.

    Returns
    -------
    numpy.ndarray
        Integers from 0 to n_reference - 1, shape (b, g); -1 where the value is missing.

    Examples
    --------
    >>> unique_rank_index(np.array([[0.0, 0.0, 3.0, 8.0, np.nan]]), 6)
    array([[ 1,  1,  3,  5, -1]])
    """
    index_bg = np.empty(x_bg.shape, dtype=np.int64)
    for first, order_bg, sorted_bg in _sorted_rows(x_bg):
        position_bg = np.stack([_unique_positions(sorted_g, n_reference) for sorted_g in sorted_bg])
        index_bg[first : first + len(order_bg)].reshape(-1)[order_bg] = position_bg
    return index_bg


def reference_values(reference_g: np.ndarray, index_bg: np.ndarray) -> np.ndarray:
    """Values of the reference at `index_bg`, float64; NaN where the index is -1.

    Examples
    --------
    >>> reference_values(np.array([1.5, 3.5]), np.array([[1, -1, 0]]))
    array([[3.5, nan, 1.5]])
    """
    # The last place is that of -1.
    padded_g = np.append(reference_g, np.nan)
    values_bg = np.empty(index_bg.shape)
    # Row by row, so that what numpy makes of the index stays in the processor's cache.
    for values_g, index_g in zip(values_bg, index_bg, strict=True):
        values_g[:] = padded_g.take(index_g)
    return values_bg


def _sorted_rows(x_bg: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row, sort order and sorted values (float64, NaN last) of a few profiles at a time.

    The order is the values' places in all these profiles, one after the other. The arrays are used
    again for the next few.

    These places replace the last bits of the values, so that one fast sort of plain numbers
    brings values and places into order together. Only values that differ in no other bit may then
    stand in the wrong order; where the true values show that they do, the row is sorted again.
    """
    g = x_bg.shape[1]
    place_bg = np.arange(_ROWS_AT_ONCE * g).reshape(-1, g)
    place_bits = np.int64((1 << (place_bg.size - 1).bit_length()) - 1)
    packed = np.empty((_ROWS_AT_ONCE, g), dtype=np.int64)
    for first in range(0, len(x_bg), _ROWS_AT_ONCE):
        few_bg = np.ascontiguousarray(x_bg[first : first + _ROWS_AT_ONCE], dtype=np.float64)
        packed_bg = packed[: len(few_bg)]
        np.bitwise_and(few_bg.view(np.int64), ~place_bits, out=packed_bg)
        packed_bg |= place_bg[: len(few_bg)]
        as_numbers_bg = packed_bg.view(np.float64)
        as_numbers_bg.sort(axis=1)
        # Sorting loses the last bits of what is no number, and infinities are none with places.
        lost_b = np.isnan(as_numbers_bg[:, -1])
        packed_bg &= place_bits
        sorted_bg = few_bg.take(packed_bg)
        wrong_b = ~(sorted_bg[:, 1:] >= sorted_bg[:, :-1]).all(axis=1)
        for row in np.flatnonzero(lost_b | wrong_b).tolist():
            packed_bg[row] = np.argsort(few_bg[row]) + row * g
            sorted_bg[row] = few_bg.take(packed_bg[row])
        yield first, packed_bg, sorted_bg


def _middle_positions(sorted_bg: np.ndarray, dtype: type[np.integer[Any]]) -> np.ndarray:
    """Mean position, floored, of the run of ties that each sorted value is in, shape (b, g)."""
    b, g = sorted_bg.shape
    starts_bg = np.ones((b, g), dtype=bool)
    np.greater(sorted_bg[:, 1:], sorted_bg[:, :-1], out=starts_bg[:, 1:])
    # The first and the last value of every run of ties.
    starts = starts_bg.ravel()
    is_end = np.append(starts[1:] != starts[:-1], not starts[-1])
    position_bg = np.empty((b, g), dtype=dtype)
    position_bg[:] = np.arange(g)
    if np.count_nonzero(is_end) <= 2 * _FEW_RUNS * b:
        ends = np.flatnonzero(is_end).tolist()
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            position_bg[first // g, first % g : last % g + 1] = (first % g + last % g) // 2
        return position_bg
    for position_g, starts_g in zip(position_bg, starts_bg, strict=True):
        run_g = np.cumsum(starts_g)
        last_r = np.full(run_g[-1] + 1, -1)
        # Of all the positions that go to the place of a run, the last one stays.
        last_r[run_g] = np.arange(g)
        last_r[1:] = (last_r[:-1] + 1 + last_r[1:]) >> 1
        position_g[:] = last_r.take(run_g)
    return position_bg


def _unique_positions(sorted_g: np.ndarray, n_reference: int) -> np.ndarray:
    """Position in the reference by rank among the unique values of a profile, -1 where missing."""
    starts_g = np.ones(len(sorted_g), dtype=bool)
    np.not_equal(sorted_g[1:], sorted_g[:-1], out=starts_g[1:])
    n_measured = len(sorted_g)
    if np.isnan(sorted_g[-1]):
        n_measured -= int(np.isnan(sorted_g).sum())
    rank_g = np.cumsum(starts_g)
    n_unique = rank_g[n_measured - 1] if n_measured else 1
    ranks = np.arange(n_unique + 1.0)
    positions = (ranks / n_unique * n_reference).astype(np.int64) - 1
    np.maximum(positions, 0, out=positions)
    position_g = np.full(len(sorted_g), -1)
    position_g[:n_measured] = positions.take(rank_g[:n_measured])
    return position_g


def _spread_positions(sorted_g: np.ndarray) -> np.ndarray:
    """The same for one profile with missing values, over all g positions; -1 where missing."""
    g = len(sorted_g)
    starts, n_measured = _runs(sorted_g)
    ends = np.append(starts[1:], n_measured)
    middles = (starts + ends - 1) // 2
    if n_measured < g:
        middles = (2 * middles + 1) * g // (2 * n_measured)
    position_g = np.full(g, -1)
    position_g[:n_measured] = np.repeat(middles, ends - starts)
    return position_g


def _runs(sorted_g: np.ndarray) -> tuple[np.ndarray, int]:
    """Starts of the runs of ties among the measured values of a profile, and their number."""
    n_measured = len(sorted_g)
    if np.isnan(sorted_g[-1]):
        n_measured -= int(np.isnan(sorted_g).sum())
    measured_g = sorted_g[:n_measured]
    is_start = np.ones(n_measured, dtype=bool)
    np.not_equal(measured_g[1:], measured_g[:-1], out=is_start[1:])
    return np.flatnonzero(is_start), n_measured


class Moments:
    """Running mean and standard deviation (population, not sample) of every gene.

    Blocks are merged by the parallel formula of Chan, Golub and LeVeque (1983), so the result
    does not depend on how the profiles were cut into blocks beyond rounding. Missing values are
    left out.

    Examples
    --------
    >>> moments = Moments(2)
    >>> moments.add(np.array([[1.0, 5.0], [3.0, np.nan]]))
    >>> moments.mean_g, moments.sd_g
    (array([2., 5.]), array([1., 0.]))
    """

    def __init__(self, n_genes: int) -> None:
        self.n_g = np.zeros(n_genes)
        self.mean_g = np.zeros(n_genes)
        self._m2_g = np.zeros(n_genes)

    def add(self, x_bg: np.ndarray) -> None:
        """Add profiles, shape (b, g); NaN is missing."""
        self.merge(self.of(x_bg))

    @classmethod
    def of(cls, x_bg: np.ndarray) -> Moments:
        """Moments of profiles, shape (b, g); NaN is missing."""
        moments = cls(x_bg.shape[1])
        x_bg = x_bg.astype(np.float64, copy=False)
        sum_g = x_bg.sum(axis=0)
        if np.isnan(sum_g).any():
            measured_bg = ~np.isnan(x_bg)
            moments.n_g += measured_bg.sum(axis=0)
            moments.mean_g = x_bg.sum(axis=0, where=measured_bg) / np.maximum(moments.n_g, 1)
            deviation_bg = np.where(measured_bg, x_bg - moments.mean_g, 0.0)
        else:
            moments.n_g += len(x_bg)
            moments.mean_g = sum_g / max(len(x_bg), 1)
            deviation_bg = x_bg - moments.mean_g
        np.square(deviation_bg, out=deviation_bg)
        moments._m2_g = deviation_bg.sum(axis=0)
        return moments

    def merge(self, other: Moments) -> None:
        """Add the profiles that another has seen."""
        total_g = np.maximum(self.n_g + other.n_g, 1)
        delta_g = other.mean_g - self.mean_g
        self.mean_g = self.mean_g + delta_g * other.n_g / total_g
        self._m2_g = self._m2_g + other._m2_g + delta_g**2 * self.n_g * other.n_g / total_g
        self.n_g = self.n_g + other.n_g

    @property
    def sd_g(self) -> np.ndarray:
        """Population standard deviation, shape (g,)."""
        return np.sqrt(self._m2_g / np.maximum(self.n_g, 1))

    @property
    def constant_g(self) -> np.ndarray:
        """Which genes have one value in all profiles, beyond rounding, shape (g,)."""
        return self.sd_g <= 1e-9 * np.abs(self.mean_g)


def standardise(x_bg: np.ndarray, mean_g: np.ndarray, sd_g: np.ndarray) -> np.ndarray:
    """z-scores (x - mean) / (sd + 0.001), float32; a missing value becomes 0, the mean.

    Examples
    --------
    >>> standardise(np.array([[3.0, np.nan]]), np.array([1.0, 1.0]), np.array([0.999, 1.0]))
    array([[2., 0.]], dtype=float32)
    """
    z_bg = ((x_bg - mean_g) / (sd_g + SD_OFFSET)).astype(np.float32)
    z_bg[np.isnan(z_bg)] = 0.0
    return z_bg


def unstandardise(z_bg: np.ndarray, mean_g: np.ndarray, sd_g: np.ndarray) -> np.ndarray:
    """Expression from z-scores: the inverse of `standardise`, float32.

    Examples
    --------
    >>> unstandardise(np.array([[2.0]]), np.array([1.0]), np.array([0.999]))
    array([[3.]], dtype=float32)
    """
    return (z_bg * (sd_g + SD_OFFSET) + mean_g).astype(np.float32)
