"""Leaving out one training cohort after the other, without learning anew each time.

What a ridge needs of the others is the products of all less those of the one, and a cohort is
guessed as a new one would be: standardised by its own moments, its noisy landmarks counting less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dgex import progress
from dgex.models.cohorts import Cohorts, own_moments

MOST_PROFILES = 150
"""Profiles of a left-out cohort that are scored at most, evenly spaced."""

RELIABILITY_PENALTY = 0.6
LEAST_RELIABILITY = 0.05


@dataclass(frozen=True)
class Products:
    """Products over training profiles within cohorts, summed by their weights.

    Attributes
    ----------
    n
        Number of profiles, which is also the sum of their weights.
    xx_ll, xy_lt
        Landmarks with landmarks (l, l), with targets (l, t).
    """

    n: int
    xx_ll: np.ndarray
    xy_lt: np.ndarray


def products_within(cohorts: Cohorts) -> Products:
    """Products of landmarks and targets within cohorts, in one pass.

    Landmarks are centred within their cohort, so that it makes no difference that clipped targets
    are not.
    """
    n_landmarks, n_targets = cohorts.mean_cl.shape[1], cohorts.mean_ct.shape[1]
    xx_ll = np.zeros((n_landmarks, n_landmarks))
    xy_lt = np.zeros((n_landmarks, n_targets))
    for c in progress.track(range(len(cohorts)), "products within cohorts", len(cohorts)):
        for x_bl, y_bt in cohorts.blocks(c):
            xx_ll += x_bl.T @ x_bl
            xy_lt += x_bl.T @ y_bt
    return Products(int(cohorts.n_c.sum()), xx_ll, xy_lt.astype(np.float32))


def noise(xx_ll: np.ndarray, own_ll: np.ndarray) -> np.ndarray:
    """How noisy each landmark of a cohort is, from how well it agrees with the others there.

    Every landmark is guessed from all others by ridge regression on the training profiles. The
    correlation of the guess with what was measured, in the cohort, divided by that in training, is
    its reliability, between `LEAST_RELIABILITY` and 1: the share of its variance that is no noise.

    Parameters
    ----------
    xx_ll
        Mean products of the training landmarks within cohorts, shape (l, l).
    own_ll
        Mean products of the cohort's landmarks, centred, shape (l, l).

    Returns
    -------
    numpy.ndarray
        Variance of the noise relative to the rest, shape (l,): 0 where a landmark agrees as well
        as in training.

    Examples
    --------
    >>> alike_ll = np.array([[1.0, 0.8], [0.8, 1.0]])
    >>> noise(alike_ll, alike_ll), noise(alike_ll, np.eye(2)).round(1)
    (array([0., 0.]), array([19., 19.]))
    """
    inverse_ll = np.linalg.inv(xx_ll + RELIABILITY_PENALTY * np.eye(len(xx_ll)))
    there_l = _agreement(inverse_ll, own_ll)
    in_training_l = _agreement(inverse_ll, xx_ll)
    reliability_l = there_l / np.maximum(in_training_l, 0.1)
    return 1.0 / np.clip(reliability_l, LEAST_RELIABILITY, 1.0) - 1.0


def _agreement(inverse_ll: np.ndarray, products_ll: np.ndarray) -> np.ndarray:
    """Correlation of each landmark with its guess from the others, from products alone.

    The guess of landmark j is x_j minus column j of x · inverse divided by inverse_jj (the
    shortcut of leave-one-out for one column in place of one row).
    """
    scale_l = np.diag(inverse_ll)
    # Of a gene that is constant, rounding may leave less than nothing.
    variance_l = np.maximum(np.diag(products_ll), 0.0)
    turned_ll = products_ll @ inverse_ll
    with_l = np.diag(turned_ll) / scale_l
    squared_l = np.einsum("ij,ij->j", inverse_ll, turned_ll) / scale_l**2
    guess_variance_l = np.maximum(variance_l - 2.0 * with_l + squared_l, 0.0)
    spread_l = np.sqrt(guess_variance_l * variance_l)
    agreement_l = np.zeros(len(scale_l))
    np.divide(variance_l - with_l, spread_l, out=agreement_l, where=spread_l > 1e-12)
    return agreement_l


class LeftOut:
    """Guesses of one cohort from all others, each time the products without that cohort's.

    Parameters
    ----------
    cohorts
        All cohorts.
    products
        Their products within cohorts.
    c
        The cohort to leave out.
    noise_l
        How noisy landmarks are in it, where that is known from before.

    Attributes
    ----------
    y_nt
        Its targets, of the profiles that are scored, standardised by their own moments.
    noise_l
        See above.
    """

    def __init__(
        self, cohorts: Cohorts, products: Products, c: int, noise_l: np.ndarray | None = None
    ) -> None:
        self._cohorts, self._products, self._c = cohorts, products, c
        train, rows = cohorts.train, cohorts.rows[c]
        blocks = [(x_bl, y_bt) for x_bl, y_bt in cohorts.blocks(c)]
        self._x_nl = np.concatenate([x_bl for x_bl, _ in blocks])
        self._within_nt = np.concatenate([y_bt for _, y_bt in blocks])
        self._n_rest = products.n - cohorts.weight_c[c] * len(rows)
        scored = np.array(scored_rows(len(rows)))
        z_nl = own_moments(train.x_nl[rows])
        self._z_nl = z_nl[scored]
        self.y_nt = own_moments(train.y_nt[rows])[scored]
        self._within_ll = (products.xx_ll - self._x_nl.T @ self._x_nl) / self._n_rest
        if noise_l is None:
            noise_l = noise(self._within_ll, (z_nl.T @ z_nl).astype(np.float64) / len(rows))
        self.noise_l = noise_l

    def guesses(
        self, between: float, penalties: Sequence[float], targets: Sequence[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Guesses (n, t) of the chosen targets of each penalty, by a penalty and its targets."""
        from scipy.linalg import cho_factor, cho_solve

        mean_cl, mean_ct = self._cohorts.between(self._c)
        xx_ll = self._within_ll + (between**2 / self._n_rest) * (mean_cl.T @ mean_cl)
        for penalty, chosen_t in zip(penalties, targets, strict=True):
            # Penalties and noise keep the system so far from singular that float32 will do.
            penalised_ll = (xx_ll + np.diag(penalty + self.noise_l)).astype(np.float32)
            factor = cho_factor(penalised_ll, overwrite_a=True, check_finite=False)
            weight_nl = cho_solve(factor, self._z_nl.T, check_finite=False).T
            weight_nl /= np.float32(self._n_rest)
            guess_nt = weight_nl @ self._products.xy_lt[:, chosen_t]
            guess_nt -= (weight_nl @ self._x_nl.T) @ self._within_nt[:, chosen_t]
            guess_nt += (between**2 * (weight_nl @ mean_cl.T)) @ mean_ct[:, chosen_t]
            yield guess_nt


def scored_rows(n: int) -> range:
    """Which profiles of a left-out cohort of `n` are scored: all, or evenly spaced ones."""
    return range(0, n, -(-n // MOST_PROFILES))
