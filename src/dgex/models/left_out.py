"""Leaving out one training cohort: it is guessed from the others as a new one would be.

It is standardised by its own moments, the others count for as much as they are like it, and its
noisy landmarks count less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dgex.models.cohorts import Cohorts, own_moments
from dgex.models.likeness import Adaptation, adapt

if TYPE_CHECKING:
    from dgex.data.dataset import ProfileSet

MOST_SCORED = 150
"""Profiles of a left-out cohort that are scored at most, evenly spaced."""

Columns = np.ndarray | slice


class LeftOut:
    """Guesses of one cohort from all others.

    Parameters
    ----------
    cohorts
        All cohorts.
    c
        The cohort to leave out.
    train, rows
        The profiles it is of, and its rows.
    chosen_t
        The targets of `train` that `cohorts` has.
    adapted
        What the others and the landmarks count for, where that is known from before.

    Attributes
    ----------
    y_nt
        Its targets, of the profiles that are scored, standardised by their own moments.
    adapted
        See above.
    """

    def __init__(
        self,
        cohorts: Cohorts,
        c: int,
        train: ProfileSet,
        rows: np.ndarray,
        *,
        chosen_t: Columns = slice(None),
        adapted: Adaptation | None = None,
    ) -> None:
        self._cohorts = cohorts
        scored = np.array(scored_rows(len(rows)))
        z_nl = own_moments(train.x_nl[rows])
        self._z_nl = z_nl[scored]
        self.y_nt = own_moments(train.y_nt[rows][:, chosen_t])[scored]
        if adapted is None:
            others_c = cohorts.weight_c
            others_c[c] = 0.0
            own_ll = (z_nl.T @ z_nl).astype(np.float64) / len(rows)
            adapted = adapt(cohorts, others_c, own_ll)
        self.adapted = adapted
        self._within_ll = cohorts.within(adapted.weight_c)

    def guesses(
        self, between: float, penalties: Sequence[float], targets: Sequence[Columns]
    ) -> Iterator[np.ndarray]:
        """Guesses (n, t) of the chosen targets of each penalty, by a penalty and its targets."""
        from scipy.linalg import cho_factor, cho_solve

        cohorts, weight_c = self._cohorts, self.adapted.weight_c
        share_n = cohorts.share_n(weight_c)
        mean_cl, mean_ct = cohorts.between(weight_c)
        xx_ll = self._within_ll + between**2 * (mean_cl.T @ mean_cl)
        for penalty, chosen_t in zip(penalties, targets, strict=True):
            # Penalties and noise keep the system so far from singular that float32 will do.
            penalised_ll = (xx_ll + np.diag(penalty + self.adapted.noise_l)).astype(np.float32)
            factor = cho_factor(penalised_ll, overwrite_a=True, check_finite=False)
            weight_nl = cho_solve(factor, self._z_nl.T, check_finite=False).T
            # By way of the training profiles: weights of landmarks would take longer to make.
            guess_nt = ((weight_nl @ cohorts.x_nl.T) * share_n) @ cohorts.y_nt[:, chosen_t]
            guess_nt += (between**2 * (weight_nl @ mean_cl.T)) @ mean_ct[:, chosen_t]
            yield guess_nt


def scored_rows(n: int) -> range:
    """Which profiles of a left-out cohort of `n` are scored: all, or evenly spaced ones."""
    return range(0, n, -(-n // MOST_SCORED))
