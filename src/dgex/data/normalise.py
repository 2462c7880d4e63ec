"""Quantile normalisation and standardisation: pure fits and pure transforms on row blocks.

Both follow D-GEX (Chen et al. 2016, section 2.1). Profiles of the compendium are replaced by the
reference at their average ranks; profiles of other platforms, where ties are many, by the
reference at their ranks among unique values.
"""

from __future__ import annotations

import numpy as np

SD_OFFSET = 1e-3
"""Added to every standard deviation before dividing, as D-GEX does."""


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

    def merge(self, other: QuantileReference) -> None:
        """Add the profiles that another reference has seen."""
        self._sum_g += other._sum_g
        self._n += other._n

    @property
    def values_g(self) -> np.ndarray:
        """The reference, ascending, float64, shape (g,)."""
        return self._sum_g / self._n


def average_rank_index(x_bg: np.ndarray) -> np.ndarray:
    """Position of each value in its sorted profile, from 0; ties get their mean position, floored.

    This is the rank by which D-GEX normalises the profiles of its compendium. Where values are
    missing, the others are spread over all g positions.

    Parameters
    ----------
    x_bg
        Profiles, shape (b, g); NaN is missing.

    Returns
    -------
    numpy.ndarray
        Integers from 0 to g - 1, shape (b, g); -1 where the value is missing.

    Examples
    --------
    >>> average_rank_index(np.array([[7.0, 1.0, 7.0, 7.0, 9.0]]))
    array([[2, 0, 2, 2, 4]])
    """
    g = x_bg.shape[1]
    index_bg = np.full(x_bg.shape, -1, dtype=np.int64)
    for row, x_g in enumerate(x_bg):
        order, starts, n_measured = _sorted_runs(x_g)
        ends = np.append(starts[1:], n_measured)
        middles = (starts + ends - 1) // 2
        if n_measured < g:
            middles = (2 * middles + 1) * g // (2 * n_measured)
        index_bg[row, order] = np.repeat(middles, ends - starts)
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
    index_bg = np.full(x_bg.shape, -1, dtype=np.int64)
    for row, x_g in enumerate(x_bg):
        order, starts, n_measured = _sorted_runs(x_g)
        ranks = np.arange(1.0, len(starts) + 1)
        positions = (ranks / max(len(starts), 1) * n_reference).astype(np.int64) - 1
        sizes = np.diff(np.append(starts, n_measured))
        index_bg[row, order] = np.repeat(np.maximum(positions, 0), sizes)
    return index_bg


def reference_values(reference_g: np.ndarray, index_bg: np.ndarray) -> np.ndarray:
    """Values of the reference at `index_bg`, float64; NaN where the index is -1.

    Examples
    --------
    >>> reference_values(np.array([1.5, 3.5]), np.array([[1, -1, 0]]))
    array([[3.5, nan, 1.5]])
    """
    values = np.append(reference_g, np.nan)
    return values[index_bg]


def _sorted_runs(x_g: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Sort order of the measured values of a profile, starts of runs of ties, and their number."""
    order = np.argsort(x_g)  # NaN sorts last
    sorted_g = x_g[order]
    n_measured = len(x_g) - int(np.isnan(x_g).sum())
    order, sorted_g = order[:n_measured], sorted_g[:n_measured]
    is_start = np.ones(n_measured, dtype=bool)
    is_start[1:] = sorted_g[1:] != sorted_g[:-1]
    return order, np.flatnonzero(is_start), n_measured


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
        measured_bg = ~np.isnan(x_bg)
        n_g = measured_bg.sum(axis=0)
        x_bg = np.where(measured_bg, x_bg, 0.0).astype(np.float64)
        mean_g = x_bg.sum(axis=0) / np.maximum(n_g, 1)
        m2_g = np.where(measured_bg, (x_bg - mean_g) ** 2, 0.0).sum(axis=0)
        total_g = np.maximum(self.n_g + n_g, 1)
        delta_g = mean_g - self.mean_g
        self.mean_g = self.mean_g + delta_g * n_g / total_g
        self._m2_g = self._m2_g + m2_g + delta_g**2 * self.n_g * n_g / total_g
        self.n_g = self.n_g + n_g

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
