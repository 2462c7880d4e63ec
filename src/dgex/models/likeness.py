"""What the landmarks of a new cohort say of it.

Which of them are noisy there, and which training cohorts are like it.
No target is needed for either. A landmark is a target to all other landmarks: where these no longer
foretell it as they did in training, it is noisy; and those training cohorts are like the new one
that foretell its landmarks best.

Both come from mean products alone, so that a cohort may have any number of profiles. With `inverse`
the inverse of penalised products of landmarks, ridge regression of landmark j on all others guesses
x_j minus column j of x · inverse divided by inverse_jj (the shortcut of leave-one-out, for one
column in place of one row).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgex.models.cohorts import Cohorts

RELIABILITY_PENALTY = 0.6
LEAST_RELIABILITY = 0.05

LIKENESS_PENALTY = 1.0
OWN_SHARE = 0.5
"""What a training cohort's own products count for when it is compared with the others; the rest are
those of all together, without which a small cohort would foretell little."""

SHARPNESSES = (0.0, 40.0, 80.0, 160.0, 320.0)
"""How fast the weight of a training cohort falls with its error; see `weigh`."""

MOST_COMPARED = 300
"""Profiles of a training cohort, evenly spaced, by which it is compared at most."""


@dataclass(frozen=True)
class Adaptation:
    """What training cohorts and landmarks count for, for one new cohort.

    Attributes
    ----------
    weight_c
        What a profile of each training cohort counts for.
    noise_l
        Variance of the noise of each landmark relative to the rest, 0 where it agrees with the
        others as well as in training.
    """

    weight_c: np.ndarray
    noise_l: np.ndarray


def adapt(cohorts: Cohorts, weight_c: np.ndarray, own_ll: np.ndarray) -> Adaptation:
    """Take noise and weights from a new cohort's landmarks.

    Parameters
    ----------
    cohorts
        Training cohorts, with the landmarks that were measured in the new one.
    weight_c
        What their profiles count for without a new cohort; 0 leaves a cohort out.
    own_ll
        Mean products of the new cohort's landmarks, standardised by its own moments.
    """
    xx_ll = cohorts.within(weight_c)
    noise_l = noise(xx_ll, own_ll)
    return Adaptation(weigh(cohorts, weight_c, xx_ll, own_ll, noise_l), noise_l)


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
    """Correlation of each landmark with its guess from the others, from products alone."""
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


def weigh(
    cohorts: Cohorts,
    weight_c: np.ndarray,
    xx_ll: np.ndarray,
    own_ll: np.ndarray,
    noise_l: np.ndarray,
) -> np.ndarray:
    """What training cohorts count for, by how well they foretell the landmarks of a new one, (c,).

    The error of a training cohort is that of guessing every landmark of the new one from its
    others: the root of the mean square, averaged over landmarks, in standard deviations. Its weight
    is multiplied by exp(−sharpness · (error − least error)). Of `SHARPNESSES` the one is taken with
    which the cohorts together, so weighed, foretell the new one's landmarks best.

    Parameters
    ----------
    cohorts, weight_c, own_ll
        As of `adapt`.
    xx_ll
        Mean products of the training landmarks within cohorts, by `weight_c`, shape (l, l).
    noise_l
        Variance added to that of each landmark.
    """
    penalty_ll = np.diag(LIKENESS_PENALTY + noise_l)
    error_c = _errors_of_cohorts(cohorts, weight_c, xx_ll, own_ll, penalty_ll)
    least_error, best_c = np.inf, weight_c
    for sharpness in SHARPNESSES:
        weighed_c = weight_c * np.exp(-sharpness * (error_c - error_c.min()))
        products_ll = cohorts.within(weighed_c) if sharpness else xx_ll
        inverse_ll = np.linalg.inv((products_ll + penalty_ll).astype(np.float32))
        square_l = np.einsum("ij,ij->i", inverse_ll @ own_ll.astype(np.float32), inverse_ll)
        error = _mean_root(square_l, np.diag(inverse_ll))
        if error < least_error:
            least_error, best_c = error, weighed_c
    return best_c


def _errors_of_cohorts(
    cohorts: Cohorts,
    weight_c: np.ndarray,
    xx_ll: np.ndarray,
    own_ll: np.ndarray,
    penalty_ll: np.ndarray,
) -> np.ndarray:
    """Error of each training cohort that counts at all, the least of them for the others, (c,).

    A cohort's products differ from what is common to all by as many directions as it has profiles:
    its inverse follows from the common one (Woodbury).
    """
    common_ll = np.linalg.inv((1.0 - OWN_SHARE) * xx_ll + penalty_ll).astype(np.float32)
    common_l = np.diag(common_ll)
    turned_ll = common_ll @ own_ll.astype(np.float32)
    square_l = np.einsum("ij,ij->i", turned_ll, common_ll)
    error_c = np.full(len(weight_c), np.inf)
    for c in np.flatnonzero(weight_c):
        u_kl = cohorts.part(int(c))
        u_kl = u_kl[:: -(-len(u_kl) // MOST_COMPARED)]
        u_kl = u_kl * np.float32(np.sqrt(OWN_SHARE / len(u_kl)))
        left_kl = u_kl @ common_ll
        inner_kk = left_kl @ u_kl.T + np.eye(len(u_kl), dtype=np.float32)
        right_kl = np.linalg.solve(inner_kk, left_kl)
        # The cohort's inverse is common_ll less right_kl' left_kl.
        crossed_lk = turned_ll @ left_kl.T
        own_kk = left_kl @ own_ll.astype(np.float32) @ left_kl.T
        lowered_l = square_l - 2.0 * np.einsum("lk,kl->l", crossed_lk, right_kl)
        lowered_l += np.einsum("kl,kl->l", right_kl, own_kk @ right_kl)
        diagonal_l = common_l - np.einsum("kl,kl->l", left_kl, right_kl)
        error_c[c] = _mean_root(lowered_l, diagonal_l)
    return np.where(weight_c > 0, error_c, error_c.min())


def _mean_root(square_l: np.ndarray, diagonal_l: np.ndarray) -> float:
    """Root mean square of what the guess of each landmark is off by, averaged over landmarks."""
    return float(np.mean(np.sqrt(np.maximum(square_l, 0.0)) / diagonal_l))
