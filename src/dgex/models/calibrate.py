"""From a model's guess to the median of what was measured where the guess was like that.

Models with a squared loss guess means. The absolute error is smallest at the median, and the two
differ where a gene is skewed, has two modes, or cannot fall below what a platform detects. What
out-of-fold guesses of the training profiles were off by, as a function of the guess, is learned
gene by gene and added to new guesses.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

PROFILES_PER_KNOT = 60
MOST_KNOTS = 20
_GENES_AT_ONCE = 512
_LEAST_WIDTH = np.float32(1e-6)
"""Between two knots: guesses that are ties have none."""


@dataclass(frozen=True)
class Calibration:
    """What to add to a guess, piecewise linear in the guess, constant outside the knots.

    Attributes
    ----------
    guess_kt
        Guesses at the knots, ascending, in standardised units, shape (k, t).
    added_kt
        What is added there, shape (k, t).

    Examples
    --------
    >>> calibration = Calibration(np.array([[0.0], [1.0]]), np.array([[0.0], [0.5]]))
    >>> calibration(np.array([[-1.0], [0.5], [3.0]])).ravel()
    array([-1.  ,  0.75,  3.5 ])
    """

    guess_kt: np.ndarray
    added_kt: np.ndarray

    def __call__(self, guess_bt: np.ndarray) -> np.ndarray:
        """Calibrated guesses, a new array of the shape and type of `guess_bt`, (b, t)."""
        out_bt = guess_bt + self.added_kt[0].astype(guess_bt.dtype)
        step_kt = np.diff(self.added_kt, axis=0)
        width_kt = np.maximum(np.diff(self.guess_kt, axis=0), _LEAST_WIDTH)
        for guess_t, width_t, step_t in zip(self.guess_kt, width_kt, step_kt, strict=False):
            share_bt = (guess_bt - guess_t) / width_t
            np.clip(share_bt, 0.0, 1.0, out=share_bt)
            out_bt += (share_bt * step_t).astype(guess_bt.dtype, copy=False)
        return out_bt

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``guess_kt`` and ``added_kt``, both (k, t), float32."""
        return {
            "guess_kt": self.guess_kt.astype(np.float32),
            "added_kt": self.added_kt.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_targets: int) -> Self:
        """Undo `arrays`.

        Raises
        ------
        KeyError, ValueError
            They do not make a calibration of so many targets.
        """
        guess_kt, added_kt = arrays["guess_kt"], arrays["added_kt"]
        if guess_kt.ndim != 2 or guess_kt.shape != added_kt.shape or not len(guess_kt):
            raise ValueError(f"knots of shapes {guess_kt.shape} and {added_kt.shape}")
        if guess_kt.shape[1] != n_targets:
            raise ValueError(f"knots of {guess_kt.shape[1]} targets, not {n_targets}")
        return cls(guess_kt, added_kt)


def calibrate(guess_nt: np.ndarray, y_nt: np.ndarray) -> Calibration:
    """Learn what guesses are off by, gene by gene.

    The profiles are ordered by their guess and cut into parts of equal size; the median error of
    each part, smoothed once with its neighbours (weights 1, 2, 1), stands at the part's mean
    guess. Parts at one guess, all ties, share their mean. Few profiles make few parts; a single
    part is a shift by the median error.

    Parameters
    ----------
    guess_nt
        Out-of-fold guesses, standardised units, shape (n, t).
    y_nt
        What was measured, shape (n, t).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> guess_nt = rng.normal(size=(3000, 1))
    >>> y_nt = np.maximum(guess_nt, 0)  # nothing is measured below 0
    >>> calibration = calibrate(guess_nt, y_nt)
    >>> float(np.abs(calibration(guess_nt) - y_nt).mean()) < 0.05
    True
    """
    n, n_targets = guess_nt.shape
    n_knots = int(np.clip(n // PROFILES_PER_KNOT, 1, MOST_KNOTS))
    edges = np.linspace(0, n, n_knots + 1).round().astype(int)
    guess_kt = np.empty((n_knots, n_targets), dtype=np.float32)
    added_kt = np.empty((n_knots, n_targets), dtype=np.float32)
    for first in range(0, n_targets, _GENES_AT_ONCE):
        genes = slice(first, first + _GENES_AT_ONCE)
        guess_tn = np.ascontiguousarray(guess_nt[:, genes].T)
        error_tn = y_nt[:, genes].T - guess_tn
        order_tn = np.argsort(guess_tn, axis=1)
        guess_tn = np.take_along_axis(guess_tn, order_tn, axis=1)
        error_tn = np.take_along_axis(error_tn, order_tn, axis=1)
        for knot, (start, stop) in enumerate(itertools.pairwise(edges)):
            part_tn = guess_tn[:, start:stop]
            # Rounding must not make two guesses of one.
            guess_kt[knot, genes] = part_tn.mean(axis=1).clip(part_tn[:, 0], part_tn[:, -1])
            added_kt[knot, genes] = np.median(error_tn[:, start:stop], axis=1)
    padded_kt = np.concatenate([added_kt[:1], added_kt, added_kt[-1:]])
    smooth_kt = (padded_kt[:-2] + 2 * padded_kt[1:-1] + padded_kt[2:]) / 4
    return Calibration(guess_kt, _mean_of_ties(guess_kt, smooth_kt))


def _mean_of_ties(guess_kt: np.ndarray, added_kt: np.ndarray) -> np.ndarray:
    out_kt = np.empty_like(added_kt)
    for out_t, guess_t in zip(out_kt, guess_kt, strict=True):
        same_kt = guess_kt == guess_t
        out_t[:] = (added_kt * same_kt).sum(axis=0) / same_kt.sum(axis=0)
    return out_kt
